import { setTimeout as sleep } from 'node:timers/promises'
import { Restrictions } from '../../lib/access/restrictions.js'
import type { AccessResult } from '../../lib/access/log.js'
import { systemClock } from '../../lib/clock.js'
import { bundleScript } from '../bundle.js'
import { startMariadb, startRedis } from '../servers.js'
import { startProcess } from './authority-calls.js'

/**
 * Measures how soon decisions reach many connections on two nodes, over MariaDB and Redis: `npm run test:authority`. Nodes and
 * clients are processes of their own. Exits with 1 where a bar is missed.
 */

const CONNECTIONS = Number(process.env.CONNECTIONS ?? 10_000)
const REACHED_WITHIN_MS = 1000
/** What the documents promise to the host. */
const RESOLVED_WITHIN_MS = 2000
const CHANNEL = 'group.x'
/** One user with every connection, and a tenant of as many users. */
const [CROWD_OF_ONE, CROWD] = [1, 2]
const script = async (name: string): Promise<string> => await bundleScript(new URL(`./${name}.ts`, import.meta.url).pathname)

let missed = false
function report (what: string, figure: string, isMet: boolean): void {
  if (!isMet) missed = true
  console.log(`${isMet ? 'ok  ' : 'MISS'} ${what.padEnd(52)} ${figure}`)
}

checkOfBans()
const [mariadb, redis] = await Promise.all([startMariadb(), startRedis()])
const env = { DATABASE_URL: mariadb.url, REDIS_URL: redis.url }
const [node, client] = [await script('authority-node'), await script('authority-clients')]
const first = await startProcess(node, env)
// The first one migrates.
const ports = [Number(await first.call('port'))]
const second = await startProcess(node, env)
ports.push(Number(await second.call('port')))
const nodes = [first, second] as const
const clients = await startProcess(client)

await loginsWhileOthersHang()

await open({ tenant: CROWD_OF_ONE, first: 1, users: false })
await decide('kick', 'unsubscribed', 'kick', CROWD_OF_ONE, 1, CHANNEL)
await decide('revoke', 'closed', 'revoke', CROWD_OF_ONE, 'lost')
await open({ tenant: CROWD_OF_ONE, first: 1, users: false, token: 'found' })
await decide('ban', 'closed', 'ban', CROWD_OF_ONE, 1)
await open({ tenant: CROWD, first: 1, users: true })
for (const node of nodes) await node.call('allow', false)
await decide('recheck of as many users', 'unsubscribed', 'recheck', CROWD)

await clients.call('leave')
for (const node of nodes) void node.call('stop').catch(() => {})
await sleep(500)
await Promise.all([mariadb.kill(), redis.kill()])
process.exit(missed ? 1 : 0)

/** As many on each node, all in the channel; the machine is quiet when it resolves. */
async function open ({ token = 'lost', ...who }: { tenant: number, first: number, users: boolean, token?: string }): Promise<void> {
  const half = CONNECTIONS / 2
  for (const [i, port] of ports.entries()) await clients.call('open', { ...who, token, port, count: half, first: who.users ? who.first + i * half : who.first })
  await clients.call('subscribe', CHANNEL)
  // What was written behind is written, and the code of nodes and clients is compiled.
  await sleep(3000)
}

async function decide (what: string, sight: 'unsubscribed' | 'closed', name: string, ...args: unknown[]): Promise<void> {
  const expected = clients.call('expect', sight, CONNECTIONS)
  const cpuBefore = await cpuOfNodes()
  const began = Date.now()
  const result = await first.call(name, ...args) as AccessResult
  const resolved = Date.now() - began
  const reached = await expected as number - began
  const cpu = await cpuOfNodes() - cpuBefore
  const isRight = result.connections === CONNECTIONS && result.complete
  report(`${what}: ${CONNECTIONS} connections`, `reached in ${reached} ms, resolved in ${resolved} ms, ${cpu.toFixed()} ms of processor time of the nodes${isRight ? '' : `: ${JSON.stringify(result)}`}`,
    isRight && reached <= REACHED_WITHIN_MS && resolved <= RESOLVED_WITHIN_MS)
  await sleep(2000)
}

async function cpuOfNodes (): Promise<number> {
  const [a, b] = await Promise.all(nodes.map(async (node) => await node.call('cpu') as number))
  return (a ?? 0) + (b ?? 0)
}

async function loginsWhileOthersHang (): Promise<void> {
  const [port] = ports
  const logIn = async (): Promise<number> => median(await clients.call('logIn', port, 50, '203.0.113.2') as number[])
  await logIn() // until the code is compiled
  const quiet = await logIn()
  await clients.call('hang', port, 100, '203.0.113.1')
  const load = JSON.stringify(await first.call('load'))
  const during = await logIn()
  await clients.call('release')
  report('login while 100 hang', `${during.toFixed(1)} ms, quiet ${quiet.toFixed(1)} ms (${load})`, during - quiet <= 100)
}

function checkOfBans (): void {
  const restrictions = new Restrictions(systemClock)
  for (let i = 0; i < 100_000; i++) restrictions.ban(1, 1_000_000 + i, { until: null, reason: null })
  for (let i = 0; i < 10_000; i++) {
    restrictions.revokeUser(1, 2_000_000 + i, { issuedBefore: Date.now(), until: Date.now() + 3600_000 })
    restrictions.revokeToken(1, `revoked ${i}`, Date.now() + 3600_000)
  }
  const identities = Array.from({ length: 1000 }, (_, i) => ({ tenantId: 1, userId: i + 1, tokenId: `token ${i}` }))
  // Of the processor, so that what else runs on the machine is not counted.
  const round = (): number => {
    const began = process.cpuUsage()
    for (let i = 0; i < 1000; i++) for (const identity of identities) if (restrictions.refusal(identity, 0) !== null) throw new Error('nobody of these is banned')
    const { user, system } = process.cpuUsage(began)
    return (user + system) / 1_000_000
  }
  round()
  const micros = median([round(), round(), round()])
  report('check of an identity: 100,000 bans, 20,000 revocations', `${micros.toFixed(3)} µs`, micros <= 1)
}

function median (values: number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1] ?? NaN
}

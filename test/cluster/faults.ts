import { createPool, type Pool, type RowDataPacket } from 'mysql2/promise'
import type { Test } from 'tap'
import { startHost, type Host } from '../hosts.js'
import { startMariadb, startRedis, type Server } from '../servers.js'
import { check } from './check.js'
import { SECRET } from './client.js'
import { healthOf } from './cluster.js'
import { startForwarder, type Forwarder } from './forwarder.js'
import { Load } from './load.js'
import { until } from './until.js'

/** Two example hosts on a database that reaches them through a forwarder, as a user without the rights of an administrator. */
export interface Site {
  mariadb: Server
  admin: Pool
  forwarder: Forwarder
  nodes: Host[]
  /** What the servers stand on while they hold the data. */
  rows (statement: string, values?: unknown[]): Promise<RowDataPacket[]>
  /** From now on another server holds the data. */
  moved (admin: Pool): void
}

/** Without the rights that let a user write to a read-only server. */
export const APP = "create user if not exists app identified by 'app'"

export async function startSite (t: Test): Promise<Site> {
  const [mariadb, redis] = await Promise.all([startMariadb(), startRedis()])
  let admin = createPool({ uri: mariadb.url, jsonStrings: true, dateStrings: true, timezone: 'Z', connectionLimit: 4 })
  await admin.query(APP)
  await admin.query('grant all on test.* to app')
  const forwarder = await startForwarder(mariadb.port)
  const env = {
    DATABASE_URL: `mysql://app:app@127.0.0.1:${forwarder.port}/test`, REDIS_URL: redis.url, JWT_SECRET: SECRET, FRAMES_PER_SECOND: '0', LOG_LEVEL: 'info'
  }
  const nodes = [await startHost({ env })]
  nodes.push(await startHost({ env }))
  t.teardown(async () => {
    await Promise.all(nodes.map(async (node) => { await node.kill() }))
    await forwarder.close()
    admin.end().catch(() => {})
    await Promise.all([mariadb.kill(), redis.kill()])
  })
  return {
    mariadb,
    admin,
    forwarder,
    nodes,
    rows: async (statement, values = []) => (await admin.query<RowDataPacket[]>(statement, values))[0],
    moved: (other) => { admin = other }
  }
}

export interface Fault {
  clubId: number
  /** Brings the fault about. */
  begin (): Promise<void>
  /** Takes its cause away. */
  end (): Promise<void>
  /** Milliseconds for which it lasts at least; it is kept up until `health` says so, unless `brief`. */
  lasts?: number
  brief?: boolean
}

/**
 * A fault under load: health says so, sends are refused with what became of them, and when its cause is gone both heal by
 * themselves. Nothing acked is missing, and nothing that was refused as not stored is stored or told.
 */
export async function survive (t: Test, site: Site, { clubId, begin, end, lasts = 0, brief = false }: Fault): Promise<Load> {
  const { nodes } = site
  const load = await Load.start({ senders: nodes, receivers: nodes, nodes: () => nodes, retrying: 0.5, clubId, count: 10 })
  t.teardown(async () => { await load.close() })
  await until('messages flow', 10_000, () => load.acked.length > 100)
  const began = Date.now()
  await begin()
  let unhealthyAfter: number | null = null
  if (!brief) {
    await until('health says so', 10_000, async () => (await Promise.all(nodes.map(healthOf))).every((status) => status === 503))
    unhealthyAfter = Date.now() - began
  }
  await new Promise((resolve) => setTimeout(resolve, Math.max(0, lasts - (Date.now() - began))))
  const acked = load.acked.length
  await end()
  const ended = Date.now()
  await until('health says that it is over', 10_000, async () => (await Promise.all(nodes.map(healthOf))).every((status) => status === 200))
  const healthyAfter = Date.now() - ended
  await until('sends are accepted', 10_000, () => load.acked.length > acked)
  const acceptedAfter = Date.now() - ended
  const some = load.acked.length
  await until('messages flow again', 15_000, () => load.acked.length > some + 100)
  await load.stopSending()
  const { problems, ...figures } = await check(site, load)
  const refusedAs = (outcome: string): number => load.refusals.filter((refusal) => refusal.outcome === outcome).length
  t.comment({ unhealthyAfter, healthyAfter, acceptedAfter, ...figures, none: refusedAs('none'), unknown: refusedAs('unknown') })
  t.strictSame(problems, [])
  t.strictSame([...new Set(load.refusals.map(({ code }) => code))].filter((code) => code !== 'RT_STORAGE_UNAVAILABLE'), [])
  t.ok(load.refusals.every(({ outcome, retryAfter = 0 }) => outcome !== undefined && retryAfter > 0), 'each refusal says what became of it')
  t.strictSame(load.closeCodes, [], 'no socket was closed')
  for (const node of nodes) {
    const lines = node.output().split('\n').filter((line) => line.includes('Database away'))
    t.ok(lines.length < 20, `one line for each change of state, not for each request: ${lines.length}`)
    t.notMatch(node.output(), new RegExp(`${clubId}:\\d+:\\d+`), 'no log tells what users write')
  }
  return load
}

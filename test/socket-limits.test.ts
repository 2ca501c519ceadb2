import { once } from 'node:events'
import type { IncomingMessage } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Test } from 'tap'
import { WebSocket } from 'ws'
import { internalsOf } from '../lib/internals.js'
import { allowAll, buildHost, connect, identityOf, open, overBackends, PREFIX, rest, tokenOf, until, user, userOn, type Host } from './helper.js'

/** How an upgrade is answered: the status, and the headers of a refusal. */
async function upgrade (t: Test, { url }: Host): Promise<{ status: number, retryAfter: number }> {
  const socket = new WebSocket(`${url.replace(/^http/, 'ws')}${PREFIX}/ws`)
  socket.on('error', () => {})
  t.teardown(() => { socket.terminate() })
  const refused = once(socket, 'unexpected-response').then((args) => {
    const { statusCode = 0, headers } = args[1] as IncomingMessage
    return { status: statusCode, retryAfter: Number(headers['retry-after']) }
  })
  return await Promise.race([once(socket, 'open').then(() => ({ status: 101, retryAfter: 0 })), refused])
}

const limited = { limitPrivateAddresses: true }

overBackends((test, backend) => {
  test('an address with as many sockets as it may have gets 429, until one of them closes', async (t) => {
    const host = await buildHost(t, { backend, options: allowAll, connections: { ...limited, maxPerAddress: 2 } })
    const [ann] = [await connect(host, user(1)), await connect(host, user(2))]
    t.match(await upgrade(t, host), { status: 429, retryAfter: /^\d+$/ })
    t.match(await rest(host, user(3), 'GET', '/stats'), { status: 200 })
    await ann.end()
    await until('there is a place', async () => (await upgrade(t, host)).status === 101)
  })

  test('sockets that do not authenticate are few per address', async (t) => {
    const host = await buildHost(t, { backend, options: allowAll, connections: { ...limited, maxPendingPerAddress: 1 } })
    const first = await open(host)
    t.match(await upgrade(t, host), { status: 429 })
    first.send('auth', { token: tokenOf(userOn(backend, 1)) })
    await first.next('authenticated')
    t.match(await upgrade(t, host), { status: 101 })
    t.match(await upgrade(t, host), { status: 429 })
  })

  test('behind a private address any number connects, unless limitPrivateAddresses is set', async (t) => {
    const host = await buildHost(t, { backend, options: allowAll, connections: { maxPerAddress: 1, maxPendingPerAddress: 1 } })
    for (let i = 0; i < 3; i++) t.match(await upgrade(t, host), { status: 101 })
  })

  test('a node that is full, or gets too many upgrades, returns 503 with retry-after', async (t) => {
    const full = await buildHost(t, { backend, options: allowAll, connections: { maxSockets: 1 } })
    const only = await connect(full, user(1))
    t.match(await upgrade(t, full), { status: 503, retryAfter: /^\d+$/ })
    await only.end()
    await until('there is room', async () => (await upgrade(t, full)).status === 101)
    const slow = await buildHost(t, { backend, options: allowAll, connections: { connectRate: 2 } })
    const answers = await Promise.all(Array.from({ length: 12 }, async () => await upgrade(t, slow)))
    t.ok(answers.some(({ status, retryAfter }) => status === 503 && retryAfter > 0))
    t.ok(answers.some(({ status }) => status === 101))
    await until('it takes more', async () => (await upgrade(t, slow)).status === 101)
  })

  test('authenticate is called for a guessing client one call at a time, and known clients are not held up', async (t) => {
    let running = 0
    let most = 0
    const asked: string[] = []
    const host = await buildHost(t, {
      backend,
      connections: limited,
      options: {
        ...allowAll,
        failedAuthPerMinute: 3,
        hostTimeout: 600,
        authenticate: async ({ token }) => {
          if (token?.startsWith('guess') !== true) return identityOf(token)
          asked.push(token)
          most = Math.max(most, ++running)
          await sleep(250)
          running--
          return null
        }
      }
    })
    const guess = async (token: string): Promise<number> =>
      (await host.app.inject({ url: `${PREFIX}/stats`, headers: { authorization: `Bearer ${token}` } })).statusCode
    t.equal((await rest(host, user(1), 'GET', '/stats')).status, 200, 'accepted before')
    for (let i = 0; i < 3; i++) t.equal(await guess('guess'), 401)
    t.strictSame(asked, ['guess'], 'the same one is refused again without asking')
    most = 0
    const guesses = Promise.all(Array.from({ length: 6 }, async (_, i) => await guess(`guess-${i}`)))
    t.equal((await rest(host, user(1), 'GET', '/stats')).status, 200, 'not held up')
    const statuses = await guesses
    t.equal(most, 1)
    t.ok(statuses.includes(429), `${statuses.join()}`)
    t.ok(statuses.includes(401), `${statuses.join()}`)
  })

  test('credentials that were revoked count as failures, and a client that is connected is not concerned', async (t) => {
    const host = await buildHost(t, { backend, connections: limited, options: { ...allowAll, failedAuthPerMinute: 3 } })
    const ann = await connect(host, user(1))
    const { failures } = internalsOf(host.app).access
    const address = failures.limitedAddress('127.0.0.1')
    await host.app.realtime.access.revoke({ tenantId: 1, tokenId: 'lost' })
    for (let i = 0; i < 3; i++) {
      t.notOk(failures.isSuspect(address, 'guess'))
      t.match(await rest(host, user(2, { tokenId: 'lost', issuedAt: i }), 'GET', '/stats'), { status: 401, body: { code: 'RT_TOKEN_REVOKED' } })
    }
    t.ok(failures.isSuspect(address, 'guess'))
    t.match(await ann.request('auth', { token: tokenOf(userOn(backend, 1)) }), { status: 'ok' })
  })
})

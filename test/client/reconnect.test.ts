import { createServer } from 'node:http'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import t, { type Test } from 'tap'
import { WebSocketServer, type WebSocket as ServerSocket } from 'ws'
import { createBackOff } from '../../client/src/backoff.js'
import { CloseCode } from '../../plugins/index.js'
import { allowAll, buildHost, rest, until, user } from '../helper.js'
import { clientOf, connected, doorTo, fastClock } from './harness.js'

t.jobs = 12

const host = await buildHost(t, { backend: 'embedded', options: allowAll })

/** A server that lets everyone register, and does what the test says with the socket. */
async function strangeServer (t: Test, onSocket: (socket: ServerSocket) => void, status = 201): Promise<{ url: string, attempts: number[] }> {
  const attempts: number[] = []
  const server = createServer((_request, response) => {
    attempts.push(performance.now())
    response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify({ data: { user_id: 1 } }))
  })
  const sockets = new WebSocketServer({ server })
  sockets.on('connection', onSocket)
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    for (const socket of sockets.clients) socket.terminate()
    server.close()
    server.closeAllConnections()
  })
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, attempts }
}
const authenticated = (socket: ServerSocket): void => {
  socket.on('message', (bytes: Buffer) => {
    const { id, event } = JSON.parse(bytes.toString()) as { id?: number, event: string }
    const data = { status: 'ok', connectionId: 'c', userId: 1, clubId: 1, channels: [], expiresAt: null, heartbeatInterval: 25_000 }
    if (event === 'auth') socket.send(JSON.stringify({ event: 'ack', id, data }))
  })
}

t.test('after a deploy clients reconnect with full jitter, not at the same time', { buffered: true }, async (t) => {
  const delays = Array.from({ length: 200 }, () => createBackOff(fastClock(1), 3000, 30_000).next())
  t.ok(Math.max(...delays) <= 3000)
  const tenths = new Set(delays.map((delay) => Math.floor(delay / 300)))
  t.equal(tenths.size, 10, 'spread over the whole range')
  const backOff = createBackOff(fastClock(1, () => 0.5), 3000, 30_000)
  t.strictSame(Array.from({ length: 6 }, () => backOff.next()), [1500, 3000, 6000, 12_000, 15_000, 15_000], 'doubled, and bounded')
})

for (const [how, onSocket] of [
  ['while it opens', (socket: ServerSocket) => { socket.close(1011) }],
  ['right after it authenticated', (socket: ServerSocket) => {
    authenticated(socket)
    socket.on('message', () => { socket.close(1011) })
  }],
  ['without a word', (socket: ServerSocket) => { socket.terminate() }]
] as const) {
  t.test(`a client does not reconnect in a loop to a server that closes the socket ${how}`, { buffered: true }, async (t) => {
    const { url, attempts } = await strangeServer(t, onSocket)
    // A minute of the client in six seconds.
    const { of } = clientOf(t, { url }, user(1), { clock: fastClock(10, () => 0.5), reconnectDelay: 1000, polling: false })
    await until('it tried again', () => attempts.length >= 2)
    t.ok((attempts[1] ?? 0) - (attempts[0] ?? 0) >= 500 / 10 * 0.9, 'half a second passed before')
    await new Promise((resolve) => setTimeout(resolve, 6000))
    t.ok(attempts.length >= 3 && attempts.length <= 8, `${attempts.length} attempts in a minute`)
    const delays = of('reconnecting').map(({ delay }) => delay as number)
    t.strictSame(delays.slice(0, 4), [500, 1000, 2000, 4000], 'the delays grow')
    const pauses = attempts.slice(1).map((at, i) => at - (attempts[i] ?? 0))
    t.ok(pauses.every((pause, i) => pause >= (delays[i] ?? 0) / 10 * 0.9), `and are kept: ${pauses.join(', ')}`)
    t.ok(of('error').length <= 1, `and one error says so: ${of('error').join(', ')}`)
  })
}

t.test('the back-off starts again only after the connection was stable for 30 s', { buffered: true }, async (t) => {
  let now = 0
  const backOff = createBackOff({ ...fastClock(1, () => 1), now: () => now }, 1000, 30_000)
  t.strictSame([backOff.next(), backOff.next()], [1000, 2000])
  now += 29_999
  backOff.closed(0)
  t.equal(backOff.next(), 4000)
  now += 1
  backOff.closed(0)
  t.equal(backOff.next(), 1000)
})

for (const [name, code] of [
  ['disconnected', 4000], ['replaced', 4001], ['badFrames', 4400], ['forbidden', 4403], ['tooBig', 1009]
] as const) {
  t.test(`close code ${code} (${name}): it stays away`, { buffered: true }, async (t) => {
    const door = await doorTo(t, host)
    const { client, next, of, errors } = await connected(t, door, user(code))
    t.equal(CloseCode[name], code)
    await host.app.realtime.connections.closeUser(1, code, code, 'test')
    t.match(await next('disconnected'), { code, reason: 'test', willReconnect: false })
    await new Promise((resolve) => setTimeout(resolve, 1500))
    t.equal(door.connects.length, 1)
    t.equal(client.state, 'stopped')
    t.strictSame(of('reconnecting'), [])
    t.match(errors, code === 4000 ? [] : [{ code: 'RT_SOCKET_CLOSED', closeCode: code }])
  })
}

for (const [name, code, least] of [['tooSlow', 4008, 0], ['restarting', 1012, 0], ['overloaded', 1013, 5000], ['flooding', 4429, 5000]] as const) {
  t.test(`close code ${code} (${name}): it comes back ${least > 0 ? 'later' : 'with jitter'}, and resumes`, { buffered: true }, async (t) => {
    const { next, of, errors } = await connected(t, host, user(code), { clock: fastClock(5) })
    t.equal(CloseCode[name], code)
    await host.app.realtime.connections.closeUser(1, code, code, 'test')
    t.match(await next('disconnected'), { code, willReconnect: true })
    const { delay } = await next('reconnecting')
    t.ok(delay >= least && delay <= Math.max(2 * least, 1000), `${delay} ms`)
    await next('connected', 2)
    t.match(await next('subscribed', 3), { channel: `private-user.${code}`, recovered: true })
    t.strictSame(errors, [])
    t.equal(of('disconnected').length, 1)
  })
}

t.test('the client tries at most maxReconnectAttempts times, and then emits an event', { buffered: true }, async (t) => {
  const door = await doorTo(t, host)
  const received = await connected(t, door, user(41), { maxReconnectAttempts: 3, clock: fastClock(10) })
  await received.client.subscribe('group.x')
  await door.shut()
  const sent = received.client.send('message:group', { channel: 'group.x', message: 'x', conversationId: 'c' })
  sent.catch(() => {})
  t.strictSame(await received.next('max-reconnect-attempts-reached'), { attempts: 3 })
  t.strictSame(received.of('reconnecting').map(({ attempt }) => attempt), [1, 2, 3])
  await t.rejects(sent, { code: 'RT_CLIENT_STOPPED' }, 'what waited is settled')
  t.match(received.errors, [{ code: 'RT_SERVER_UNREACHABLE' }], 'one error')
  t.equal(received.client.state, 'stopped')
  await door.open()
  received.client.connect()
  await received.next('connected', 2)
  t.strictSame(await received.client.send('message:group', { channel: 'group.x', message: 'x', conversationId: 'c' }).then(({ messageId }) => typeof messageId), 'number')
})

t.test('a bad URL, a dead server, another server and a refused token are one typed error each, and at most one attempt in the first second', { buffered: true }, async (t) => {
  const wrong = await strangeServer(t, (socket) => { socket.terminate() }, 404)
  let asked = 0
  await rest(host, user(2), 'POST', '/connect', { connection_id: 'someone-elses' })
  const cases = [
    [clientOf(t, { url: 'nonsense' }, user(1)), 'RT_URL_INVALID'],
    [clientOf(t, { url: 'ftp://x' }, user(1)), 'RT_URL_INVALID'],
    [clientOf(t, { url: 'http://127.0.0.1:1' }, user(1)), 'RT_SERVER_UNREACHABLE'],
    [clientOf(t, wrong, user(1)), 'RT_SERVER_UNREACHABLE'],
    [clientOf(t, host, null, { token: '!!' }), 'RT_UNAUTHENTICATED'],
    [clientOf(t, host, null, { token: () => { asked++; throw new Error('no token') } }), 'RT_TOKEN_FAILED'],
    [clientOf(t, host, user(1), { connectionId: 'someone-elses' }), 'RT_CONNECTION_TAKEN']
  ] as const
  const begun = performance.now()
  await new Promise((resolve) => setTimeout(resolve, 900))
  t.ok(performance.now() - begun < 1000)
  t.equal(asked, 1)
  t.equal(wrong.attempts.length, 1)
  await new Promise((resolve) => setTimeout(resolve, 1500))
  for (const [{ errors }, code] of cases) t.match(errors.map((err) => err.code), [code])
  t.strictSame(cases.map(([{ client }]) => client.state), ['stopped', 'stopped', 'connecting', 'connecting', 'stopped', 'connecting', 'stopped'])
  t.ok(asked <= 4 && wrong.attempts.length <= 4)
})

import { once } from 'node:events'
import { connect as connectHttp2, type Settings } from 'node:http2'
import { connect as connectTcp, type Socket } from 'node:net'
import t, { type Test } from 'tap'
import { MovableClock } from '../plugins/testing.js'
import { allowAll, buildHost, connect, PREFIX, rest, tokenOf, until, user, type Host } from './helper.js'
import { otherHost } from './other-hosts.js'
import { createParser, stream, type Block } from './stream-client.js'

const CHANNEL = 'group.a'

/** A TCP connection over which requests are sent as they are written, and all that it has received. */
async function tcpTo (t: Test, { url }: Pick<Host, 'url'>): Promise<{ socket: Socket, received: string }> {
  const socket = connectTcp(Number(new URL(url).port), '127.0.0.1')
  t.teardown(() => { socket.destroy() })
  await once(socket, 'connect')
  const connection = { socket, received: '' }
  socket.setEncoding('latin1').on('data', (text: string) => { connection.received += text }).on('error', () => {})
  return connection
}

const requestOf = (userId: number, query = '', version = '1.1'): string =>
  `GET ${PREFIX}/stream${query} HTTP/${version}\r\nhost: localhost\r\nauthorization: Bearer ${tokenOf(user(userId))}\r\n\r\n`

const publish = async ({ app }: Pick<Host, 'app'>, data: Record<string, unknown>) => await app.realtime.channels.publish({ tenantId: 1, channel: CHANNEL, event: 'news', data })

/** Time passes, in which something is written to every stream now and then. `comments`: how many a reader has had that reads. */
async function passTime (host: Pick<Host, 'app'>, clock: MovableClock, comments: () => number): Promise<void> {
  for (let i = 0; i < 4; i++) {
    await publish(host, { n: i })
    const before = comments()
    clock.advance(26_000)
    await until('all were looked at', () => comments() > before)
  }
}

t.test('streams that wait behind another one of their TCP connection end with it, and the node can close', { buffered: true }, async (t) => {
  const host = await buildHost(t, { backend: 'embedded', options: { ...allowAll, presenceGrace: 0 } })
  const other = await connect(host, user(9))
  const { socket } = await tcpTo(t, host)
  socket.write([1, 2, 3].map((userId) => requestOf(userId)).join(''))
  await until('all are open', () => host.app.realtime.connections.size === 4)
  for (const userId of [1, 2, 3]) await other.next('user:online', (data) => data.userId === userId)
  socket.destroy()
  for (const userId of [1, 2, 3]) await other.next('user:offline', (data) => data.userId === userId)
  await until('they are gone', () => host.app.realtime.connections.size === 1)

  const second = await tcpTo(t, host)
  second.socket.write(requestOf(1) + requestOf(2))
  await until('both are open', () => host.app.realtime.connections.size === 3)
  await host.app.close()
  t.match(second.received.match(/event: close/g)?.length, 2, 'both are told')
})

t.test('a stream behind another response begins when that one ends, and misses nothing', { buffered: true }, async (t) => {
  const host = await buildHost(t, { backend: 'embedded', options: allowAll })
  const connection = await tcpTo(t, host)
  connection.socket.write(requestOf(1, '?connection_id=first') + requestOf(2, `?connection_id=second&channels=${CHANNEL}`) + requestOf(3, '?channels=%20'))
  await until('both are open', () => host.app.realtime.connections.size === 2)
  await publish(host, { n: 1 })
  t.notMatch(connection.received, /event: news/)
  await rest(host, user(1), 'POST', '/disconnect', { connection_id: 'first' })
  await until('the second one begins', () => connection.received.includes('"n":1'))
  await publish(host, { n: 2 })
  await until('and goes on', () => connection.received.includes('"n":2'))
  await rest(host, user(2), 'POST', '/disconnect', { connection_id: 'second' })
  await until('the connection can be used again', () => connection.received.includes('HTTP/1.1 400 '))
  t.match(connection.received.match(/^HTTP\/1\.1 \d+|^0\r\n\r\n/gm), ['HTTP/1.1 200', '0\r\n\r\n', 'HTTP/1.1 200', '0\r\n\r\n', 'HTTP/1.1 400'])
})

t.test('a stream that can never begin is closed like one that is not read', { buffered: true }, async (t) => {
  const host = await buildHost(t, { backend: 'embedded', options: allowAll })
  const { socket } = await tcpTo(t, host)
  socket.write(requestOf(1) + requestOf(2, `?channels=${CHANNEL}`))
  const reader = await stream(host, user(8))
  await until('all are open', () => host.app.realtime.connections.size === 3)
  await passTime(host, host.clock, () => reader.comments)
  await until('the connection is closed', () => host.app.realtime.connections.size === 1)
})

t.test('a reader of HTTP/1.0 gets events without chunks', { buffered: true }, async (t) => {
  const host = await buildHost(t, { backend: 'embedded', options: allowAll })
  const connection = await tcpTo(t, host)
  connection.socket.write(requestOf(1, `?channels=${CHANNEL}`, '1.0'))
  await until('it is open', () => connection.received.includes('event: subscribed'))
  await publish(host, { n: 1 })
  await until('an event came', () => connection.received.includes('"n":1'))
  t.match(connection.received, /\r\n\r\nevent: authenticated\n/)
  t.notMatch(connection.received, /transfer-encoding/i)
})

t.test('a node that closes says so to its sessions of HTTP/2, and waits for none that is idle', { buffered: true }, async (t) => {
  const host = await otherHost(t, { core: allowAll, fastify: { http2: true } })
  const session = connectHttp2(host.url)
  t.teardown(() => { session.destroy() })
  let isTold = false
  session.once('goaway', () => { isTold = true })
  const blocks: Block[] = []
  const response = session.request({ ':path': `${PREFIX}/stream`, authorization: `Bearer ${tokenOf(user(1))}` })
  response.setEncoding('utf8').on('data', createParser((block) => { blocks.push(block) }))
  await until('it is open', () => blocks.length > 0)
  await host.app.close()
  t.match(blocks.at(-1), { event: 'close', data: { code: 1012 } })
  t.ok(isTold)
  t.ok(session.closed)
})

t.test('a reader of HTTP/2 that takes nothing for 30 s is closed, though little waits for it', { buffered: true }, async (t) => {
  const clock = new MovableClock()
  const host = await otherHost(t, { core: { ...allowAll, clock }, fastify: { http2: true } })
  const open = async (userId: number, settings: Settings) => {
    const session = connectHttp2(host.url, { settings })
    t.teardown(() => { session.destroy() })
    const response = session.request({ ':path': `${PREFIX}/stream?channels=${CHANNEL}`, authorization: `Bearer ${tokenOf(user(userId))}` })
    await once(response, 'response')
    return response
  }
  let comments = 0
  const reader = await open(8, {})
  reader.setEncoding('utf8').on('data', createParser(() => {}, () => { comments++ }))
  const stuck = await open(1, { initialWindowSize: 1024 })
  stuck.pause()
  await publish(host, { text: 'x'.repeat(5000) })
  await passTime(host, clock, () => comments)
  await until('it is gone', () => host.app.realtime.connections.size === 1)
})

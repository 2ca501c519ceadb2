import { once } from 'node:events'
import type { IncomingMessage } from 'node:http'
import { connect as connectHttp2 } from 'node:http2'
import { get } from 'node:https'
import t from 'tap'
import { internalsOf } from '../lib/internals.js'
import { startProxy } from './cluster/proxy.js'
import { allowAll, buildHost, buildNodes, connect, overBackends, PREFIX, rest, tokenOf, until, user } from './helper.js'
import { otherHost } from './other-hosts.js'
import { selfSigned } from './self-signed.js'
import { createParser, refused, stream, type Block } from './stream-client.js'

overBackends((test, backend) => {
  test('decisions of the host reach streams on every node: a kick, a revoked right, a ban', async (t) => {
    let mayRead = true
    const [a, b] = await buildNodes(t, { backend, options: { authorize: ({ action }) => action !== 'subscribe' || mayRead } })
    const reader = await stream(b, user(1), '?channels=group.a,group.b')
    await reader.until('both', (client) => client.of('subscribed').length === 2)
    t.match(await a.app.realtime.channels.kick(1, 1, 'group.a'), { connections: 1, complete: true })
    t.match(await reader.next('unsubscribed'), { channel: 'group.a', reason: 'revoked' })
    mayRead = false
    t.match(await a.app.realtime.access.recheck({ tenantId: 1 }), { connections: 1, complete: true })
    t.match(await reader.next('unsubscribed'), { channel: 'group.b', reason: 'revoked' })
    t.match(await refused(b, user(1), '?channels=group.a,group.b'), { status: 403, body: { statusCode: 403, code: 'RT_FORBIDDEN' } })
    t.match(await a.app.realtime.access.ban({ tenantId: 1, userId: 1 }), { connections: 1 })
    t.match(await reader.next('close'), { code: 4403, reason: String })
    await reader.until('the end', ({ ended }) => ended)
    t.match(await refused(b, user(1)), { status: 403, body: { code: 'RT_BANNED' } })
  })

  test('a node that closes sends its streams a retryAfter, and refuses new ones', async (t) => {
    const [a, b] = await buildNodes(t, { backend, options: allowAll })
    const reader = await stream(b, user(1), '?channels=group.a')
    await reader.next('subscribed')
    const closing = b.app.close()
    t.match(await reader.next('error'), { code: 'RT_UNAVAILABLE', retryAfter: 1 })
    t.match(await reader.next('close'), { code: 1012 })
    await reader.until('the end', ({ ended }) => ended)
    await closing
    t.ok(a)
  })

  test('a stream is sent the changes since its connection watched by REST, and later ones', async (t) => {
    const [a, b] = await buildNodes(t, { backend, presence: { everyone: 'never' } })
    const one = await connect(a, user(1))
    const post = async (path: string, body: object) => await rest(b, user(9), 'POST', path, { connection_id: 'early', ...body })
    await post('/connect', {})
    t.match(await post('/presence/watch', { user_ids: [1, 2] }), { status: 200, body: { data: { users: [{ user_id: 1, status: 'online' }, { user_id: 2, status: 'offline' }] } } })
    await connect(b, user(2))
    await one.request('user:presence', { status: 'away', lastMessage: 'Back soon' })
    const reader = await stream(a, user(9), '?connection_id=early')
    t.match(await reader.next('user:online'), { userId: 2 })
    await reader.until('what changed', (client) => client.of('user:presence').length === 1)
    await one.request('user:presence', { status: 'busy' })
    await reader.until('what changed later', (client) => client.of('user:presence').length === 2)
    t.match(reader.of('user:presence'), [{ userId: 1, status: 'away', lastMessage: 'Back soon' }, { userId: 1, status: 'busy' }])
    t.strictSame(reader.of('user:offline'), [])
  })
})

t.test('a user whose client sent pings for its stream, and then vanished, goes offline; one who never did stays', { buffered: true }, async (t) => {
  const host = await buildHost(t, { backend: 'embedded', options: allowAll })
  const proxy = await startProxy(Number(new URL(host.url).port))
  t.teardown(async () => { await proxy.close() })
  const other = await connect(host, user(9))
  const through = { ...host, url: `http://127.0.0.1:${proxy.port}` }
  const [pinging, alive, silent] = [await stream(through, user(1), '?connection_id=one'), await stream(host, user(2), '?connection_id=two'), await stream(host, user(3))]
  const ping = async (userId: number, id: string): Promise<void> => {
    t.match(await rest(host, user(userId), 'POST', '/frames', { connection_id: id, frames: [{ event: 'ping' }] }), { status: 202 })
  }
  for (const [reader, userId, id] of [[pinging, 1, 'one'], [alive, 2, 'two']] as const) {
    await reader.next('authenticated')
    await ping(userId, id)
    await reader.next('pong')
  }
  proxy.swallow()
  for (let minute = 0; minute < 2; minute++) {
    for (let half = 0; half < 2; half++) {
      const { comments } = silent
      host.clock.advance(26_000)
      await until('a comment came', () => silent.comments > comments)
    }
    // As often as a page does that is hidden.
    await ping(2, 'two')
  }
  await until('its stream is closed', () => host.app.realtime.connections.size === 3)
  host.clock.advance(6000)
  t.match(await other.next('user:offline'), { userId: 1 })
  t.strictSame([await other.soFar('user:offline'), alive.ended, silent.ended], [[], false, false])
  pinging.cut()
})

t.test('a reader that stops is limited and closed like a socket, and others continue', { buffered: true }, async (t) => {
  const host = await buildHost(t, { backend: 'embedded', options: allowAll, connections: { maxBuffered: 512 * 1024 } })
  const [slow, reader] = [await stream(host, user(1), '?channels=group.x'), await stream(host, user(2), '?channels=group.x')]
  for (const client of [slow, reader]) await client.next('subscribed')
  slow.pause()
  const { metrics, localConnections } = internalsOf(host.app)
  const text = 'x'.repeat(60_000)
  let most = 0
  for (let n = 0; metrics.dropped.tooSlow === 0; n++) {
    await host.app.realtime.channels.publish({ tenantId: 1, channel: 'group.x', event: 'news', data: { n, text } })
    t.equal((await reader.next('news')).n, n)
    for (const connection of localConnections.values()) most = Math.max(most, (connection as unknown as { waiting: number }).waiting)
  }
  t.ok(most <= 512 * 1024, `${most} bytes`)
  await until('it is gone', () => host.app.realtime.connections.size === 1)
})

t.test('streams are limited like sockets: by address, in all, by origin, and by their credentials', { buffered: true }, async (t) => {
  const limits = { maxSockets: 3, maxPerAddress: 2, limitPrivateAddresses: true, maxConnectionsPerUser: 1 }
  const host = await buildHost(t, { backend: 'embedded', options: allowAll, connections: limits })
  t.match(await refused(host, null), { status: 401, body: { code: 'RT_UNAUTHENTICATED' } })
  t.match(await refused(host, user(1), '', { origin: 'https://elsewhere.example' }), { status: 403, body: { code: 'RT_FORBIDDEN' } })
  t.match(await refused(host, user(1), `?channels=${'x'.repeat(5000)}`), { status: 400 })
  const expiring = await stream(host, user(1, { expiresAt: host.clock.now() + 60_000 }))
  await expiring.next('authenticated')
  const second = await stream(host, user(2))
  t.match(await refused(host, user(3)), { status: 429, body: { code: 'RT_RATE_LIMITED' }, headers: { 'retry-after': /^\d+$/ } })
  second.cut()
  await until('there is a place', () => host.app.realtime.connections.size === 1)
  const third = await stream(host, user(3))
  t.match(await third.next('authenticated'), { userId: 3 })
  host.clock.advance(31_000)
  t.match(await expiring.next('token:expiring'), { expiresAt: String })
  await until('a comment came', () => expiring.comments > 0)
  host.clock.advance(30_000)
  t.match(await expiring.next('error'), { code: 'RT_TOKEN_EXPIRED' })
  t.match(await expiring.next('close'), { code: 4401 })
})

t.test('the newest stream of a user takes the place of the oldest, and one with the same id that of the one before', { buffered: true }, async (t) => {
  const host = await buildHost(t, { backend: 'embedded', options: allowAll, connections: { maxConnectionsPerUser: 1 } })
  const first = await stream(host, user(1), '?connection_id=tab')
  await first.next('authenticated')
  const socket = await connect(host, user(1), { connectionId: 'tab' })
  t.match(await first.next('close'), { code: 4001 })
  const second = await stream(host, user(1))
  t.equal(await socket.closed, 4001)
  t.match(await second.next('authenticated'), { userId: 1 })
  t.match(await rest(host, user(1), 'POST', '/frames', { connection_id: 'tab', frames: [{ event: 'ping' }] }), { status: 404 })
})

t.test('streams work over HTTP/2, with and without TLS', { buffered: true }, async (t) => {
  for (const fastify of [{ http2: true }, { http2: true, https: selfSigned }]) {
    const host = await otherHost(t, { fastify, core: allowAll })
    const session = connectHttp2(host.url, { rejectUnauthorized: false })
    t.teardown(() => { session.destroy() })
    const blocks: Block[] = []
    const response = session.request({ ':path': `${PREFIX}/stream?channels=group.a`, authorization: `Bearer ${tokenOf(user(1))}` })
    const [headers] = await once(response, 'response') as [Record<string, unknown>]
    t.match(headers, { ':status': 200, 'content-type': 'text/event-stream', 'x-accel-buffering': 'no' })
    response.setEncoding('utf8').on('data', createParser((block) => { blocks.push(block) }))
    await until('subscribed', () => blocks.some(({ event }) => event === 'subscribed'))
    await host.app.realtime.channels.publish({ tenantId: 1, channel: 'group.a', event: 'news', data: { n: 1 } })
    await until('news', () => blocks.some(({ event, data }) => event === 'news' && (data as { n: number }).n === 1))
    await until('a cursor', () => blocks.at(-1)?.id !== undefined)
    await host.app.realtime.access.ban({ tenantId: 1, userId: 1 })
    await once(response, 'end')
    t.match(blocks.at(-1), { event: 'close', data: { code: 4403 } })
    await until('it is gone', () => host.app.realtime.connections.size === 0)
  }
})

t.test('streams work over HTTP/1.1 with TLS', { buffered: true }, async (t) => {
  for (const fastify of [{ https: selfSigned }, { http2: true, https: { allowHTTP1: true, ...selfSigned } }]) {
    const host = await otherHost(t, { fastify, core: allowAll })
    const blocks: Block[] = []
    const headers = { authorization: `Bearer ${tokenOf(user(1))}` }
    const [response] = await once(get(`${host.url}${PREFIX}/stream?channels=group.a`, { headers, agent: false, rejectUnauthorized: false }), 'response') as [IncomingMessage]
    response.setEncoding('utf8').on('data', createParser((block) => { blocks.push(block) }))
    await until('subscribed', () => blocks.some(({ event }) => event === 'subscribed'))
    await host.app.realtime.channels.publish({ tenantId: 1, channel: 'group.a', event: 'news', data: { text: 'x'.repeat(100_000) } })
    await until('news', () => blocks.some(({ event, data }) => event === 'news' && (data as { text: string }).text.length === 100_000))
    await host.app.realtime.access.ban({ tenantId: 1, userId: 1 })
    await once(response, 'end')
    t.match(blocks.at(-1), { event: 'close', data: { code: 4403 } })
    await until('it is gone', () => host.app.realtime.connections.size === 0)
  }
})

t.test('a host whose handlers and connections have time limits keeps its streams', { buffered: true }, async (t) => {
  const host = await otherHost(t, { fastify: { handlerTimeout: 300, connectionTimeout: 300, keepAliveTimeout: 100, requestTimeout: 1000 }, core: allowAll })
  const reader = await stream(host, user(1), '?channels=group.a')
  await reader.next('subscribed')
  await new Promise((resolve) => setTimeout(resolve, 1200))
  await host.app.realtime.channels.publish({ tenantId: 1, channel: 'group.a', event: 'news', data: { n: 1 } })
  t.match(await reader.next('news'), { n: 1 })
})

t.test('a user who sends frames for streams that do not exist is refused, before the body is read; another one is not', { buffered: true }, async (t) => {
  const host = await buildHost(t, { backend: 'embedded', connections: { framesPerSecond: 1 } })
  host.clock.advance(60_000 - host.clock.now() % 60_000)
  const body = { connection_id: 'none', frames: [{ event: 'ping' }] }
  for (let i = 0; i < 60; i++) t.equal((await rest(host, user(1), 'POST', '/frames', body)).status, 404)
  const { status, headers } = await rest(host, user(1), 'POST', '/frames', { x: 'x'.repeat(2_000_000) })
  t.match([status, Number(headers['retry-after'])], [429, Number])
  t.equal((await rest(host, user(2), 'POST', '/frames', body)).status, 404)
  t.equal((await rest(host, user(1), 'GET', '/stats')).status, 200)
})

t.test('frames that are sent by REST are answered on the stream, in their order', { buffered: true }, async (t) => {
  const host = await buildHost(t, { backend: 'embedded', options: allowAll })
  const reader = await stream(host, user(1), '?connection_id=tab')
  await reader.next('authenticated')
  const frames = [
    { event: 'ping', id: 1 }, { event: 'subscribe', data: { channel: 'group.a' }, id: 'two' }, { event: 'nothing', id: 3 },
    { event: 'message:group', data: { channel: 'group.a', message: 'mine', conversationId: 'c' }, id: 4 }
  ]
  t.match(await rest(host, user(1), 'POST', '/frames', { connection_id: 'tab', frames }), { status: 202, body: { data: { accepted: 4 } } })
  t.match(await reader.next('ack'), { timestamp: String })
  t.match(await reader.next('ack'), { channel: 'group.a', position: Number })
  t.match(await reader.next('error'), { code: 'RT_INVALID_FRAME' })
  t.match(await reader.next('ack'), { messageId: Number })
  t.match(await rest(host, user(2), 'POST', '/frames', { connection_id: 'tab', frames }), { status: 403 })
  t.match(await rest(host, user(1), 'POST', '/frames', { connection_id: 'none', frames }), { status: 404 })
  await connect(host, user(1), { connectionId: 'socket' })
  t.match(await rest(host, user(1), 'POST', '/frames', { connection_id: 'socket', frames }), { status: 404 })
})

import { once } from 'node:events'
import { internalsOf } from '../lib/internals.js'
import { CloseCode, type LifecycleEvents } from '../plugins/index.js'
import { allowAll, buildHost, buildNodes, connect, open, overBackends, rest, rowsOf, tokenOf, until, user, type Host } from './helper.js'
import { toNumbers } from './string-ids.js'

/** Everything that happened, on any of the nodes, in words. */
function record (...hosts: Host[]): string[] {
  const happened: string[] = []
  for (const { app } of new Set(hosts)) {
    const { bus } = internalsOf(app)
    for (const event of ['connected', 'disconnected'] as const) {
      bus.on(event, ({ connectionId }: LifecycleEvents['connected'][0]) => { happened.push(`${event} ${connectionId}`) })
    }
    bus.on('opened', ({ id, identity }) => { happened.push(`opened ${id} by ${toNumbers({ ...identity }).userId}`) })
    for (const event of ['online', 'offline'] as const) bus.on(event, (user) => { happened.push(`${event} ${toNumbers({ ...user }).userId}`) })
  }
  return happened
}

overBackends((test, backend) => {
  test('a client gets token:expiring 30 s before its token expires, may renew it, and is closed with 4401 otherwise', async (t) => {
    const host = await buildHost(t, { backend })
    const start = host.clock.now()
    const later = await connect(host, user(1, { expiresAt: start + 60_000 }))
    const sooner = await connect(host, user(2, { expiresAt: start + 31_000 }))
    host.clock.advance(2000)
    t.strictSame(await sooner.next('token:expiring'), { expiresAt: new Date(start + 31_000).toISOString() })
    t.strictSame(await later.soFar('token:expiring'), [], 'looked at together, and not yet')
    host.clock.advance(30_000)
    t.equal(await sooner.closed, 4401)
    await later.next('token:expiring')
    const renewed = start + 3600_000
    t.match(await later.request('auth', { token: tokenOf(user(1, { expiresAt: renewed })) }), { expiresAt: new Date(renewed).toISOString() })
    host.clock.advance(renewed - 20_000 - host.clock.now())
    t.strictSame(await later.next('token:expiring'), { expiresAt: new Date(renewed).toISOString() }, 'told of the new one, once')
    await t.rejects(later.request('auth', { token: tokenOf(user(1, { expiresAt: start })) }), { code: 'RT_TOKEN_EXPIRED' })
    t.strictSame(await later.soFar('token:expiring'), [])
    host.clock.advance(20_000)
    t.equal(await later.closed, 4401)
  })

  test('a token that expired is refused: by REST, on the upgrade and in auth', async (t) => {
    const host = await buildHost(t, { backend })
    const expired = user(1, { expiresAt: host.clock.now() - 1 })
    t.match(await rest(host, expired, 'GET', '/stats'), { status: 401, body: { statusCode: 401, code: 'RT_TOKEN_EXPIRED' } })
    const byHeader = await open(host, { headers: { authorization: `Bearer ${tokenOf(expired)}` } })
    t.match(await byHeader.next('error'), { code: 'RT_TOKEN_EXPIRED' })
    t.equal(await byHeader.closed, 4401)
    const byFrame = await open(host)
    await t.rejects(byFrame.request('auth', { token: tokenOf(expired) }), { code: 'RT_TOKEN_EXPIRED' })
    t.equal(await byFrame.closed, 4401)
  })

  test('a socket that stays unauthenticated is closed with 4401 at the deadline, not before', async (t) => {
    const host = await buildHost(t, { backend, connections: { authDeadline: 20_000 } })
    const older = await open(host)
    host.clock.advance(15_000)
    const younger = await open(host)
    const member = await connect(host, user(1))
    await t.rejects(younger.request('subscribe', { channel: 'user:me' }), { code: 'RT_UNAUTHENTICATED' })
    host.clock.advance(6000)
    t.equal(await older.closed, 4401)
    t.ok(await younger.request('ping'), 'looked at together, and not yet')
    host.clock.advance(15_000)
    t.equal(await younger.closed, 4401)
    t.ok(await member.request('ping'))
  })

  test('a socket that leaves two pings unanswered is closed, and its user is offline', async (t) => {
    const host = await buildHost(t, { backend })
    const [silent, watcher] = [await connect(host, user(1), { autoPong: false }), await connect(host, user(2))]
    t.equal((await watcher.request('auth', { token: tokenOf(user(2)) })).heartbeatInterval, 25_000)
    for (let pings = 1; pings <= 2; pings++) {
      const both = Promise.all([silent, watcher].map(async ({ socket }) => await once(socket, 'ping')))
      host.clock.advance(25_000)
      await both
    }
    t.equal(host.app.realtime.connections.size, 2, 'two are not missed before a third one would be due')
    host.clock.advance(25_000)
    t.equal(await silent.closed, 1006)
    await until('the server has noticed', () => host.app.realtime.connections.size === 1)
    host.clock.advance(5000)
    t.match(await watcher.next('user:offline'), { userId: 1 })
  })

  test('a limit of one connection gives the strict rule: the newest stays, over all nodes', async (t) => {
    const [a, b] = await buildNodes(t, { backend, connections: { maxConnectionsPerUser: 1 } })
    const happened = record(a, b)
    const first = await connect(a, user(1), { connectionId: 'first' })
    const second = await connect(b, user(1), { connectionId: 'second' })
    t.equal(await first.closed, 4001)
    t.match(await rest(a, user(1), 'POST', '/connect', { connection_id: 'third' }), { status: 201 })
    // An open socket does not go for a registration that may never have one, but both go for a newer socket.
    const fourth = await connect(b, user(1), { connectionId: 'fourth' })
    t.equal(await second.closed, 4001)
    t.match((await rest(a, user(1), 'GET', '/stats')).body.data, { total_connections: 1, active_connections: 1, unique_users: 1 })
    t.match(await rest(a, user(1), 'POST', '/heartbeat', { connection_id: 'third' }), { status: 404 })
    t.match(await connect(a, user(2)).then(async (other) => await other.request('ping')), { timestamp: String }, 'others are not touched')
    t.ok(await fourth.request('ping'))
    await until('all are let go', () => happened.filter((text) => text.startsWith('disconnected')).length === 3)
    t.strictSame(happened.filter((text) => text.startsWith('disconnected')).sort(),
      ['disconnected first', 'disconnected second', 'disconnected third'])
    t.strictSame(happened.filter((text) => /line 1/.test(text)), ['online 1'], 'and the user was online all the time')
  })

  test('each lifecycle event of a connection is emitted exactly once', async (t) => {
    const [a, b] = await buildNodes(t, { backend })
    const happened = record(a, b)
    await rest(a, user(1), 'POST', '/connect', { connection_id: 'tab' })
    const client = await connect(b, user(1), { connectionId: 'tab' })
    await client.end()
    await until('it is let go', () => happened.includes('disconnected tab'))
    a.clock.advance(5000)
    await until('the grace is over', () => happened.includes('offline 1'))
    t.strictSame(happened.sort(), ['connected tab', 'disconnected tab', 'offline 1', 'online 1', 'opened tab by 1'].sort())
  })

  test('a late close of a replaced socket does not end its successor', async (t) => {
    const [a, b] = await buildNodes(t, { backend, options: allowAll })
    const watcher = await connect(b, user(2))
    await watcher.request('subscribe', { channel: 'group.x' })
    const older = await connect(a, user(1), { connectionId: 'tab' })
    older.socket.pause() // it will not answer the close
    const newer = await connect(b, user(1), { connectionId: 'tab' })
    const happened = record(a, b)
    await newer.request('subscribe', { channel: 'group.x' })
    await newer.request('user:typing', { channel: 'group.x', conversationId: 'c', isTyping: true })
    const row = async () => (await rowsOf(b, 'websocket_connections')).find(({ connection_id: id }) => id === 'tab')
    await until('the row is the successor’s', async () => (await row())?.subscribed_channels.includes('group.x'))
    const { size } = a.app.realtime.connections
    a.clock.advance(5000)
    await until('the older one is given up', () => a.app.realtime.connections.size === size - 1)
    await watcher.request('message:group', { channel: 'group.x', message: 'for the newer', conversationId: 'other' })
    t.match(await newer.next('message:group'), { message: 'for the newer' })
    t.match((await rest(b, user(2), 'GET', '/stats')).body.data, { total_connections: 2, unique_users: 2 })
    t.match((await rest(b, user(2), 'GET', '/typing/c')).body, { count: 1 }, 'the successor continues typing')
    t.strictSame(happened, [], 'and nobody left')
    if (a !== b) await a.app.close() // with what its node has still to write
    t.match(await row(), { status: 'connected', disconnected_at: null, node_id: b.app.realtime.nodeId })
    older.socket.terminate()
  })

  test('host code closes one connection, or all of a user, on whichever node they are', async (t) => {
    const [a, b] = await buildNodes(t, { backend })
    const { connections } = a.app.realtime
    const clients = await Promise.all(['one', 'two', 'three'].map(async (connectionId, i) => await connect([a, b][i % 2] ?? a, user(1), { connectionId })))
    const other = await connect(b, user(2))
    const stranger = await connect(b, user(1, { tenantId: 2 }), { connectionId: 'one' })
    t.equal(await connections.close(1, 'one'), true)
    t.equal(await clients[0]?.closed, 4000)
    t.equal(await connections.close(1, 'one'), false)
    t.equal(await connections.close(1, 'nobody'), false)
    t.equal(await connections.closeUser(1, 1, CloseCode.forbidden, 'banned'), 2)
    t.strictSame(await Promise.all(clients.slice(1).map(async ({ closed }) => await closed)), [4403, 4403])
    t.equal(await connections.closeUser(1, 1), 0)
    t.ok(await other.request('ping'))
    t.ok(await stranger.request('ping'), 'another tenant’s connection of the same id')
  })

  test('a connection has one row, from its registration to its end', async (t) => {
    const host = await buildHost(t, { backend, options: allowAll })
    const agent = 'Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.0 Mobile/15E148 Safari/604.1'
    await rest(host, user(1), 'POST', '/connect', { connection_id: 'tab', session_id: 'session_1' })
    const row = async (status: string) => await until(`a row that is ${status}`, async () => {
      const rows = await rowsOf(host, 'websocket_connections')
      t.ok(rows.length <= 1)
      return rows[0]?.status === status && rows[0].node_id !== '' && rows[0]
    })
    const client = await connect(host, user(1), { connectionId: 'tab', headers: { 'user-agent': agent } })
    for (const channel of ['group.a', 'group.b', 'group.a']) await client.request('subscribe', { channel })
    await client.request('unsubscribe', { channel: 'group.b' })
    const own = ['broadcast', 'group.a', 'presence', 'private-user.1']
    const connected = await until('the row has its channels', async () => {
      const now = await row('connected')
      return now.subscribed_channels.sort().join() === own.join() && now
    })
    t.match(connected, {
      tenant_id: 1,
      user_id: 1,
      connection_id: 'tab',
      session_id: 'session_1',
      browser: 'Safari',
      device_type: 'mobile',
      ip_address: '127.0.0.1',
      disconnected_at: null,
      node_id: host.app.realtime.nodeId
    })
    await client.end()
    t.match(await row('disconnected'), { session_id: 'session_1', browser: 'Safari', disconnected_at: /^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d/ })
  })

  test('a connection without a socket expires 75 s after its last heartbeat', async (t) => {
    const host = await buildHost(t, { backend })
    const happened = record(host)
    for (const connection_id of ['quiet', 'beating']) {
      await rest(host, user(connection_id === 'quiet' ? 1 : 2), 'POST', '/connect', { connection_id })
    }
    t.match((await rest(host, user(3), 'GET', '/stats')).body.data, { total_connections: 2, active_connections: 2, unique_users: 2 })
    host.clock.advance(60_000)
    t.match((await rest(host, user(2), 'POST', '/heartbeat', { connection_id: 'beating' })).body.data, { total_connections: 2, active_connections: 1 })
    host.clock.advance(15_000)
    await until('it ends', () => happened.includes('disconnected quiet'))
    t.match(await rest(host, user(1), 'POST', '/heartbeat', { connection_id: 'quiet' }), { status: 404, body: { code: 'RT_NOT_FOUND' } })
    t.notOk(happened.includes('disconnected beating'))
    const row = await until('the row says so', async () => (await rowsOf(host, 'websocket_connections')).find(({ status }) => status === 'disconnected'))
    t.match(row, { connection_id: 'quiet', user_id: 1 })
  })
})

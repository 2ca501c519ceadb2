import { randomBytes } from 'node:crypto'
import { join } from 'node:path'
import { Redis } from 'ioredis'
import t, { type Test } from 'tap'
import { internalsOf } from '../../lib/internals.js'
import { MovableClock } from '../../plugins/testing.js'
import { dataFolder } from '../exit-hooks.js'
import { connect, open, rest, startNode, tokenOf, until, user, type Backend, type Host } from '../helper.js'
import { createDatabase, startMariadb, startRedis } from '../servers.js'

// Of this file alone: its tests stop, freeze and empty them, one after the other.
const [redis, mariadb] = await Promise.all([startRedis(), startMariadb()])
t.teardown(async () => { await Promise.all([redis.kill(), mariadb.kill()]) })

/** Starts nodes that share a database and a part of the Redis. */
async function site (t: Test, backend: Backend): Promise<() => Promise<Host>> {
  const database = await createDatabase(mariadb.url)
  t.teardown(async () => { await database.drop() })
  const shared = { database: database.url, redis: redis.url, keyPrefix: `test-${randomBytes(6).toString('hex')}` }
  return async () => await startNode(t, { backend, options: { authorize: () => true } }, shared, new MovableClock())
}

const stored = async ({ app }: Host, kind: 'ban' | 'kick'): Promise<number> =>
  (await internalsOf(app).database.db.selectFrom('websocket_access').select('id').where('kind', '=', kind).execute()).length

const statusOf = async (host: Host, userId: number): Promise<number> => (await rest(host, user(userId), 'GET', '/stats')).status

for (const backend of ['servers', 'servers with string ids'] as const) {
  void t.test(backend, async (t) => {
    await t.test('a ban outlives a restart of every node, of the database and of Redis, which was emptied, and a node that starts later knows it', async (t) => {
      const start = await site(t, backend)
      const [a, b] = [await start(), await start()]
      await a.app.realtime.access.ban({ tenantId: 1, userId: 1, reason: 'spam' })
      await a.app.realtime.access.ban({ tenantId: 1, userId: 2 })
      await b.app.realtime.access.unban({ tenantId: 1, userId: 2 })
      await a.app.realtime.access.revoke({ tenantId: 1, tokenId: 'lost' })
      await redis.restart({ empty: true })
      const third = await start()
      t.match(await rest(third, user(1), 'GET', '/stats'), { status: 403, body: { code: 'RT_BANNED', message: 'spam' } })
      await Promise.all([a, b, third].map(async ({ app }) => { await app.close() }))
      await Promise.all([redis.restart({ empty: true }), mariadb.restart()])
      const again = await start()
      t.match(await rest(again, user(1), 'GET', '/stats'), { status: 403, body: { code: 'RT_BANNED', message: 'spam' } })
      await t.rejects(connect(again, user(1)), /403/)
      const late = await open(again)
      late.send('auth', { token: tokenOf(user(1)) })
      t.equal(await late.closed, 4403)
      t.equal(await statusOf(again, 2), 200, 'an unban as well')
      t.match(await rest(again, user(3, { tokenId: 'lost' }), 'GET', '/stats'), { status: 401, body: { code: 'RT_TOKEN_REVOKED' } }, 'and a revocation')
    })

    await t.test('a ban outlives FLUSHALL under running nodes, by REST, by an upgrade and by an auth frame', async (t) => {
      const start = await site(t, backend)
      const nodes = [await start(), await start()] as const
      const other = await connect(nodes[1], user(2))
      await nodes[0].app.realtime.access.ban({ tenantId: 1, userId: 1 })
      const client = new Redis(redis.url)
      t.teardown(() => { client.disconnect() })
      await client.flushall()
      for (const host of nodes) {
        t.match(await rest(host, user(1), 'GET', '/stats'), { status: 403, body: { code: 'RT_BANNED' } })
        await t.rejects(connect(host, user(1)), /403/)
        const late = await open(host)
        late.send('auth', { token: tokenOf(user(1)) })
        t.match(await late.next('error'), { code: 'RT_BANNED' })
        t.equal(await late.closed, 4403)
      }
      t.ok(await other.request('ping'))
    })

    await t.test('while Redis is away a decision acts at once where it is made, and within seconds on the other nodes', async (t) => {
      const start = await site(t, backend)
      t.teardown(async () => { await redis.restart() })
      const [a, b] = [await start(), await start()]
      const [here, there, member] = [await connect(a, user(1)), await connect(b, user(1)), await connect(b, user(2))]
      await member.request('subscribe', { channel: 'group.x' })
      await redis.stop()
      const began = performance.now()
      const [ban, kick] = await Promise.all([a.app.realtime.access.ban({ tenantId: 1, userId: 1 }), a.app.realtime.channels.kick(1, 2, 'group.x')])
      t.equal(await here.closed, 4403)
      const took = performance.now() - began
      t.ok(took < 2500, `${took} ms`)
      t.strictSame([ban, kick], [{ connections: 1, complete: false }, { connections: 0, complete: false }])
      t.equal(await there.closed, 4403)
      t.strictSame(await member.next('unsubscribed'), { channel: 'group.x', reason: 'revoked' })
      t.equal(await statusOf(b, 1), 403)
    })

    await t.test('while Redis is frozen decisions and inspections resolve within two seconds, with the knowledge of this node', async (t) => {
      const start = await site(t, backend)
      t.teardown(() => { redis.resume() })
      const [a, b] = [await start(), await start()]
      const [banned, kicked] = [await connect(a, user(1)), await connect(a, user(2))]
      await kicked.request('subscribe', { channel: 'group.x' })
      redis.pause()
      const { access, channels, connections } = a.app.realtime
      const began = performance.now()
      const results = await Promise.all([
        access.ban({ tenantId: 1, userId: 1 }), channels.kick(1, 2, 'group.x'), connections.of(1, 2), access.revoke({ tenantId: 1, userId: 3 })
      ])
      const took = performance.now() - began
      t.ok(took < 2500, `${took} ms`)
      t.match(results, [{ connections: 1, complete: false }, { connections: 1, complete: false }, [{ nodeId: a.app.realtime.nodeId, channels: Array }], { complete: false }])
      t.equal(await banned.closed, 4403)
      t.strictSame(await kicked.next('unsubscribed'), { channel: 'group.x', reason: 'revoked' })
      redis.resume()
      await until('the other node has read the ban', async () => await statusOf(b, 1) === 403)
    })

    await t.test('while the database is away a decision acts at once on every node, and is stored when it is back', async (t) => {
      const start = await site(t, backend)
      t.teardown(() => { mariadb.resume() })
      const [a, b] = [await start(), await start()]
      const [here, there] = [await connect(a, user(1)), await connect(b, user(1))]
      mariadb.pause()
      const result = a.app.realtime.access.ban({ tenantId: 1, userId: 1 })
      t.strictSame([await here.closed, await there.closed], [4403, 4403])
      t.strictSame(await result, { connections: 2, complete: false })
      mariadb.resume()
      await until('the ban is stored', async () => await stored(b, 'ban').catch(() => 0) === 1)
    })

    await t.test('nodes that ban and unban a user at the same time agree in the end on the last entry of the log', async (t) => {
      const start = await site(t, backend)
      const [a, b] = [await start(), await start()]
      for (let round = 1; round <= 10; round++) {
        await Promise.all([a.app.realtime.access.ban({ tenantId: 1, userId: round }), b.app.realtime.access.unban({ tenantId: 1, userId: round })])
      }
      for (const { app } of [a, b]) await internalsOf(app).accessLog.poll()
      const statuses = async (host: Host): Promise<number[]> => await Promise.all(Array.from({ length: 10 }, async (_, i) => await statusOf(host, i + 1)))
      const late = await start()
      const expected = await statuses(late)
      t.comment(expected.join(' '))
      for (const host of [a, b]) t.strictSame(await statuses(host), expected)
    })

    await t.test('a node that starts while users are banned does not let them in', async (t) => {
      const start = await site(t, backend)
      const a = await start()
      const starting = start()
      for (let userId = 1; userId <= 20; userId++) await a.app.realtime.access.ban({ tenantId: 1, userId })
      const b = await starting
      t.strictSame(new Set(await Promise.all(Array.from({ length: 20 }, async (_, i) => await statusOf(b, i + 1)))), new Set([403]))
    })

    await t.test('a node that starts does not act on a ban that was lifted before', async (t) => {
      const start = await site(t, backend)
      const a = await start()
      await a.app.realtime.access.ban({ tenantId: 1, userId: 1 })
      await a.app.realtime.access.unban({ tenantId: 1, userId: 1 })
      const b = await start()
      const client = await connect(b, user(1))
      await internalsOf(b.app).accessLog.poll()
      t.ok(await client.request('ping'), 'the connection stays')
      t.equal(await statusOf(b, 1), 200)
    })

    await t.test('each node applies a decision once, however often it reads the log', async (t) => {
      const start = await site(t, backend)
      const a = await start()
      const client = await connect(a, user(1))
      await client.request('subscribe', { channel: 'group.x' })
      await a.app.realtime.channels.kick(1, 1, 'group.x')
      await client.next('unsubscribed')
      await client.request('subscribe', { channel: 'group.x' })
      await internalsOf(a.app).accessLog.poll()
      t.strictSame(await client.soFar('unsubscribed'), [])
      const b = await start()
      await internalsOf(b.app).accessLog.poll()
      t.strictSame(await client.soFar('unsubscribed'), [])
    })

    await t.test('while Redis is away no user takes over a connection id of another user on the same node', async (t) => {
      const start = await site(t, backend)
      t.teardown(async () => { await redis.restart() })
      const a = await start()
      const victim = await connect(a, user(1), { connectionId: 'tab' })
      await redis.stop()
      const thief = await open(a)
      thief.send('auth', { token: tokenOf(user(2)), connectionId: 'tab' })
      t.match(await thief.next('error'), { code: 'RT_CONNECTION_TAKEN' })
      t.ok(await victim.request('ping'))
      t.equal(await a.app.realtime.connections.closeUser(1, 1), 1, 'and the host still reaches it')
      t.equal(await victim.closed, 4000)
    })
  })
}

for (const backend of ['embedded', 'embedded with string ids'] as const) {
  void t.test(`${backend}, with a file`, async (t) => {
    const database = `sqlite:${join(dataFolder('access'), 'realtime.db')}`
    const start = async (): Promise<Host> => await startNode(t, { backend, options: { authorize: () => true } }, { database }, new MovableClock())
    const before = await start()
    await before.app.realtime.access.ban({ tenantId: 1, userId: 1, reason: 'spam' })
    await before.app.realtime.access.ban({ tenantId: 1, userId: 2 })
    await before.app.realtime.access.unban({ tenantId: 1, userId: 2 })
    await before.app.close()
    const host = await start()
    t.match(await rest(host, user(1), 'GET', '/stats'), { status: 403, body: { code: 'RT_BANNED', message: 'spam' } }, 'a ban outlives a restart')
    await t.rejects(connect(host, user(1)), /403/)
    t.ok(await connect(host, user(2)), 'an unban as well')
  })
}

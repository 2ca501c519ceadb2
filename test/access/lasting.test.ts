import t, { type Test } from 'tap'
import { internalsOf } from '../../lib/internals.js'
import { buildApp } from '../../plugins/testing.js'
import { connect, open, rest, tokenOf, until, user, type Host } from '../helper.js'
import { startRedis, startMariadb } from '../servers.js'

/** Nodes on a MariaDB and a Redis of the test's own, which it may stop. */
async function site (t: Test): Promise<{ start: () => Promise<Host>, redis: Awaited<ReturnType<typeof startRedis>>, mariadb: Awaited<ReturnType<typeof startMariadb>> }> {
  const [redis, mariadb] = await Promise.all([startRedis(), startMariadb()])
  const apps: Array<Host['app']> = []
  t.teardown(async () => {
    await Promise.all(apps.map(async (app) => { await app.close() }))
    await Promise.all([redis.stop(), mariadb.stop()])
  })
  return {
    redis,
    mariadb,
    start: async () => {
      const { app, clock } = await buildApp({ core: { database: mariadb.url, redis: redis.url, authorize: () => true } })
      apps.push(app)
      return { app, clock, url: await app.listen({ port: 0, host: '127.0.0.1' }) }
    }
  }
}

const stored = async ({ app }: Host, kind: 'ban' | 'kick'): Promise<number> =>
  (await internalsOf(app).database.db.selectFrom('websocket_access').select('id').where('kind', '=', kind).execute()).length

t.test('A ban outlives a restart of every node and a Redis that was emptied, and a node that starts later knows it', async (t) => {
  const { start, redis } = await site(t)
  const [a, b] = [await start(), await start()]
  await a.app.realtime.access.ban({ tenantId: 1, userId: 1 })
  await a.app.realtime.access.ban({ tenantId: 1, userId: 2 })
  await b.app.realtime.access.unban({ tenantId: 1, userId: 2 })
  await redis.restart({ empty: true })
  const third = await start()
  t.match(await rest(third, user(1), 'GET', '/stats'), { status: 403, body: { code: 'RT_BANNED' } })
  await Promise.all([a, b, third].map(async ({ app }) => { await app.close() }))
  await redis.restart({ empty: true })
  const again = await start()
  t.match(await rest(again, user(1), 'GET', '/stats'), { status: 403, body: { code: 'RT_BANNED' } })
  await t.rejects(connect(again, user(1)), /403/)
  t.match(await rest(again, user(2), 'GET', '/stats'), { status: 200 }, 'an unban as well')
})

t.test('While Redis is unavailable, a decision applies immediately on its node, and within seconds on the other nodes', async (t) => {
  const { start, redis } = await site(t)
  const [a, b] = [await start(), await start()]
  const [here, there, member] = [await connect(a, user(1)), await connect(b, user(1)), await connect(b, user(2))]
  await member.request('subscribe', { channel: 'group.x' })
  await redis.stop()
  const began = performance.now()
  const [ban, kick] = await Promise.all([a.app.realtime.access.ban({ tenantId: 1, userId: 1 }), a.app.realtime.channels.kick(1, 2, 'group.x')])
  t.equal(await here.closed, 4403)
  const took = performance.now() - began
  t.ok(took < 2500, `${took} ms`)
  t.match([ban, kick], [{ complete: false }, { complete: false }])
  t.equal(await there.closed, 4403)
  t.strictSame(await member.next('unsubscribed'), { channel: 'group.x', reason: 'revoked' })
  t.match(await rest(b, user(1), 'GET', '/stats'), { status: 403 })
})

t.test('While the database is unavailable, a decision applies immediately on every node, and is stored later', async (t) => {
  const { start, mariadb } = await site(t)
  const [a, b] = [await start(), await start()]
  const [here, there] = [await connect(a, user(1)), await connect(b, user(1))]
  mariadb.pause()
  const result = a.app.realtime.access.ban({ tenantId: 1, userId: 1 })
  t.strictSame([await here.closed, await there.closed], [4403, 4403])
  t.strictSame(await result, { connections: 2, complete: false })
  mariadb.resume()
  await until('the ban is stored', async () => await stored(b, 'ban').catch(() => 0) === 1)
})

t.test('Nodes that ban and unban a user at the same time agree in the end, on the last entry of the log', async (t) => {
  const { start } = await site(t)
  const nodes = [await start(), await start()]
  const [a, b] = nodes as [Host, Host]
  for (let round = 1; round <= 10; round++) {
    await Promise.all([a.app.realtime.access.ban({ tenantId: 1, userId: round }), b.app.realtime.access.unban({ tenantId: 1, userId: round })])
  }
  const logs = nodes.map(({ app }) => internalsOf(app).accessLog)
  for (const log of logs) await log.poll()
  const statuses = async (host: Host): Promise<number[]> =>
    await Promise.all(Array.from({ length: 10 }, async (_, i) => (await rest(host, user(i + 1), 'GET', '/stats')).status))
  const late = await start()
  const expected = await statuses(late)
  t.comment(expected.join(' '))
  for (const host of nodes) t.strictSame(await statuses(host), expected)
})

t.test('A node that starts while a user is banned does not let the user in', async (t) => {
  const { start } = await site(t)
  const a = await start()
  const starting = start()
  for (let userId = 1; userId <= 20; userId++) await a.app.realtime.access.ban({ tenantId: 1, userId })
  const b = await starting
  const statuses = await Promise.all(Array.from({ length: 20 }, async (_, i) => (await rest(b, user(i + 1), 'GET', '/stats')).status))
  t.strictSame(new Set(statuses), new Set([403]))
})

t.test('The log is read once, and forgets what has ended', async (t) => {
  const { start } = await site(t)
  const a = await start()
  const client = await connect(a, user(1))
  await client.request('subscribe', { channel: 'group.x' })
  await a.app.realtime.channels.kick(1, 1, 'group.x')
  await client.next('unsubscribed')
  await client.request('subscribe', { channel: 'group.x' })
  await internalsOf(a.app).accessLog.poll()
  t.strictSame(await client.soFar('unsubscribed'), [], 'a kick is applied once')
  const b = await start()
  await internalsOf(b.app).accessLog.poll()
  t.strictSame(await client.soFar('unsubscribed'), [])
})

t.test('While Redis is unavailable, a user cannot take over a connection id of another user on the same node', async (t) => {
  const { start, redis } = await site(t)
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

import { randomBytes } from 'node:crypto'
import Fastify from 'fastify'
import { Redis } from 'ioredis'
import { sql } from 'kysely'
import { createConnection, type RowDataPacket } from 'mysql2/promise'
import t from 'tap'
import { openDatabase, realtime, presence } from '../plugins/index.js'
import { allowAll, buildHost, connect, rest, store, until, user } from './helper.js'
import { createDatabase } from './servers.js'

const serversUrl = process.env.DATABASE_URL ?? ''
const redisUrl = process.env.REDIS_URL ?? ''
const keyPrefix = (): string => `test-${randomBytes(6).toString('hex')}`
/** A database number that no other test uses, so that a connection shows whose it is. */
const NUMBER = 11

const ask = new Redis(redisUrl)
t.teardown(() => { ask.disconnect() })

async function redisConnections (): Promise<number> {
  const list = await ask.client('LIST') as string
  return list.split('\n').filter((line) => line.includes(` db=${NUMBER} `)).length
}

async function databaseConnections (url: string): Promise<number> {
  const connection = await createConnection(serversUrl)
  const [rows] = await connection.query<RowDataPacket[]>('select count(*) as count from information_schema.processlist where db = ?',
    [new URL(url).pathname.slice(1)]).finally(async () => { await connection.end() })
  return Number(rows[0]?.count)
}

const numbered = (url: string): string => Object.assign(new URL(url), { pathname: `/${NUMBER}` }).href

t.test('connections opened for a URL are closed with the app', async (t) => {
  const database = await createDatabase(serversUrl)
  t.teardown(async () => { await database.drop() })
  const host = await buildHost(t, { backend: 'embedded', options: { database: database.url, redis: numbered(redisUrl), keyPrefix: keyPrefix() } })
  await connect(host, user(1))
  t.ok(await databaseConnections(database.url) > 0)
  t.ok(await redisConnections() > 0)
  await host.app.close()
  await until('MariaDB forgets the connections', async () => await databaseConnections(database.url) === 0)
  await until('Redis forgets the connections', async () => await redisConnections() === 0)
})

t.test('connections opened for an app that fails to register are closed as well', async (t) => {
  const database = await createDatabase(serversUrl)
  t.teardown(async () => { await database.drop() })
  const options = { database: database.url, redis: numbered(redisUrl), keyPrefix: keyPrefix(), authenticate: () => null }
  const failures: Array<[what: string, register: (app: ReturnType<typeof Fastify>) => Promise<unknown>]> = [
    ['a plugin’s wrong option', async (app) => {
      await app.register(realtime, options)
      await app.register(presence, { updatesPerMinute: -1 })
    }],
    ['a Redis that is none', async (app) => { await app.register(realtime, { ...options, redis: 'nonsense' }) }],
    ['the core registered twice', async (app) => {
      await app.register(realtime, options)
      await app.register(realtime, options)
    }]
  ]
  for (const [what, register] of failures) {
    const app = Fastify()
    await t.rejects(register(app), what)
    await app.close()
    await until(`MariaDB forgets the connections after ${what}`, async () => await databaseConnections(database.url) === 0)
    await until(`Redis forgets the connections after ${what}`, async () => await redisConnections() === 0)
  }
})

t.test('a Kysely instance of the host’s stays open, for SQLite and for MariaDB', async (t) => {
  const database = await createDatabase(serversUrl)
  for (const url of ['sqlite::memory:', database.url]) {
    const own = openDatabase(url)
    const host = await buildHost(t, { backend: 'embedded', options: { ...allowAll, database: own.db } })
    const { messageId } = await (await connect(host, user(1))).request('message:group', { channel: 'group.x', message: 'kept', conversationId: 'c' })
    await host.app.close()
    const { rows } = await sql<{ id: number }>`select id from websocket_events where durable = 1`.execute(own.db)
    t.same(rows, [{ id: messageId }])
    await own.close()
  }
  await database.drop()
})

t.test('an ioredis instance of the host’s stays open, whatever the host uses it for', async (t) => {
  const shared = await store(t, 'servers')
  const plain = new Redis(redisUrl)
  const prefixed = new Redis(redisUrl, { keyPrefix: 'host:' })
  const lazy = new Redis(redisUrl, { lazyConnect: true })
  const subscribed = new Redis(redisUrl)
  await subscribed.subscribe('host-news')
  for (const [name, redis] of Object.entries({ plain, prefixed, lazy, subscribed })) {
    const host = await buildHost(t, { backend: 'embedded', options: { ...allowAll, ...shared, redis, keyPrefix: keyPrefix() } })
    const client = await connect(host, user(1))
    await client.request('subscribe', { channel: 'group.x' })
    await host.app.realtime.channels.publish({ tenantId: 1, channel: 'group.x', event: 'news', data: { name } })
    t.match(await client.next('news'), { name })
    await host.app.close()
    if (redis !== subscribed) t.equal(await redis.ping(), 'PONG', name)
  }
  const received = new Promise((resolve) => { subscribed.once('message', (_channel, text) => { resolve(text) }) })
  await plain.publish('host-news', 'still here')
  t.equal(await received, 'still here', 'and the host’s subscription continues')
  for (const redis of [plain, prefixed, lazy, subscribed]) redis.disconnect()
})

t.test('two apps in one process never mix, embedded or on one Redis and one MariaDB server', async (t) => {
  for (const backend of ['embedded', 'servers'] as const) {
    const [one, two] = [await buildHost(t, { backend, options: allowAll }), await buildHost(t, { backend, options: allowAll })]
    // The same tenant, user, connection and channel in both.
    const [mine, other] = [await connect(one, user(1), { connectionId: 'tab' }), await connect(two, user(1), { connectionId: 'tab' })]
    await connect(two, user(2))
    for (const client of [mine, other]) await client.request('subscribe', { channel: 'group.x' })
    for (const [host, name] of [[one, 'one'], [two, 'two']] as const) {
      await host.app.realtime.channels.publish({ tenantId: 1, channel: 'group.x', event: 'news', data: { name } })
      host.app.realtime.channels.tell({ tenantId: 1, channel: 'group.x', event: 'last', data: { name } })
    }
    t.match([await mine.next('last'), await other.next('last')], [{ name: 'one' }, { name: 'two' }])
    t.match([await mine.soFar('news'), await other.soFar('news')], [[{ name: 'one' }], [{ name: 'two' }]])
    t.strictSame(await mine.soFar('user:online'), [])
    t.match((await rest(one, user(1), 'GET', '/stats')).body.data, { total_connections: 1, unique_users: 1 })
    t.match((await rest(two, user(1), 'GET', '/stats')).body.data, { total_connections: 2, unique_users: 2 })
    await one.app.close()
    t.match(await other.request('message:group', { channel: 'group.x', message: 'on', conversationId: 'c' }), { messageId: Number })
  }
})

t.test('two apps on one Redis database are kept apart by keyPrefix, also where they share the instance', async (t) => {
  const redis = new Redis(redisUrl)
  t.teardown(() => { redis.disconnect() })
  const [one, two] = [
    await buildHost(t, { backend: 'embedded', options: { redis, keyPrefix: keyPrefix() } }),
    await buildHost(t, { backend: 'embedded', options: { redis, keyPrefix: keyPrefix() } })
  ]
  await connect(one, user(1))
  t.match((await rest(two, user(2), 'GET', '/online-users')).body, { data: [], total: 0 })
  t.match((await rest(one, user(2), 'GET', '/online-users')).body, { data: [{ user_id: 1 }], total: 1 })
})

t.test('a host with decorators of the same names works, and keeps them', async (t) => {
  const names = ['connections', 'presence', 'typing', 'channels', 'stats']
  const host = await buildHost(t, {
    backend: 'embedded',
    before: (app) => {
      for (const name of [...names, 'hub', 'roster']) app.decorate(name, `the host’s ${name}`).decorateRequest(name).decorateReply(name)
    }
  })
  const client = await connect(host, user(1))
  t.ok(await client.request('user:presence', { status: 'busy' }))
  t.equal((await rest(host, user(1), 'GET', '/stats')).status, 200)
  const decorators = host.app as unknown as Record<string, unknown>
  for (const name of names) t.equal(decorators[name], `the host’s ${name}`)
})

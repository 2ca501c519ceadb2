import Fastify from 'fastify'
import { Redis } from 'ioredis'
import t from 'tap'
import { channels, connections, openDatabase, presence, realtime, stats, typing, type RealtimeOptions } from '../plugins/index.js'
import { authenticate, buildApp } from './app.js'

const good = { database: 'sqlite::memory:', authenticate }

t.test('A wrong option of the core fails the registration and is named', async (t) => {
  const wrong: Array<[option: string, options: Partial<Record<keyof RealtimeOptions, unknown>>]> = [
    ['database', { database: undefined }], ['database', { database: 'postgres://x' }], ['database', { database: {} }],
    ['authenticate', { authenticate: undefined }], ['authorize', { authorize: true }], ['resolveUsers', { resolveUsers: 'x' }],
    ['redis', { redis: 'http://x' }], ['redis', { redis: {} }], ['redis', { redis: 'redis://127.0.0.1:1' }],
    ['prefix', { prefix: 'no-slash' }], ['keyPrefix', { keyPrefix: 'a b' }], ['presenceLease', { presenceLease: 5000, presenceGrace: 5000 }],
    ['presenceGrace', { presenceGrace: -1 }], ['storageTimeout', { storageTimeout: 'soon' }], ['maxQueuedEvents', { maxQueuedEvents: 0 }],
    ['requestsPerMinute', { requestsPerMinute: 1.5 }], ['retentionDays', { retentionDays: 0 }]
  ]
  for (const [option, options] of wrong) {
    const app = Fastify()
    await t.rejects(async () => { await app.register(realtime, { ...good, ...options } as RealtimeOptions) },
      { code: 'RT_OPTION_INVALID', message: new RegExp(`option "${option}"`) }, option)
    await app.close().catch(() => {})
  }
})

t.test('So does one of a plugin', async (t) => {
  const app = async () => {
    const app = Fastify()
    await app.register(realtime, good)
    return app
  }
  const named = (option: string) => ({ message: new RegExp(`option "${option}`) })
  await t.rejects(async () => { await (await app()).register(connections, { pingInterval: 0 }) }, named('pingInterval'))
  await t.rejects(async () => { await (await app()).register(connections, { allowedOrigins: ['example.com'] }) }, named('allowedOrigins'))
  await t.rejects(async () => { await (await app()).register(presence, { updatesPerMinute: -1 }) }, named('updatesPerMinute'))
  await t.rejects(async () => { await (await app()).register(typing, { expiry: 1 }) }, named('expiry'))
  await t.rejects(async () => { await (await app()).register(typing, { participants: [] as never }) }, named('participants'))
  await t.rejects(async () => { await (await app()).register(channels, { maxChannelsPerConnection: 0 }) }, named('maxChannelsPerConnection'))
})

t.test('A plugin without the core says what is missing', async (t) => {
  for (const plugin of [connections, presence, typing, channels, stats]) {
    await t.rejects(async () => { await Fastify().register(plugin) }, /realtime/)
  }
})

t.test('What the host passes in stays open when the app closes', async (t) => {
  const database = openDatabase('sqlite::memory:')
  const redis = new Redis(process.env.REDIS_URL ?? '')
  t.teardown(async () => {
    redis.disconnect()
    await database.close()
  })
  const app = await buildApp(t, { database: database.db, redis, keyPrefix: `own-${process.pid}` })
  await app.ready()
  await app.close()
  t.equal(await redis.ping(), 'PONG')
  t.same(await database.db.selectFrom('websocket_events').select('id').execute(), [])
})

t.test('Two apps in one process do not mix', async (t) => {
  const [one, two] = await Promise.all([buildApp(t, { database: 'sqlite::memory:' }), buildApp(t, { database: 'sqlite::memory:' })])
  await Promise.all([one.ready(), two.ready()])
  await one.realtime.channels.message({ tenantId: 1, recipientId: 1, message: 'x', conversationId: 'c' })
  t.match(await one.realtime.stats.of(1), { pending_events: 1 })
  t.match(await two.realtime.stats.of(1), { pending_events: 0 })
})

t.test('A host may have decorators of the same names', async (t) => {
  const app = Fastify()
  t.teardown(async () => { await app.close() })
  app.decorate('stats', 'mine')
  app.decorate('presence', 'mine')
  await app.register(realtime, good)
  for (const plugin of [stats, presence]) await app.register(plugin)
  await app.ready()
  t.match(await app.realtime.stats.of(1), { total_connections: 0 })
})

import Fastify, { type FastifyInstance, type FastifyPluginAsync, type FastifyPluginCallback } from 'fastify'
import { Type } from '@sinclair/typebox'
import { Kysely, PostgresAdapter, DummyDriver, PostgresIntrospector, PostgresQueryCompiler } from 'kysely'
import t from 'tap'
import {
  channels, connections, presence, realtime, stats, typing, type ChannelsOptions, type ConnectionsOptions, type PresenceOptions,
  type RealtimeOptions, type TypingOptions
} from '../plugins/index.js'

type AnyPlugin = FastifyPluginAsync | FastifyPluginCallback
/** Values of each option with which nothing could work. */
type Wrong<Options> = { [Name in keyof Required<Options>]: unknown[] }

const postgres = new Kysely({
  dialect: {
    createAdapter: () => new PostgresAdapter(),
    createDriver: () => new DummyDriver(),
    createIntrospector: (db) => new PostgresIntrospector(db),
    createQueryCompiler: () => new PostgresQueryCompiler()
  }
})

const core: Wrong<RealtimeOptions> = {
  database: [undefined, null, 5, {}, '', 'data/realtime.db', 'sqlite:', 'postgres://localhost/db', postgres, 'mysql://rt:rt@127.0.0.1:1/none'],
  redis: [null, 5, {}, 'localhost:6379', 'http://localhost'],
  authenticate: [undefined, null, 'jwt', {}],
  authorize: [null, true, {}],
  authorizeMany: [null, true, {}],
  resolveUsers: [null, 'users', new Map()],
  clock: [5, {}, { now: 5 }],
  prefix: ['api', '/api/', '//', 5],
  keyPrefix: ['', 'a b', '{rt}', 5],
  requestsPerMinute: [-1, 1.5, '600', null],
  presenceLease: [0, 999, 5000, '15s', Infinity],
  presenceGrace: [-1, 15_000, '5s'],
  restLease: [0, 999, '75s'],
  storageTimeout: [0, 99, '3s'],
  maxQueuedEvents: [0, -1, '10'],
  authConcurrency: [0, 0.5, '10'],
  hostTimeout: [0, 99, '10'],
  failedAuthPerMinute: [-1, 0.5, '60'],
  userCacheTime: [-1, '1m'],
  statsInterval: [-1, '1m'],
  migrate: ['yes', 1, null],
  retentionDays: [0, -1, '30'],
  maintenance: ['yes', 1, null]
}

const plugins: Array<[name: string, plugin: AnyPlugin, wrong: Record<string, unknown[]>]> = [
  ['connections', connections, {
    pingInterval: [0, -1, '25s'],
    authDeadline: [0, -1, '10s'],
    maxConnectionsPerUser: [0, -1, '20'],
    framesPerSecond: [-1, 1.5, '50'],
    frameBurst: [0, -1, '100'],
    maxFrameSize: [0, 1023, '64k'],
    maxBuffered: [0, 1023, '1m'],
    allowedOrigins: ['https://example.com', ['example.com'], ['https://example.com/'], ['*'], [5]],
    closeDeadline: [0, 99, '10s'],
    perMessageDeflate: ['yes', 1, {}]
  } satisfies Wrong<ConnectionsOptions>],
  ['presence', presence, { updatesPerMinute: [-1, 0.5, '60'] } satisfies Wrong<PresenceOptions>],
  ['typing', typing, {
    signsPerMinute: [-1, 0.5, '60'], expiry: [0, 999, '30s'], participants: [null, [1, 2], 'all']
  } satisfies Wrong<TypingOptions>],
  ['channels', channels, {
    beforePublish: [5, null],
    maxChannelsPerConnection: [0, -1, '100'],
    events: [
      null, 5, { nocolon: { data: Type.Object({}) } }, { 'order:shipped': {} }, { 'order:shipped': { data: Type.String() } },
      { 'order:shipped': { data: Type.Object({ timestamp: Type.String() }) } },
      { 'order:shipped': { data: Type.Object({}), durable: 'yes' } }, { 'order:shipped': { data: Type.Object({}), direction: 'up' } }
    ]
  } satisfies Wrong<ChannelsOptions>]
]

const sound = { database: 'sqlite::memory:', authenticate: () => null }

/** What `register` says, after which the host can still be closed. */
async function refusal (register: (app: FastifyInstance) => PromiseLike<unknown>): Promise<Error> {
  const app = Fastify()
  try {
    await register(app)
  } catch (err) {
    return err as Error
  } finally {
    await app.close()
  }
  return new Error('nothing was refused')
}

const show = (value: unknown): string => value === postgres ? 'a Kysely instance for PostgreSQL' : JSON.stringify(value) ?? 'undefined'

// Beside the rest: a Redis is given its time to answer.
t.jobs = 2
t.test('a Redis that does not answer fails register with a message that names it', { buffered: true }, async (t) => {
  t.match((await refusal((app) => app.register(realtime, { ...sound, redis: 'redis://127.0.0.1:1' }))).message, /^option "redis" /)
})

t.test('a wrong option of the core', { buffered: true }, async (t) => {
  for (const [name, values] of Object.entries(core)) {
    await t.test(`${name} fails register with a message that names it`, async (t) => {
      for (const value of values) {
        const { message } = await refusal((app) => app.register(realtime, { ...sound, [name]: value }))
        t.match(message, new RegExp(`^option ".*${name}`), show(value))
      }
    })
  }
})

for (const [plugin, register, wrong] of plugins) {
  t.test(`a wrong option of ${plugin}`, async (t) => {
    for (const [name, values] of Object.entries(wrong)) {
      await t.test(`${name} fails register with a message that names it`, async (t) => {
        for (const value of values) {
          const { message } = await refusal(async (app) => {
            await app.register(realtime, sound)
            await app.register(register, { [name]: value })
          })
          t.match(message, new RegExp(`^option ".*${name}`), show(value))
        }
      })
    }
  })
}

t.test('a host that migrates by itself is told at its start where tables are missing', async (t) => {
  const { message } = await refusal(async (app) => {
    await app.register(realtime, { ...sound, migrate: false })
    await app.ready()
  })
  t.match(message, /^option "database" .*migrate/)
})

t.test('a lease shorter than a node can renew it is refused', async (t) => {
  for (const presenceLease of [1000, 1200]) {
    const { message } = await refusal((app) => app.register(realtime, { ...sound, presenceLease, presenceGrace: 0 }))
    t.match(message, /^option "presenceLease"/, `${presenceLease}`)
  }
})

t.test('a plugin without the core fails register with a message that names the core', async (t) => {
  for (const plugin of [connections, presence, typing, channels, stats]) {
    t.match((await refusal((app) => app.register(plugin as AnyPlugin))).message, /'realtime'/)
  }
})

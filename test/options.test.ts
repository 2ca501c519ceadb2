import Fastify, { type FastifyInstance, type FastifyPluginAsync, type FastifyPluginCallback } from 'fastify'
import { Type } from '@sinclair/typebox'
import { Kysely, PostgresAdapter, DummyDriver, PostgresIntrospector, PostgresQueryCompiler } from 'kysely'
import t from 'tap'
import { optionsOf } from '../lib/option-names.js'
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
  secret: [null, 5, '', 'x'.repeat(31), [], ['x'.repeat(32), 'short'], [5]],
  authenticate: [undefined, null, 'jwt', {}],
  authorize: [null, true, {}],
  authorizeMany: [null, true, {}],
  resolveUsers: [null, 'users', new Map()],
  clock: [5, {}, { now: 5 }],
  prefix: ['api', '/api/', '//', 5],
  ids: ['uuid', 5, null],
  keyPrefix: ['', 'a b', '{rt}', 5],
  requestsPerMinute: [-1, 1.5, '600', null],
  presenceLease: [0, 999, 5000, '15s', Infinity],
  presenceGrace: [-1, 15_000, '5s'],
  restLease: [0, 999, '75s'],
  storageTimeout: [0, 99, '3s'],
  maxQueuedEvents: [0.5, -1, '10'],
  authConcurrency: [0, 0.5, '10'],
  hostTimeout: [0, 99, '10'],
  failedAuthPerMinute: [-1, 0.5, '60'],
  userCacheTime: [-1, '1m'],
  statsInterval: [-1, '1m'],
  migrate: ['yes', 1, null],
  retentionDays: [0, -1, '30'],
  audit: ['none', true, null],
  tenantLimits: [null, {}, 100],
  maintenance: ['yes', 1, null]
}

const plugins: Array<[name: string, plugin: AnyPlugin, wrong: Record<string, unknown[]>]> = [
  ['connections', connections, {
    pingInterval: [0, -1, '25s'],
    authDeadline: [0, -1, '10s'],
    maxConnectionsPerUser: [0.5, -1, '20'],
    framesPerSecond: [-1, 1.5, '50'],
    frameBurst: [0, -1, '100'],
    maxFrameSize: [1, 1023, '64k'],
    maxBuffered: [1, 1023, '1m'],
    allowedOrigins: ['https://example.com', ['example.com'], ['https://example.com/'], ['*'], [5]],
    closeDeadline: [0, 99, '10s'],
    drainSeconds: [-1, 3601, '5s'],
    drainGrace: [-1, 0.5, '30s'],
    maxLag: [-1, 0.5, '50ms'],
    maxPerAddress: [-1, 0.5, '1000'],
    maxPendingPerAddress: [-1, 0.5, '200'],
    limitPrivateAddresses: ['yes', 1, null],
    connectRate: [-1, 0.5, '10'],
    maxSockets: [-1, 0.5, '10'],
    perMessageDeflate: ['yes', 1, {}]
  } satisfies Wrong<ConnectionsOptions>],
  ['presence', presence, {
    updatesPerMinute: [-1, 0.5, '60'], maxWatched: [-1, 0.5, '10'], everyone: [-1, 0.5, 'some', null], visible: [5, null, 'all']
  } satisfies Wrong<PresenceOptions>],
  ['typing', typing, {
    signsPerMinute: [-1, 0.5, '60'], expiry: [0, 999, '30s'], participants: [null, [1, 2], 'all']
  } satisfies Wrong<TypingOptions>],
  ['channels', channels, {
    beforePublish: [5, null],
    members: [5, null],
    maxChannelsPerConnection: [0.5, -1, '100'],
    messagesPerMinute: [-1, 0.5, '3000'],
    recipientsPerMinute: [-1, 0.5, '10000'],
    waitingAfter: [-1, '10s'],
  retention: [30, 'a month'],
  maxPending: [-1, 0.5, '1000'],
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

t.test('a host that runs migrations by itself gets an error at start where tables are missing', async (t) => {
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

const all = { connections, presence, typing, channels, stats }

t.test('a plugin without the core, or beside its scope, fails the registration with a sentence that names the fix', async (t) => {
  for (const [name, plugin] of Object.entries(all)) {
    const sentence = new RegExp(`^the ${name} plugin needs the core, 'realtime': await app.register\\(realtime`)
    t.match((await refusal((app) => app.register(plugin as AnyPlugin))).message, sentence)
    t.match((await refusal(async (app) => {
      await app.register(async (scope) => { await scope.register(realtime, sound) })
      await app.register(plugin as AnyPlugin)
    })).message, sentence)
  }
})

t.test('a plugin that is registered twice fails the registration with a sentence that names the fix', async (t) => {
  for (const [name, plugin] of Object.entries({ ...all, core: realtime })) {
    const { message } = await refusal(async (app) => {
      await app.register(realtime, sound)
      await app.register(plugin as AnyPlugin)
      await app.register(async (scope) => { await scope.register(plugin as AnyPlugin) })
    })
    t.match(message, new RegExp(`the ${name}( plugin)? is registered already: register it once`))
  }
})

t.test('using a plugin that is not registered throws a sentence that names the fix', async (t) => {
  const app = Fastify()
  await app.register(realtime, sound)
  t.throws(() => app.realtime.presence.of(1, [2]), { message: 'app.realtime.presence is not there: register the presence plugin first, await app.register(presence)' })
  await app.register(presence)
  t.ok(app.realtime.presence)
  await app.close()
})

t.test('an unknown option fails the registration, with its name and the similar option or the right plugin', async (t) => {
  const wrong: Array<[plugin: AnyPlugin, options: object, message: string | RegExp]> = [
    [connections, { pingIntervall: 1000 }, 'option "pingIntervall" does not exist in the connections plugin: did you mean "pingInterval"?'],
    [connections, { AllowedOrigins: [] }, 'option "AllowedOrigins" does not exist in the connections plugin: did you mean "allowedOrigins"?'],
    [connections, { requestsPerMinute: 5 }, 'option "requestsPerMinute" belongs to the core, not to the connections plugin'],
    [presence, { updatePerMinutes: 5 }, 'option "updatePerMinutes" does not exist in the presence plugin: did you mean "updatesPerMinute"?'],
    [presence, { prefix: '/x' }, 'option "prefix" belongs to the core, not to the presence plugin'],
    [typing, { participant: () => [] }, 'option "participant" does not exist in the typing plugin: did you mean "participants"?'],
    [typing, { allowedOrigins: [] }, 'option "allowedOrigins" belongs to the connections plugin, not to the typing plugin'],
    [stats, { colour: 'red' }, 'option "colour" does not exist in the stats plugin, which has metrics'],
    [channels, { event: {} }, 'option "event" does not exist in the channels plugin: did you mean "events"?'],
    [channels, { events: { 'a:b': { data: Type.Object({}), durabel: false } } },
      'option "events.a:b.durabel" does not exist in an event: did you mean "durable"?'],
    [realtime as AnyPlugin, { ...sound, keyPrefx: 'x' }, 'option "keyPrefx" does not exist in the core: did you mean "keyPrefix"?'],
    [realtime as AnyPlugin, { ...sound, authentciate: () => null, authenticate: undefined }, 'option "authentciate" does not exist in the core: did you mean "authenticate"?'],
    [realtime as AnyPlugin, { ...sound, allowedOrigins: [] }, 'option "allowedOrigins" belongs to the connections plugin, not to the core']
  ]
  for (const [plugin, options, message] of wrong) {
    t.match((await refusal(async (app) => {
      if (plugin !== realtime as AnyPlugin) await app.register(realtime, sound)
      await app.register(plugin, options)
    })).message, message)
  }
})

t.test('options that are undefined, and those that Fastify itself reads, are let pass', async (t) => {
  const app = Fastify()
  await app.register(realtime, { ...sound, prefix: undefined, logLevel: 'warn' } as unknown as RealtimeOptions)
  await app.register(presence, { updatesPerMinute: undefined, logLevel: 'warn' } as unknown as PresenceOptions)
  t.ok(app.realtime.presence)
  await app.close()
})

t.test('every option listed for a plugin is accepted by that plugin', async (t) => {
  for (const [name, plugin] of Object.entries(all)) {
    for (const option of optionsOf[name as keyof typeof all]) {
      const { message } = await refusal(async (app) => {
        await app.register(realtime, sound)
        await app.register(plugin as AnyPlugin, { [option]: Symbol.iterator })
      })
      t.notMatch(message, /does not exist|belongs/, option)
    }
  }
})

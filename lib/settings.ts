import { Type, type Static } from '@sinclair/typebox'
import { Value } from '@sinclair/typebox/value'
import type { Clock } from './clock.js'
import { OptionError } from './errors.js'
import type { IdKind } from './ids.js'
import type { Authenticate, Authorize, AuthorizeMany, ResolveUsers } from './host-functions.js'
import { requireKnown } from './option-names.js'

const ms = (description: string, value: number, minimum = 1) =>
  Type.Integer({ minimum, maximum: 2 ** 31 - 1, default: value, description: `${description}, in milliseconds` })

/** Numbers and texts of the core's options, with their defaults. */
const CoreSettings = Type.Object({
  prefix: Type.String({ default: '/api/websocket', pattern: '^(/[^/]+)*$', description: 'Where all routes stand' }),
  keyPrefix: Type.String({ default: 'rt', pattern: '^[A-Za-z0-9._-]+$', description: 'Put before every Redis key and topic' }),
  ids: Type.Unsafe<IdKind>(Type.String({
    default: 'integer',
    pattern: '^(integer|string)$',
    description: 'Ids of tenants and users: positive integers, or strings such as UUIDs. Chosen once for a database, with its first migration'
  })),
  requestsPerMinute: Type.Integer({ default: 600, minimum: 0, description: 'REST requests of one user; 0: no limit' }),
  // Below the minimum one late beat of the sweeper would cost a healthy node its lease.
  presenceLease: ms('A node not heard of for this long is dead, and its users offline', 15_000, 3000),
  presenceGrace: ms('A user without connections is still online for this long', 5000, 0),
  restLease: ms('A connection without a socket lives this long after its last sign', 75_000, 1000),
  storageTimeout: ms('A database that does not answer for this long counts as away', 3000, 100),
  maxQueuedEvents: Type.Integer({ default: 10_000, minimum: 1, description: 'Durable events that may wait for the database' }),
  authConcurrency: Type.Integer({ default: 100, minimum: 1, description: 'Calls of authenticate and authorize under way at once' }),
  userCacheTime: ms('How long a name from resolveUsers is kept', 60_000, 0),
  statsInterval: ms('Pause between two stats lines in the log; 0: none', 60_000, 0),
  migrate: Type.Boolean({ default: true, description: 'Bring the tables up to date at registration; false where a release process does it' }),
  retentionDays: Type.Integer({ default: 30, minimum: 1, description: 'Disconnected connections and delivered events are kept this long' }),
  maintenance: Type.Boolean({ default: true, description: 'This node takes part in sweeps and purges' })
})

/** Options of the core, `app.register(realtime, options)`. */
export interface RealtimeOptions extends Partial<Static<typeof CoreSettings>> {
  /** A Kysely instance (MySQL, MariaDB or SQLite), or a URL: `mysql://…`, `sqlite:path`, `sqlite::memory:`. */
  database: unknown
  /** An ioredis instance, or a URL; absent: one process, everything in memory. */
  redis?: unknown
  /**
   * Signs the messages between nodes, at least 32 characters each; unsigned ones are dropped then. Of a list, the first
   * signs and all verify, so that a secret can be replaced: add the new one last, then put it first, then remove the old one.
   */
  secret?: string | readonly string[] | undefined
  authenticate: Authenticate
  /** Absent: own private channel, `presence` and `broadcast` may be subscribed, `direct` is allowed; nothing else is. */
  authorize?: Authorize
  authorizeMany?: AuthorizeMany
  resolveUsers?: ResolveUsers
  /** For tests that move time. */
  clock?: Clock
}

export type CoreSettings = Static<typeof CoreSettings>

const MIN_SECRET = 32

/**
 * Checks and completes numbers and texts against a schema with defaults; `besides` are the plugin's options of other kinds.
 * Throws an {@link OptionError} that names the first one that is wrong or unknown.
 */
export function readSettings<T extends ReturnType<typeof Type.Object>> (
  schema: T, options: object, { of, besides }: { of: string, besides: readonly string[] }
): Static<T> {
  requireKnown(options, [...Object.keys(schema.properties), ...besides], { of })
  const known = Object.fromEntries(Object.entries(options)
    .filter(([name, value]) => name in schema.properties && value !== undefined))
  const settings = Value.Default(schema, known)
  const error = Value.Errors(schema, settings).First()
  if (error !== undefined) {
    throw new OptionError(error.path.slice(1).replaceAll('/', '.'), `is ${JSON.stringify(error.value)}: ${error.message.toLowerCase()}`)
  }
  return settings as Static<T>
}

/** The secrets of the option, the one that signs first. Throws an {@link OptionError}, which does not show them. */
export function readSecrets (secret: RealtimeOptions['secret']): readonly string[] {
  if (secret === undefined) return []
  const secrets: readonly unknown[] = Array.isArray(secret) ? secret : [secret]
  const strong = secrets.filter((one): one is string => typeof one === 'string' && one.length >= MIN_SECRET)
  if (secrets.length === 0 || strong.length < secrets.length) {
    throw new OptionError('secret', `must be a string of at least ${MIN_SECRET} characters, or a list of such strings`)
  }
  return strong
}

/** Checks the core's options; throws an {@link OptionError} that names the first wrong one. */
export function readCoreOptions (options: RealtimeOptions): CoreSettings {
  const settings = readSettings(CoreSettings, options, {
    of: 'core', besides: ['database', 'redis', 'authenticate', 'authorize', 'authorizeMany', 'resolveUsers', 'secret', 'clock']
  })
  if (options.database === undefined) throw new OptionError('database', 'is missing: a Kysely instance or a URL')
  if (typeof options.authenticate !== 'function') {
    throw new OptionError('authenticate', 'is missing: a function ({ token, request }) → identity or null')
  }
  for (const name of ['authorize', 'authorizeMany', 'resolveUsers'] as const) {
    if (options[name] !== undefined && typeof options[name] !== 'function') throw new OptionError(name, 'must be a function')
  }
  readSecrets(options.secret)
  if (options.clock !== undefined && typeof options.clock?.now !== 'function') {
    throw new OptionError('clock', 'must be an object with now(), milliseconds since 1970')
  }
  if (settings.presenceLease <= settings.presenceGrace) {
    throw new OptionError('presenceLease', 'must be longer than presenceGrace: it is the grace of a dead node’s users')
  }
  return settings
}

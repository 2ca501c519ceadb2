import { Type, type Static } from '@sinclair/typebox'
import { Value } from '@sinclair/typebox/value'
import { MAX_TIMER_MS } from './async/timers.js'
import type { Clock } from './clock.js'
import { OptionError } from './errors.js'
import type { Authenticate, Authorize, AuthorizeMany, ResolveUsers, TenantLimitsOf } from './host-functions.js'
import type { IdKind } from './ids.js'
import { requireKnown } from './option-names.js'

/** The schema of a time in milliseconds, with its default. */
export const ms = (description: string, value: number, { minimum = 1, maximum = MAX_TIMER_MS }: { minimum?: number, maximum?: number } = {}) =>
  Type.Integer({ minimum, maximum, default: value, description: `${description}, in milliseconds` })

/** The core's options that are numbers, strings or booleans, with their defaults. */
const CoreSettings = Type.Object({
  prefix: Type.String({ default: '/api/websocket', pattern: '^(/[^/]+)*$', description: 'Path prefix of all routes' }),
  keyPrefix: Type.String({ default: 'rt', pattern: '^[A-Za-z0-9._-]+$', description: 'Prefix of every Redis key and channel' }),
  ids: Type.Unsafe<IdKind>(Type.String({
    default: 'integer',
    pattern: '^(integer|string)$',
    description: 'Ids of tenants and users: positive integers, or strings such as UUIDs. Chosen once for a database, with its first migration'
  })),
  requestsPerMinute: Type.Integer({ default: 600, minimum: 0, description: 'REST requests of one user per minute; 0: no limit' }),
  // Below the minimum, one late renewal would cost a healthy node its lease.
  presenceLease: ms('Time after which a silent node counts as dead and its users as offline', 15_000, { minimum: 3000 }),
  presenceGrace: ms('Time after the last connection closed until its user is offline', 5000, { minimum: 0 }),
  restLease: ms('Time after its last heartbeat until a connection without a socket is removed', 75_000, { minimum: 1000 }),
  storageTimeout: ms('Time after which a statement of the database fails', 3000, { minimum: 100 }),
  maxQueuedEvents: Type.Integer({ default: 10_000, minimum: 0, description: 'Durable events that may wait for the database; beyond it they are refused with RT_STORAGE_UNAVAILABLE. 0: no limit' }),
  authConcurrency: Type.Integer({
    default: 100, minimum: 1, description: 'Concurrent calls of authenticate, and of authorize; one user or address gets at most a tenth of them'
  }),
  hostTimeout: ms('Time after which a call of a host function counts as failed: "not now"', 5000, { minimum: 100 }),
  failedAuthPerMinute: Type.Integer({ default: 60, minimum: 0, description: 'Failed logins per minute of one client address before it is slowed down; 0: no limit' }),
  userCacheTime: ms('Time for which a name from resolveUsers is cached', 60_000, { minimum: 0 }),
  statsInterval: ms('Interval of the stats lines in the log; 0: none', 60_000, { minimum: 0 }),
  migrate: Type.Boolean({ default: true, description: 'Run missing migrations at registration; false if a release process runs them' }),
  retentionDays: Type.Integer({ default: 30, minimum: 1, description: 'Days for which disconnected connections and delivered events are kept' }),
  audit: Type.Unsafe<'all' | 'durable'>(Type.String({
    default: 'all', pattern: '^(all|durable)$', description: 'Which events leave rows in websocket_events: with durable, typing and presence leave none'
  })),
  maintenance: Type.Boolean({ default: true, description: 'Whether this node takes part in periodic work for the cluster: expiry, retries, purges' })
})

/** Options of the core, `app.register(realtime, options)`. */
export interface RealtimeOptions extends Partial<Static<typeof CoreSettings>> {
  /** A Kysely instance (MySQL, MariaDB or SQLite), or a URL: `mysql://…`, `sqlite:path`, `sqlite::memory:`. */
  database: unknown
  /** An ioredis instance (`Redis` or `Cluster`) or a URL, `redis://…`. Absent: a single process, with all live state in memory. */
  redis?: unknown
  /**
   * Signs the messages between nodes; messages without a valid signature are dropped. At least 32 characters. In a list, the
   * first secret signs and all verify. To replace a secret, add the new one last, then move it to the front, then remove the
   * old one, deploying each step to all nodes.
   */
  secret?: string | readonly string[] | undefined
  /** Returns the identity behind a token, or null. */
  authenticate: Authenticate
  /**
   * Decides what an identity may do. Absent: everyone may send direct messages inside their tenant, and nothing else. Not called
   * for a user's subscription to `presence`, `broadcast` and the own private channel.
   */
  authorize?: Authorize
  /** The same for several subscriptions in one frame. Absent: `authorize` is called for each. */
  authorizeMany?: AuthorizeMany
  /** Returns the limits of a tenant, over all nodes; the result is cached for 60 s. Absent: tenants have none. */
  tenantLimits?: TenantLimitsOf
  /** Returns the names of users. Absent: users have no names. */
  resolveUsers?: ResolveUsers
  /** The source of the time of day, for tests; see `MovableClock` in `fastify-realtime/testing`. */
  clock?: Clock
}

export type CoreSettings = Static<typeof CoreSettings>

const MIN_SECRET = 32

/**
 * Checks options against a schema and fills in its defaults; `besides` names the options that the schema does not describe.
 * Throws an {@link OptionError} that names the first wrong or unknown option.
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

/** The secrets, the one that signs first. Throws an {@link OptionError} that does not contain them. */
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
    of: 'core', besides: ['database', 'redis', 'authenticate', 'authorize', 'authorizeMany', 'resolveUsers', 'tenantLimits', 'secret', 'clock']
  })
  if (options.database === undefined) throw new OptionError('database', 'is missing: a Kysely instance or a URL')
  if (typeof options.authenticate !== 'function') {
    throw new OptionError('authenticate', 'is missing: a function ({ token, request }) → identity or null')
  }
  for (const name of ['authorize', 'authorizeMany', 'resolveUsers', 'tenantLimits'] as const) {
    if (options[name] !== undefined && typeof options[name] !== 'function') throw new OptionError(name, 'must be a function')
  }
  readSecrets(options.secret)
  if (options.clock !== undefined && typeof options.clock?.now !== 'function') {
    throw new OptionError('clock', 'must be an object with now(), milliseconds since 1970')
  }
  if (settings.presenceLease <= settings.presenceGrace) {
    throw new OptionError('presenceLease', 'must be longer than presenceGrace: users of a dead node are offline after presenceLease')
  }
  return settings
}

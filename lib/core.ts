import { randomUUID } from 'node:crypto'
import type { FastifyBaseLogger, FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import type { Access } from './access.js'
import { createAccess } from './access/create.js'
import { APPLY, type AccessLog } from './access/log.js'
import type { Restrictions } from './access/restrictions.js'
import type { Backplane } from './backplane/contract.js'
import { MemoryBackplane } from './backplane/memory.js'
import { RedisBackplane } from './backplane/redis.js'
import { noPosition, RedisPosition } from './backplane/redis-position.js'
import { channelKey } from './channels.js'
import { systemClock, type Clock } from './clock.js'
import type { Database, Dialect } from './database/dialect.js'
import { examine, type DatabaseFacts } from './database/examine.js'
import { readMeta, type DatabaseMeta } from './database/meta.js'
import { migrate, missingMigrations } from './database/migrator.js'
import { freshSockets } from './database/older-nodes.js'
import { openDatabase, type OpenDatabase } from './database/open.js'
import { Directory } from './directory.js'
import { OptionError, RealtimeError } from './errors.js'
import { EventLog } from './event-log/index.js'
import { GapFiller } from './gap-filler.js'
import { FrameRouter, type LocalConnection } from './frame-router.js'
import { Hub } from './hub.js'
import { Lifecycle } from './lifecycle.js'
import { RateCounters } from './limits.js'
import { Maintenance } from './maintenance.js'
import { Meters } from './meters.js'
import { readCoreOptions, readSecrets, type CoreSettings, type RealtimeOptions } from './options.js'
import { withParts } from './parts.js'
import { encodeFrame } from './protocol.js'
import { connectRedis } from './redis.js'
import type { PageSource } from './replayer.js'
import { livingLeases } from './redis-older-nodes.js'
import type { Roster } from './roster/contract.js'
import { MemoryRoster } from './roster/memory.js'
import { RedisRoster } from './roster/redis.js'
import { SWEEP_INTERVAL, Sweeper } from './sweeper.js'

/** How many times longer than others a statement may take that nobody waits for. */
const SLOW = 10

/** An ephemeral event for whoever listens now. */
export interface EphemeralEvent {
  tenantId: number
  channel: string
  event: string
  data: Record<string, unknown>
  /** The connection that must not get it. */
  except?: string | null
}

/** The database, as the plugins' stores have it. */
export interface StorageAccess {
  /** Statements that take longer than `storageTimeout` fail. */
  readonly db: Database
  /** For what may take longer: counts of large tables, purges. */
  readonly slow: Database
  readonly dialect: Dialect
  /** A statement for a client that waits for it: rejects with `RT_STORAGE_UNAVAILABLE` where the database fails. */
  ask<T> (statement: () => Promise<T>): Promise<T>
}

/** What the plugins meet in, `fastify.realtime`. */
export interface Realtime {
  /** Boot id of this node: a restarted process is another node. */
  readonly nodeId: string
  readonly settings: CoreSettings
  readonly clock: Clock
  readonly access: Access
  /** The host's decisions about live connections; plugins say what they do here. */
  readonly accessLog: AccessLog
  readonly restrictions: Restrictions
  readonly directory: Directory
  readonly rates: RateCounters
  readonly frames: FrameRouter
  readonly hub: Hub
  readonly backplane: Backplane
  readonly roster: Roster
  readonly eventLog: EventLog
  readonly meters: Meters
  readonly database: StorageAccess
  /** What happens, for host code: `events.on('online', …)`. */
  readonly events: Lifecycle
  /** Channels to which every authenticated connection is subscribed, besides its own private one. */
  readonly automaticChannels: Set<string>
  /** What waited for a connection's user, to be sent right after it is authenticated and before anything newer; null: nothing ever does. */
  waiting: ((connection: LocalConnection) => PageSource) | null
  /** The connections whose socket is on this node, by {@link localKey}. Filled by the connections plugin. */
  readonly local: Map<string, LocalConnection>
  /** Answers questions of other nodes: `ask(nodeId, op, data)` there resolves to what the handler here resolves to. */
  onAsk (op: string, handler: (data: unknown) => Promise<unknown>): void
  /**
   * Tells an ephemeral event to a channel's subscribers on every node; who is away misses it. Throws `RT_INVALID_DATA` where
   * it is too large for its readers, and nothing else.
   */
  tell (event: EphemeralEvent): void
  /** Runs while log, roster and database still work, after the last socket is closed; in the order of registration. */
  beforeClose (task: () => Promise<void>): void
  /** True while the database stores events and Redis takes what it is given: both are asked by writing. */
  health (): Promise<{ ok: boolean, database: boolean, redis: boolean }>
}

/** What each registered plugin adds to `fastify.realtime`, by declaration merging. Reading what is not registered throws. */
// eslint-disable-next-line @typescript-eslint/no-empty-object-type -- filled by the plugins
export interface RealtimeParts {}

declare module 'fastify' {
  interface FastifyInstance {
    realtime: Realtime & RealtimeParts
  }
}

/** The RPC by which nodes tell each other how far the log is. */
const LOG_POSITION = 'log.position'

/** The key of a connection in {@link Realtime.local}. */
export const localKey = (tenantId: number, connectionId: string): string => `${tenantId}/${connectionId}`

/**
 * The shared core: `await app.register(realtime, { database, redis, authenticate, authorize, resolveUsers })`.
 * Opens what is given as a URL, and closes only that. Throws an {@link OptionError} that names a missing or wrong option.
 */
async function realtimeCore (fastify: FastifyInstance, options: RealtimeOptions): Promise<void> {
  // Before anything is opened that nobody would close.
  if (fastify.hasDecorator('realtime')) throw new Error('the core is registered already: register it once and the plugins after it')
  const settings = readCoreOptions(options)
  const clock = options.clock ?? systemClock
  const log = fastify.log
  const nodeId = randomUUID()
  const opened = openDatabase(options.database)
  const { facts, meta } = await prepareDatabase(opened, settings, options.redis, log).catch(async (err: unknown) => {
    await opened.close()
    throw err
  })
  const redis = options.redis === undefined
    ? null
    : await connectRedis(options.redis, `${settings.keyPrefix}:${meta.identity}`, log)
        .catch(async (err: unknown) => {
          await opened.close()
          throw err
        })
  // A node that died must be noticed, and all its users told, within the time that the host gave.
  const lease = settings.presenceLease - Math.max(2 * SWEEP_INTERVAL, settings.presenceLease / 5)
  const times = { lease, grace: settings.presenceGrace, restLease: settings.restLease }
  const roster: Roster = redis === null ? new MemoryRoster(nodeId, clock, times) : new RedisRoster(nodeId, redis, clock, times, log)
  const meters = new Meters()
  const backplane: Backplane = redis === null
    ? new MemoryBackplane(nodeId)
    : new RedisBackplane(nodeId, redis, { log, secrets: readSecrets(options.secret), rejected: (reason) => { meters.rejected[reason]++ } })
  const hub = new Hub(backplane)
  const events = new Lifecycle(log)
  const { dialect } = opened
  const db = opened.within(settings.storageTimeout)
  const slow = opened.within(SLOW * settings.storageTimeout)
  const eventLog = new EventLog({
    db,
    dialect,
    facts,
    discard: () => { opened.discard() },
    backplane,
    hub,
    clock,
    log,
    meta,
    note: redis === null ? noPosition : new RedisPosition(redis),
    askPeers: async (mine) => {
      const others = (await roster.aliveNodes()).filter((node) => node !== nodeId)
      const answers = await Promise.allSettled(others.map(async (node) => await backplane.ask(node, LOG_POSITION, mine)))
      return answers.flatMap((answer) => answer.status === 'fulfilled' ? [answer.value] : [])
    },
    epochChanged: () => { gapFiller.forget() },
    maxQueued: settings.maxQueuedEvents,
    timeout: settings.storageTimeout,
    online: async (users) => await onlineAmong(roster, users),
    failed: (event) => { events.emit('failed', event) },
    measured: (rows, seconds) => { meters.committed?.(rows, seconds) }
  })
  const maintenance = new Maintenance({
    db: slow, dialect, clock, log, retentionDays: settings.retentionDays, aliveNodes: async () => await roster.aliveNodes()
  })
  const sweeper = new Sweeper({
    roster, eventLog, maintenance, events, log, compareWithin: times.lease / 3, enabled: settings.maintenance
  })
  const gapFiller = new GapFiller({ hub, eventLog, log })
  const aliveNodes = async (): Promise<string[]> => await roster.aliveNodes()
  const { access, accessLog, restrictions } = createAccess(options, { settings, db, backplane, aliveNodes, clock, log })
  const asks = new Map<string, (data: unknown) => Promise<unknown>>([
    [LOG_POSITION, async (theirs) => {
      eventLog.epoch.hear(theirs)
      return eventLog.epoch.position
    }],
    [APPLY, async (data) => await accessLog.receive(data)]
  ])
  const closing: Array<() => Promise<void>> = []

  const realtime: Realtime = {
    nodeId,
    settings,
    clock,
    access,
    accessLog,
    restrictions,
    directory: new Directory({ resolveUsers: options.resolveUsers, clock, log, keep: settings.userCacheTime }),
    rates: new RateCounters(roster),
    frames: new FrameRouter(),
    hub,
    backplane,
    roster,
    eventLog,
    meters,
    database: { db, slow, dialect, ask: async (statement) => await eventLog.ask(statement) },
    events,
    automaticChannels: new Set(),
    waiting: null,
    local: new Map(),
    onAsk: (op, handler) => { asks.set(op, handler) },
    beforeClose: (task) => { closing.push(task) },
    tell: ({ tenantId, channel, event, data, except = null }) => {
      const key = channelKey(tenantId, channel)
      if (!backplane.mayHear(key)) return
      const payload = encodeFrame(event, data)
      eventLog.requireSize(payload)
      backplane.publish(key, { payload, messageId: 0, except, again: false })
        .catch(() => {}) // the backplane has told this node's own members
    },
    health: async () => {
      const databaseOk = eventLog.healthy && await eventLog.probe().then(() => true, () => false)
      const redisOk = backplane.healthy && roster.healthy
      return { ok: databaseOk && redisOk, database: databaseOk, redis: redisOk }
    }
  }

  fastify.decorate('realtime', withParts(realtime))
  fastify.addHook('onClose', async () => {
    gapFiller.stop()
    eventLog.epoch.stop()
    await sweeper.stop()
    await accessLog.close()
    for (const task of closing) await task()
    await eventLog.close()
    await roster.close()
    await backplane.close()
    redis?.close()
    await opened.close()
  })
  await roster.start()
  await backplane.start({
    deliver: (key, frames) => { hub.deliver(key, frames) },
    missed: (keys) => { gapFiller.missed(keys) },
    heard: (sentAt) => {
      meters.roundTrip?.((Date.now() - sentAt) / 1000)
      gapFiller.heard(sentAt)
    },
    back: () => {
      void eventLog.outbox.catchUp()
      sweeper.hurry()
    },
    asked: async (op, data) => {
      const handler = asks.get(op)
      if (handler === undefined) throw new RealtimeError('RT_NOT_FOUND', `No plugin of that node answers ${op}`)
      return await handler(data)
    }
  })
  fastify.addHook('onReady', async () => {
    await eventLog.epoch.start()
    await gapFiller.start()
    await accessLog.start()
    sweeper.start()
  })
}

/** Brings the tables up to date, and finds out what the database is. Throws an {@link OptionError} that says what to do. */
async function prepareDatabase (
  opened: OpenDatabase, settings: CoreSettings, redis: unknown, log: FastifyBaseLogger
): Promise<{ facts: DatabaseFacts, meta: DatabaseMeta }> {
  const inUse = async (): Promise<string | null> =>
    redis === undefined ? await freshSockets(opened) : await livingLeases(redis, settings.keyPrefix, log)
  try {
    const missing = await missingMigrations(opened)
    if (missing.length > 0 && !settings.migrate) {
      throw new OptionError('database', `lacks the migrations ${missing.join(', ')}: run npx fastify-realtime migrate, or set migrate to true`)
    }
    if (missing.length > 0) await migrate(opened.db, 'up', { olderNode: inUse })
    return { facts: await examine(opened), meta: await readMeta(opened.db) }
  } catch (err) {
    throw err instanceof OptionError ? err : new OptionError('database', `cannot be used: ${messageOf(err)}`, err)
  }
}

async function onlineAmong (roster: Roster, users: ReadonlyArray<{ tenantId: number, userId: number }>): Promise<Set<string>> {
  const found = new Set<string>()
  for (const tenantId of new Set(users.map((user) => user.tenantId))) {
    const ids = [...new Set(users.filter((user) => user.tenantId === tenantId).map(({ userId }) => userId))]
    const presences = await roster.presence(tenantId, ids)
    ids.forEach((userId, i) => { if (presences[i] !== null) found.add(`${tenantId}/${userId}`) })
  }
  return found
}

const messageOf = (err: unknown): string => err instanceof Error ? err.message : String(err)

export const realtime = fp(realtimeCore, { name: 'realtime', fastify: '5.x' })

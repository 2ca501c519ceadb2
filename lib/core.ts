import { randomUUID } from 'node:crypto'
import type { FastifyBaseLogger, FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { Access } from './access/access.js'
import { RateCounters } from './access/rate-counters.js'
import { UserDirectory } from './access/user-directory.js'
import type { Backplane } from './backplane/contract.js'
import { MemoryBackplane } from './backplane/memory.js'
import { RedisBackplane } from './backplane/redis.js'
import { systemClock } from './clock.js'
import type { Database, Dialect } from './database/dialect.js'
import { examine, type DatabaseFacts } from './database/examine.js'
import { readMeta, type DatabaseMeta } from './database/meta.js'
import { migrate, missingMigrations } from './database/migrator.js'
import { freshSockets } from './database/older-nodes.js'
import { requireStoredKind } from './database/id-columns.js'
import { openDatabase, type OpenDatabase } from './database/open.js'
import { Hub } from './delivery/hub.js'
import { OptionError, RealtimeError } from './errors.js'
import { GapFiller } from './event-log/gap-filler.js'
import { EventLog } from './event-log/index.js'
import { noPosition, RedisPosition } from './event-log/redis-position.js'
import { FrameRouter } from './frame-router.js'
import { Ids } from './ids.js'
import { provideInternals, type Internals } from './internals.js'
import { channelKey, userKey, type UserKey, type UserRef } from './keys.js'
import { LifecycleBus } from './lifecycle/events.js'
import { Metrics } from './metrics.js'
import { withParts } from './parts.js'
import { publicFace } from './realtime.js'
import { connectRedis } from './redis/connect.js'
import { livingLeases } from './redis/older-nodes.js'
import type { Roster } from './roster/contract.js'
import { MemoryRoster } from './roster/memory/roster.js'
import { RedisRoster } from './roster/redis/roster.js'
import { readCoreOptions, readSecrets, type CoreSettings, type RealtimeOptions } from './settings.js'
import { Maintenance } from './upkeep/maintenance.js'
import { TICK_INTERVAL_MS, Scheduler } from './upkeep/scheduler.js'
import { encodeFrame } from './wire/protocol.js'

/** How many times longer than others a statement may take that nobody waits for. */
const SLOW = 10

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

/** The RPC by which nodes tell each other how far the log is. */
const LOG_POSITION = 'log.position'

/**
 * The shared core: `await app.register(realtime, { database, redis, authenticate, authorize, resolveUsers })`.
 * Opens what is given as a URL, and closes only that. Throws an {@link OptionError} that names a missing or wrong option.
 */
async function realtimeCore (fastify: FastifyInstance, options: RealtimeOptions): Promise<void> {
  // Before anything is opened that nobody would close.
  if (fastify.hasDecorator('realtime')) throw new Error('the core is registered already: register it once and the plugins after it')
  const settings = readCoreOptions(options)
  const ids = new Ids(settings.ids)
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
  const nodeTimeout = settings.presenceLease - Math.max(2 * TICK_INTERVAL_MS, settings.presenceLease / 5)
  const times = { nodeTimeout, offlineDelay: settings.presenceGrace, registrationTtl: settings.restLease }
  const roster: Roster = redis === null ? new MemoryRoster(nodeId, ids, clock, times) : new RedisRoster(nodeId, redis, ids, clock, times, log)
  const metrics = new Metrics()
  const backplane: Backplane = redis === null
    ? new MemoryBackplane(nodeId)
    : new RedisBackplane(nodeId, redis, { log, secrets: readSecrets(options.secret), rejected: (reason) => { metrics.rejected[reason]++ } })
  const hub = new Hub(backplane, clock)
  const bus = new LifecycleBus(log)
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
    ids,
    note: redis === null ? noPosition : new RedisPosition(redis),
    askPeers: async (mine) => {
      const others = (await roster.aliveNodes()).filter((node) => node !== nodeId)
      const answers = await Promise.allSettled(others.map(async (node) => await backplane.call(node, LOG_POSITION, mine)))
      return answers.flatMap((answer) => answer.status === 'fulfilled' ? [answer.value] : [])
    },
    epochChanged: () => { gapFiller.forget() },
    maxQueued: settings.maxQueuedEvents,
    timeout: settings.storageTimeout,
    onlineAmong: async (users) => await onlineAmong(roster, users),
    onFailed: (event) => { bus.emit('failed', event) },
    onCommit: (rows, seconds) => { metrics.committed?.(rows, seconds) }
  })
  const maintenance = new Maintenance({
    db: slow, dialect, clock, log, retentionDays: settings.retentionDays, aliveNodes: async () => await roster.aliveNodes()
  })
  const scheduler = new Scheduler({
    roster, eventLog, maintenance, events: bus, log, compareWithin: times.nodeTimeout / 3, enabled: settings.maintenance
  })
  const gapFiller = new GapFiller({ hub, eventLog, ids, clock, log })
  const rpcHandlers = new Map<string, (data: unknown) => Promise<unknown>>([[LOG_POSITION, async (theirs) => {
    eventLog.epoch.hear(theirs)
    return eventLog.epoch.position
  }]])
  const closing: Array<() => Promise<void>> = []

  const internals: Internals = {
    nodeId,
    settings,
    ids,
    clock,
    access: new Access({ authenticate: options.authenticate, authorize: options.authorize, authorizeMany: options.authorizeMany, ids, concurrency: settings.authConcurrency, clock, log }),
    directory: new UserDirectory({ resolveUsers: options.resolveUsers, ids, clock, log, ttl: settings.userCacheTime }),
    rates: new RateCounters(roster),
    frames: new FrameRouter(ids.kind),
    hub,
    backplane,
    roster,
    eventLog,
    metrics,
    database: { db, slow, dialect, ask: async (statement) => await eventLog.ask(statement) },
    bus,
    defaultChannels: new Set(),
    waiting: null,
    localConnections: new Map(),
    rpc: {
      handle: (op, handler) => { rpcHandlers.set(op, handler) },
      call: async (nodeId, op, data) => await backplane.call(nodeId, op, data)
    },
    onBeforeClose: (task) => { closing.push(task) },
    emit: ({ tenantId, channel, event, data, excludeConnectionId = null }) => {
      const key = channelKey(tenantId, channel)
      if (!backplane.mayHaveSubscribers(key)) return
      const payload = encodeFrame(event, data)
      eventLog.requireSize(payload)
      backplane.publish(key, { payload, messageId: 0, excludeConnectionId, isRetry: false })
        .catch(() => {}) // the backplane has told this node's own members
    },
    health: async () => {
      const databaseOk = eventLog.healthy && await eventLog.probe().then(() => true, () => false)
      const redisOk = backplane.healthy && roster.healthy
      return { ok: databaseOk && redisOk, database: databaseOk, redis: redisOk }
    }
  }

  provideInternals(fastify, internals)
  fastify.decorate('realtime', withParts(publicFace(internals)))
  fastify.addHook('onClose', async () => {
    gapFiller.stop()
    eventLog.epoch.stop()
    await scheduler.stop()
    for (const task of closing) await task()
    await eventLog.close()
    await roster.close()
    await backplane.close()
    redis?.close()
    await opened.close()
  })
  await roster.start()
  await backplane.start({
    onEvents: (key, frames) => { hub.deliver(key, frames) },
    onGap: (keys) => { gapFiller.fillGaps(keys) },
    onProbe: (sentAt) => {
      metrics.roundTrip?.((performance.now() - sentAt) / 1000)
      gapFiller.noteProbe(sentAt)
    },
    onReconnected: () => {
      void eventLog.outbox.catchUp()
      scheduler.renewSoon()
    },
    onRequest: async (op, data) => {
      const handler = rpcHandlers.get(op)
      if (handler === undefined) throw new RealtimeError('RT_NOT_FOUND', `No plugin of that node answers ${op}`)
      return await handler(data)
    }
  })
  fastify.addHook('onReady', async () => {
    await eventLog.epoch.start()
    await gapFiller.start()
    scheduler.start()
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
    if (missing.length > 0) await migrate(opened.db, 'up', { olderNode: inUse, ids: settings.ids })
    const meta = await readMeta(opened.db)
    requireStoredKind(settings.ids, meta.ids)
    return { facts: await examine(opened), meta }
  } catch (err) {
    throw err instanceof OptionError ? err : new OptionError('database', `cannot be used: ${messageOf(err)}`, err)
  }
}

async function onlineAmong (roster: Roster, users: readonly UserRef[]): Promise<Set<UserKey>> {
  const found = new Set<UserKey>()
  for (const tenantId of new Set(users.map((user) => user.tenantId))) {
    const ids = [...new Set(users.filter((user) => user.tenantId === tenantId).map(({ userId }) => userId))]
    const presences = await roster.presence(tenantId, ids)
    ids.forEach((userId, i) => { if (presences[i] !== null) found.add(userKey(tenantId, userId)) })
  }
  return found
}

const messageOf = (err: unknown): string => err instanceof Error ? err.message : String(err)

export const realtime = fp(realtimeCore, { name: 'realtime', fastify: '5.x' })

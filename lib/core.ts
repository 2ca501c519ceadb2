import { randomUUID } from 'node:crypto'
import type { FastifyBaseLogger, FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import type { AccessControl } from './access/control.js'
import { createAccess } from './access/create.js'
import { APPLY } from './access/log.js'
import { RateCounters } from './access/rate-counters.js'
import { SharedRates } from './access/shared-rates.js'
import { TenantLimits } from './access/tenant-limits.js'
import { UserDirectory } from './access/user-directory.js'
import { isPromise } from './async/maybe-promise.js'
import type { Backplane, OutgoingEvent } from './backplane/contract.js'
import { MemoryBackplane } from './backplane/memory.js'
import { RedisBackplane } from './backplane/redis.js'
import { systemClock } from './clock.js'
import { Hub } from './delivery/hub.js'
import { RealtimeError } from './errors.js'
import { Backfill } from './event-log/backfill.js'
import { GapFiller } from './event-log/gap-filler.js'
import { EventLog } from './event-log/index.js'
import { connectedAmong, unconfirmed } from './event-log/unconfirmed.js'
import { noPosition, RedisPosition } from './event-log/redis-position.js'
import { FrameRouter } from './frame-router.js'
import { Ids } from './ids.js'
import { provideInternals, type Internals } from './internals.js'
import { channelKey } from './keys.js'
import { LifecycleBus } from './lifecycle/events.js'
import { Metrics } from './metrics.js'
import { withParts } from './parts.js'
import { publicFace } from './realtime.js'
import { openResources, type Resources } from './resources.js'
import type { Roster } from './roster/contract.js'
import { MemoryRoster } from './roster/memory/roster.js'
import { RedisRoster } from './roster/redis/roster.js'
import { readCoreOptions, readSecrets, type CoreSettings, type RealtimeOptions } from './settings.js'
import { Maintenance } from './upkeep/maintenance.js'
import { Scheduler, TICK_INTERVAL_MS } from './upkeep/scheduler.js'
import { encodeFrame } from './wire/protocol.js'

/** A statement that no client waits for may take this multiple of `storageTimeout`. */
const SLOW = 10

/** The RPC by which nodes exchange their newest positions in the log. */
const LOG_POSITION = 'log.position'

/** The internals and their lifecycle, from `start` to `close`. */
interface Core {
  readonly internals: Internals
  readonly accessControl: AccessControl
  /** Before the first plugin registers: roster and backplane work from here on. */
  start (): Promise<void>
  /** When every plugin is registered: periodic work begins. */
  ready (): Promise<void>
  close (): Promise<void>
}

/**
 * The shared core: `await app.register(realtime, { database, redis, authenticate, authorize, resolveUsers })`.
 * Opens a database and a Redis given as URLs, and closes only these. Throws an {@link OptionError} that names a missing or wrong option.
 */
async function realtimeCore (fastify: FastifyInstance, options: RealtimeOptions): Promise<void> {
  // Before anything is opened that would have to be closed.
  if (fastify.hasDecorator('realtime')) throw new Error('the core is registered already: register it once and the plugins after it')
  const settings = readCoreOptions(options)
  const resources = await openResources(options, settings, fastify.log)
  const core = createCore(resources, options, settings, fastify.log)
  provideInternals(fastify, core.internals)
  fastify.decorate('realtime', withParts(publicFace(core.internals, core.accessControl, fastify.prefix)))
  fastify.addHook('onClose', async () => { await core.close() })
  await core.start()
  fastify.addHook('onReady', async () => { await core.ready() })
}

function createCore (resources: Resources, options: RealtimeOptions, settings: CoreSettings, log: FastifyBaseLogger): Core {
  const { database, facts, meta, redis } = resources
  const { dialect } = database
  const ids = new Ids(settings.ids)
  const clock = options.clock ?? systemClock
  const nodeId = randomUUID()
  const metrics = new Metrics()
  const bus = new LifecycleBus(log)
  // A dead node must be noticed, and its users' `offline` emitted, within presenceLease.
  const nodeTimeout = settings.presenceLease - Math.max(2 * TICK_INTERVAL_MS, settings.presenceLease / 5)
  const times = { nodeTimeout, offlineDelay: settings.presenceGrace, registrationTtl: settings.restLease }
  const roster: Roster = redis === null ? new MemoryRoster(nodeId, ids, clock, times) : new RedisRoster(nodeId, redis, ids, clock, times, log)
  const backplane: Backplane = redis === null
    ? new MemoryBackplane(nodeId)
    : new RedisBackplane(nodeId, redis, { log, secrets: readSecrets(options.secret), rejected: (reason) => { metrics.rejected[reason]++ } })
  const hub = new Hub(backplane, clock)
  const db = database.within(settings.storageTimeout)
  const slow = database.within(SLOW * settings.storageTimeout)
  const eventLog = new EventLog({
    db,
    dialect,
    facts,
    discard: () => { database.discard() },
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
    maxQueued: settings.maxQueuedEvents === 0 ? Infinity : settings.maxQueuedEvents,
    auditsEphemeral: settings.audit === 'all',
    timeout: settings.storageTimeout,
    connectedAmong: async (users) => await connectedAmong(roster, users),
    onFailed: (event, reason) => { bus.emit('failed', { ...unconfirmed(event, ids), channel: event.channel, payload: event.payload, id: event.id, reason }) },
    onWaiting: (event) => { bus.emit('waiting', unconfirmed(event, ids)) },
    isWaitingHeard: () => bus.isHeard('waiting'),
    onStored: ({ tenantId, userId, type, channel, data }, messageId) => { bus.emit('message', { tenantId, userId, messageId, type, channel, data }) },
    onCommit: (rows, seconds) => { metrics.committed?.(rows, seconds) }
  })
  bus.on('disconnected', (user) => { eventLog.departures.add(user) })
  bus.on('offline', (user) => { eventLog.departures.add(user) })
  const gapFiller = new GapFiller({ hub, eventLog, ids, clock, log })
  const aliveNodes = async (): Promise<string[]> => await roster.aliveNodes()
  const { access, accessControl, accessLog, restrictions } = createAccess(options, { settings, ids, db, backplane, aliveNodes, bus, metrics, clock, log })
  const rpcHandlers = new Map<string, (data: unknown) => Promise<unknown>>([
    [LOG_POSITION, async (theirs) => {
      eventLog.epoch.learn(theirs)
      return eventLog.epoch.position
    }],
    [APPLY, async (data) => await accessLog.receive(data)]
  ])
  const closing: Array<() => Promise<void>> = []

  const rates = new RateCounters(roster)
  const sharedRates = new SharedRates(clock, redis === null ? null : async (...counts) => await roster.addCounts(...counts), log)
  const internals: Internals = {
    nodeId,
    settings,
    ids,
    clock,
    access,
    accessLog,
    restrictions,
    directory: new UserDirectory({ resolveUsers: options.resolveUsers, clock, log, ttl: settings.userCacheTime }),
    rates,
    sharedRates,
    tenantLimits: new TenantLimits(options.tenantLimits, { rates, clock, log, timeout: settings.hostTimeout }),
    frames: new FrameRouter(rates, ids.kind),
    hub,
    backplane,
    roster,
    eventLog,
    metrics,
    database: { db, slow, dialect, behind: [eventLog.audits], ask: async (statement) => await eventLog.ask(statement) },
    bus,
    defaultChannels: new Set(),
    waiting: null,
    channelLeft: null,
    beginWatches: null,
    screening: null,
    streamSubscriptions: null,
    conversations: null,
    localConnections: new Map(),
    purges: [],
    rpc: {
      handle: (op, handler) => { rpcHandlers.set(op, handler) },
      call: async (nodeId, op, data) => await backplane.call(nodeId, op, data)
    },
    onBeforeClose: (task) => { closing.push(task) },
    emit: ({ tenantId, channel, event, data, excludeConnectionId = null, about, withoutSelf }) => {
      const key = channelKey(tenantId, channel)
      if (!backplane.mayHaveSubscribers(key)) return
      const payload = encodeFrame(event, data)
      eventLog.requireSize(payload)
      const outgoing: OutgoingEvent = { payload, messageId: 0, excludeConnectionId, isRetry: false }
      if (about !== undefined) Object.assign(outgoing, { about: about.join(), withoutSelf })
      const published = backplane.publish(key, outgoing)
      if (isPromise(published)) published.catch(() => {}) // the backplane has delivered it locally
    },
    health: async () => {
      const databaseOk = eventLog.healthy && await eventLog.probe().then(() => true, () => false)
      const redisOk = backplane.healthy && roster.healthy
      return { ok: databaseOk && redisOk, database: databaseOk, redis: redisOk }
    }
  }

  const maintenance = new Maintenance({
    db: slow, dialect, clock, log, retentionDays: settings.retentionDays, aliveNodes, purges: internals.purges
  })
  const scheduler = new Scheduler({
    roster, eventLog, maintenance, backfill: new Backfill({ db: slow, dialect, ids, clock }), events: bus, log, compareWithin: nodeTimeout / 3, enabled: settings.maintenance
  })

  return {
    internals,
    accessControl,
    start: async () => {
      await roster.start()
      await backplane.start({
        onEvents: (key, frames) => { hub.deliver(key, frames) },
        onGap: (keys) => { gapFiller.fillGaps(keys) },
        onProbe: (sentAt) => {
          metrics.roundTrip?.((performance.now() - sentAt) / 1000)
          gapFiller.noteProbe(sentAt)
        },
        onReconnected: () => {
          void eventLog.catchUp()
          scheduler.renewSoon()
          bus.emit('reconnected')
        },
        onRequest: async (op, data) => {
          const handler = rpcHandlers.get(op)
          if (handler === undefined) throw new RealtimeError('RT_NOT_FOUND', `That node has no handler for ${op}`)
          return await handler(data)
        }
      })
    },
    ready: async () => {
      await eventLog.epoch.start()
      await gapFiller.start()
      await accessLog.start()
      scheduler.start()
    },
    close: async () => {
      gapFiller.stop()
      eventLog.epoch.stop()
      await scheduler.stop()
      await accessLog.close()
      await sharedRates.close()
      for (const task of closing) await task()
      await eventLog.close()
      await roster.close()
      await backplane.close()
      await resources.close()
    }
  }
}

export const realtime = fp(realtimeCore, { name: 'realtime', fastify: '5.x' })

import { randomUUID } from 'node:crypto'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { Access } from './access.js'
import type { Backplane } from './backplane/contract.js'
import { MemoryBackplane } from './backplane/memory.js'
import { RedisBackplane } from './backplane/redis.js'
import { linkTo } from './backplane/redis-link.js'
import { noPosition, RedisPosition } from './backplane/redis-position.js'
import { channelKey } from './channels.js'
import { systemClock, type Clock } from './clock.js'
import type { Database, Dialect } from './database/dialect.js'
import { readMeta } from './database/meta.js'
import { migrate } from './database/migrator.js'
import { openDatabase } from './database/open.js'
import { Directory } from './directory.js'
import { OptionError, RealtimeError } from './errors.js'
import { EventLog } from './event-log/index.js'
import { GapFiller } from './gap-filler.js'
import { FrameRouter, type LocalConnection } from './frame-router.js'
import { Hub } from './hub.js'
import { inTime } from './in-time.js'
import { Lifecycle } from './lifecycle.js'
import { RateCounters } from './limits.js'
import { askPeersBy, POSITION_QUESTION } from './log-peers.js'
import { Maintenance } from './maintenance.js'
import { Meters } from './meters.js'
import { readCoreOptions, type CoreSettings, type RealtimeOptions } from './options.js'
import { encodeFrame } from './protocol.js'
import { connectRedis } from './redis.js'
import type { Roster } from './roster/contract.js'
import { MemoryRoster } from './roster/memory.js'
import { RedisRoster } from './roster/redis.js'
import { SWEEP_INTERVAL, Sweeper } from './sweeper.js'

/** An ephemeral event for whoever listens now. */
export interface EphemeralEvent {
  tenantId: number
  channel: string
  event: string
  data: Record<string, unknown>
  /** The connection that must not get it. */
  except?: string | null
}

/** What the plugins meet in, `fastify.realtime`. */
export interface Realtime {
  /** Boot id of this node: a restarted process is another node. */
  readonly nodeId: string
  readonly settings: CoreSettings
  readonly clock: Clock
  readonly access: Access
  readonly directory: Directory
  readonly rates: RateCounters
  readonly frames: FrameRouter
  readonly hub: Hub
  readonly backplane: Backplane
  readonly roster: Roster
  readonly eventLog: EventLog
  readonly meters: Meters
  readonly database: { readonly db: Database, readonly dialect: Dialect }
  /** What happens, for host code: `events.on('online', …)`. */
  readonly events: Lifecycle
  /** Channels to which every authenticated connection is subscribed, besides its own private one. */
  readonly automaticChannels: Set<string>
  /**
   * What a connection is sent right after it is authenticated, while its private channel waits: the ids of the events sent.
   * Never reject.
   */
  readonly greetings: Array<(connection: LocalConnection) => Promise<ReadonlySet<number>>>
  /** The connections whose socket is on this node, by {@link localKey}. Filled by the connections plugin. */
  readonly local: Map<string, LocalConnection>
  /** Answers questions of other nodes: `ask(nodeId, op, data)` there resolves to what the handler here resolves to. */
  onAsk (op: string, handler: (data: unknown) => Promise<unknown>): void
  /** Tells an ephemeral event to a channel's subscribers on every node. Never throws: who is away misses it. */
  tell (event: EphemeralEvent): void
  /** Runs while log, roster and database still work, after the last socket is closed; in the order of registration. */
  beforeClose (task: () => Promise<void>): void
  /** True while database and Redis take what they are given. */
  health (): Promise<{ ok: boolean, database: boolean, redis: boolean }>
}

/** What each registered plugin adds to `fastify.realtime`, by declaration merging; absent while it is not registered. */
// eslint-disable-next-line @typescript-eslint/no-empty-object-type -- filled by the plugins
export interface RealtimeParts {}

declare module 'fastify' {
  interface FastifyInstance {
    realtime: Realtime & RealtimeParts
  }
}

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
  const database = openDatabase(options.database)
  if (settings.migrate) {
    await migrate(database.db).catch(async (cause: unknown) => {
      await database.close()
      throw new OptionError('database', `cannot be migrated: ${messageOf(cause)}`, cause)
    })
  }
  const meta = await readMeta(database.db).catch(async (cause: unknown) => {
    await database.close()
    throw new OptionError('database', `has no tables yet, or does not answer (run npx fastify-realtime migrate): ${messageOf(cause)}`, cause)
  })
  const redis = options.redis === undefined
    ? null
    : await connectRedis(options.redis, `${settings.keyPrefix}:${meta.identity}`, (err) => { log.debug({ err }, 'redis connection') })
        .catch(async (err: unknown) => {
          await database.close()
          throw err
        })
  const times = { lease: settings.presenceLease - 2 * SWEEP_INTERVAL, grace: settings.presenceGrace, restLease: settings.restLease }
  const roster: Roster = redis === null ? new MemoryRoster(nodeId, clock, times) : new RedisRoster(nodeId, redis, clock, times, log)
  const backplane: Backplane = redis === null ? new MemoryBackplane(nodeId) : new RedisBackplane(nodeId, linkTo(redis), redis.prefix, log)
  const hub = new Hub(backplane)
  const events = new Lifecycle(log)
  const meters = new Meters()
  const eventLog = new EventLog({
    ...database,
    meta,
    backplane,
    hub,
    clock,
    log,
    maxQueued: settings.maxQueuedEvents,
    timeout: settings.storageTimeout,
    online: async (users) => await onlineAmong(roster, users),
    failed: (event) => { events.emit('failed', event) },
    note: redis === null ? noPosition : new RedisPosition(redis),
    askPeers: askPeersBy(roster, backplane),
    measured: (rows, seconds) => { meters.committed?.(rows, seconds) }
  })
  const maintenance = new Maintenance({
    ...database, clock, log, retentionDays: settings.retentionDays, aliveNodes: async () => await roster.aliveNodes()
  })
  const sweeper = new Sweeper({
    roster, eventLog, maintenance, events, log, renewEvery: times.lease / 3, enabled: settings.maintenance
  })
  const gapFiller = new GapFiller({ hub, eventLog, log })
  const asks = new Map<string, (data: unknown) => Promise<unknown>>([[POSITION_QUESTION, async (data) => {
    eventLog.epochs.hear(data)
    return eventLog.epochs.position
  }]])
  const closing: Array<() => Promise<void>> = []

  const realtime: Realtime = {
    nodeId,
    settings,
    clock,
    access: new Access({ authenticate: options.authenticate, authorize: options.authorize, concurrency: settings.authConcurrency, clock, log }),
    directory: new Directory({ resolveUsers: options.resolveUsers, clock, log, keep: settings.userCacheTime }),
    rates: new RateCounters(roster),
    frames: new FrameRouter(),
    hub,
    backplane,
    roster,
    eventLog,
    meters,
    database,
    events,
    automaticChannels: new Set(),
    greetings: [],
    local: new Map(),
    onAsk: (op, handler) => { asks.set(op, handler) },
    beforeClose: (task) => { closing.push(task) },
    tell: ({ tenantId, channel, event, data, except = null }) => {
      const key = channelKey(tenantId, channel)
      if (!backplane.mayHear(key)) return
      backplane.publish(key, { payload: encodeFrame(event, data), messageId: 0, except, again: false })
        .catch(() => {}) // the backplane has told this node's own members
    },
    health: async () => {
      const databaseOk = eventLog.healthy && await inTime(eventLog.store.ping(), settings.storageTimeout, () => new Error('no answer')).then(() => true, () => false)
      const redisOk = backplane.healthy && roster.healthy
      return { ok: databaseOk && redisOk, database: databaseOk, redis: redisOk }
    }
  }

  // The parts come as the plugins register.
  fastify.decorate('realtime', realtime as Realtime & RealtimeParts)
  fastify.addHook('onClose', async () => {
    gapFiller.stop()
    await sweeper.stop()
    for (const task of closing) await task()
    await eventLog.close()
    await roster.close()
    await backplane.close()
    redis?.close()
    await database.close()
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
  // Before anything is stored or answered: while no node ran, the database may have been restored.
  await eventLog.epochs.start()
  database.onConnection(async (connection) => { await eventLog.epochs.verify({ db: connection }).catch(() => {}) })
  fastify.addHook('onReady', async () => {
    await gapFiller.start()
    sweeper.start()
  })
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

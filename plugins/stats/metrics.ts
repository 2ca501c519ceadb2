import { monitorEventLoopDelay } from 'node:perf_hooks'
import type { FastifyInstance } from 'fastify'
import { Counter, Gauge, Histogram, Registry } from 'prom-client'
import { withTimeout } from '../../lib/async/with-timeout.js'
import type { Id } from '../../lib/ids.js'
import type { Internals } from '../../lib/internals.js'
import { userKey, type UserKey } from '../../lib/keys.js'
import { FrameCounts } from '../../lib/metrics.js'
import { EventStatusStore } from './store.js'

type Values = Array<[labels: Record<string, string>, value: number]>

/** Milliseconds between two measurements of the event loop. */
const LOOP_RESOLUTION_MS = 20

/** Serves the metrics of this node as Prometheus text, from a registry of this app. Everything is read at the scrape. */
export function serveMetrics (fastify: FastifyInstance, internals: Internals, path: string): Registry {
  const registry = new Registry()
  counts(registry, internals)
  sizes(registry, internals)
  stored(registry, internals)
  times(registry, internals)
  fastify.addHook('onClose', eventLoop(registry))

  fastify.addHook('onReady', async () => {
    const { catalogue } = internals.frames
    const named = (direction: 'client' | 'server') => catalogue.filter((event) => event.direction === direction).map(({ event }) => event)
    internals.metrics.framesIn = new FrameCounts(named('client'))
    internals.metrics.framesOut = new FrameCounts(named('server'))
  })
  fastify.get(path, { schema: { hide: true } }, async (_request, reply) =>
    await reply.type(registry.contentType).send(await registry.metrics()))
  return registry
}

function counts (registry: Registry, { hub, metrics }: Internals): void {
  const counter = (name: string, help: string, label: string | null, read: () => Values): void => {
    const metric = new Counter({
      name,
      help,
      labelNames: label === null ? [] : [label],
      registers: [registry],
      collect: () => {
        metric.reset()
        for (const [labels, value] of read()) metric.inc(labels, value)
      }
    })
  }
  const byEvent = (found: FrameCounts | null): Values => (found?.counts ?? []).map(([event, count]) => [{ event }, count])
  counter('realtime_frames_received_total', 'Frames from clients, by event; other: unknown, not a frame, or past the rate', 'event',
    () => byEvent(metrics.framesIn))
  counter('realtime_frames_sent_total', 'Frames written to sockets, by event; other: events that nobody declared', 'event',
    () => byEvent(metrics.framesOut))
  counter('realtime_frames_refused_total', 'Frames of clients that were answered with an error, by its code', 'code',
    () => [...metrics.refused].map(([code, count]) => [{ code }, count]))
  counter('realtime_deliveries_total', 'Events handed to the sockets of their channels, those dropped there included', null,
    () => [[{}, hub.delivered]])
  counter('realtime_frames_dropped_total', 'Frames that were not written to their socket, by reason', 'reason', () => [
    [{ reason: 'slow_reader' }, metrics.dropped.ephemeral],
    [{ reason: 'too_slow' }, metrics.dropped.tooSlow],
    [{ reason: 'closing' }, metrics.dropped.closing]
  ])
  counter('realtime_access_refused_total', 'Identities that were refused because of a ban or a revocation, by code', 'code',
    () => [...metrics.accessRefused].map(([code, count]) => [{ code }, count]))
  counter('realtime_access_decisions_total', 'Decisions of the host about live connections that this node applied, by kind', 'kind',
    () => [...metrics.decisions].map(([kind, count]) => [{ kind }, count]))
  counter('realtime_subscriptions_revoked_total', 'Subscriptions that kick or a recheck ended', null, () => [[{}, metrics.evicted]])
  counter('realtime_backplane_rejected_total', 'Messages from Redis that were dropped: no envelope, of another version, or wrongly signed', 'reason',
    () => Object.entries(metrics.rejected).map(([reason, count]) => [{ reason }, count]))
}

function sizes (registry: Registry, internals: Internals): void {
  const { access, localConnections, hub, eventLog, backplane, roster, metrics } = internals
  gauge(registry, 'realtime_sockets', 'Sockets of this node, authenticated or not', () => [[{}, metrics.sockets?.() ?? 0]])
  gauge(registry, 'realtime_connections', 'Authenticated connections of this node', () => [[{}, localConnections.size]])
  gauge(registry, 'realtime_roster_users', 'Users with a connection on this node', () => {
    const users = new Set<UserKey>()
    for (const { identity } of open(localConnections)) users.add(userKey(identity.tenantId, identity.userId))
    return [[{}, users.size]]
  })
  gauge(registry, 'realtime_roster_tenants', 'Tenants with a connection on this node', () => {
    const tenants = new Set<Id>()
    for (const { identity } of open(localConnections)) tenants.add(identity.tenantId)
    return [[{}, tenants.size]]
  })
  gauge(registry, 'realtime_host_calls_running', 'Calls of host functions under way', () => access.load.map(({ lane, running }) => [{ lane }, running]), 'lane')
  gauge(registry, 'realtime_host_calls_waiting', 'Calls of host functions that wait for a place', () => access.load.map(({ lane, waiting }) => [{ lane }, waiting]), 'lane')
  gauge(registry, 'realtime_channels', 'Channels that connections of this node are subscribed to', () => [[{}, hub.size]])
  gauge(registry, 'realtime_presence_watched', 'Users whom connections of this node watch', () => [[{}, hub.watched.length]])
  gauge(registry, 'realtime_channels_with_members', 'Channels of this node whose members are known', () => [[{}, metrics.rooms?.() ?? 0]])
  gauge(registry, 'realtime_log_queued_events', 'Durable events that wait for the database', () => [[{}, eventLog.queued]])
  gauge(registry, 'realtime_healthy', '1: it answers this node; 0: it is away', () => [
    [{ part: 'database' }, Number(eventLog.healthy)],
    [{ part: 'backplane' }, Number(backplane.healthy)],
    [{ part: 'roster' }, Number(roster.healthy)]
  ], 'part')
}

/** The metrics of all nodes and tenants, read from the database. Without samples while the database is away; scrapes do not wait long for it. */
function stored (registry: Registry, { database, clock, eventLog, settings }: Internals): void {
  const store = new EventStatusStore(database.slow, clock)
  gauge(registry, 'realtime_log_events', 'Events of all nodes and tenants that are stored as pending or failed', async () => {
    if (!eventLog.healthy) return []
    const late = (): Error => new Error('the database does not respond')
    const found = await withTimeout(store.counts(), settings.storageTimeout, late).catch(() => ({}))
    return Object.entries(found).map(([status, count]) => [{ status }, count])
  }, 'status')
}

/** A closing connection has no identity any more. */
const open = (local: Internals['localConnections']) => [...local.values()].filter(({ closed }) => !closed)

function times (registry: Registry, { metrics }: Internals): void {
  const rows = new Histogram({
    name: 'realtime_log_batch_rows',
    help: 'Durable events of one commit',
    buckets: [1, 2, 5, 10, 20, 50, 100, 200, 500],
    registers: [registry]
  })
  const commits = new Histogram({
    name: 'realtime_log_commit_seconds',
    help: 'From the statement to the commit, with its retries',
    buckets: [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5],
    registers: [registry]
  })
  const roundTrips = new Histogram({
    name: 'realtime_backplane_round_trip_seconds',
    help: 'From this node through Redis and back, every second; none without Redis',
    buckets: [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5],
    registers: [registry]
  })
  metrics.committed = (count, seconds) => {
    rows.observe(count)
    commits.observe(seconds)
  }
  metrics.roundTrip = (seconds) => { roundTrips.observe(seconds) }
}

/** The delay of the event loop since the last scrape. Returns a function that stops the measurement. */
function eventLoop (registry: Registry): () => Promise<void> {
  const delay = monitorEventLoopDelay({ resolution: LOOP_RESOLUTION_MS })
  delay.enable()
  gauge(registry, 'realtime_event_loop_delay_seconds', 'How late the event loop was since the last scrape', () => {
    // The measured values include the interval itself, which is subtracted.
    const late = (nanoseconds: number): number => delay.count === 0 ? 0 : Math.max(0, nanoseconds / 1e9 - LOOP_RESOLUTION_MS / 1000)
    const values: Values = [
      [{ statistic: 'mean' }, late(delay.mean)],
      [{ statistic: 'p50' }, late(delay.percentile(50))],
      [{ statistic: 'p99' }, late(delay.percentile(99))],
      [{ statistic: 'max' }, late(delay.max)]
    ]
    delay.reset()
    return values
  }, 'statistic')
  return async () => { delay.disable() }
}

function gauge (registry: Registry, name: string, help: string, read: () => Values | Promise<Values>, label: string | null = null): void {
  const metric = new Gauge({
    name,
    help,
    labelNames: label === null ? [] : [label],
    registers: [registry],
    collect: async () => {
      const values = await read()
      metric.reset()
      for (const [labels, value] of values) metric.set(labels, value)
    }
  })
}

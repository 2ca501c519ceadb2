import type { AddressInfo } from 'node:net'
import { hostname } from 'node:os'
import { Type, type Static } from '@sinclair/typebox'
import type { FastifyInstance } from 'fastify'
import type { Id, IdKind, Identity } from '../plugins/index.js'
import type { Settings } from './settings.js'

/** Milliseconds. */
const EVERY = 2000
const CHANNEL = 'figures'
/** The tenant of the operators: only they see figures of all tenants. */
const OPERATORS = 999_999_999
const operators = (ids: IdKind): Id => (ids === 'integer' ? OPERATORS : String(OPERATORS)) as Id

const Count = Type.Integer({ minimum: 0 })
/** Of all nodes, from the database; null while it is unavailable. */
const Stored = Type.Union([Count, Type.Null()])

/** The figures of a node. Messages, deliveries and refused frames count from its start. */
const Figures = Type.Object({
  node: Type.String(),
  connections: Count,
  users: Count,
  watched: Type.Integer({ minimum: 0, description: 'Users whom connections of the node watch' }),
  rooms: Type.Integer({ minimum: 0, description: 'Channels of the node whose members are known' }),
  messages: Count,
  deliveries: Count,
  refused: Count,
  queued: Type.Integer({ minimum: 0, description: 'Events that wait for the database' }),
  pending: Stored,
  failed: Stored,
  database: Type.Boolean({ description: 'Whether the node can use it now' }),
  redis: Type.Boolean({ description: 'The same; true without Redis' }),
  delay: Type.Number({ minimum: 0, description: 'Of the event loop: p99, milliseconds' })
})

/** An event of this host: ephemeral, sent by host code only. */
export const events = { 'node:figures': { data: Figures, durable: false } }

/** Someone who runs the host. */
export const isOperator = ({ tenantId, claims }: Identity): boolean => String(tenantId) === String(OPERATORS) && (claims as { admin: boolean }).admin

export const mayWatch = (identity: Identity, channel: string): boolean => channel === CHANNEL && isOperator(identity)

/** Sends this node's figures to the dashboard, whichever node it is connected to: from the registry that `/metrics` serves. */
export function publishFigures (app: FastifyInstance, { nodeName: name, ids }: Settings): void {
  let timer: NodeJS.Timeout | undefined
  app.addHook('onListen', async () => {
    const node = name ?? `${hostname()}:${(app.server.address() as AddressInfo).port}`
    const publish = async (): Promise<void> => {
      const data = await read(app, node)
      app.realtime.channels.emit({ tenantId: operators(ids), channel: CHANNEL, event: 'node:figures', data })
    }
    timer = setInterval(() => { publish().catch((err: unknown) => { app.log.warn({ err }, 'Could not send figures') }) }, EVERY)
  })
  app.addHook('onClose', async () => { clearInterval(timer) })
}

async function read (app: FastifyInstance, node: string): Promise<Static<typeof Figures>> {
  const samples = new Map<string, number>()
  for (const { name, values } of await app.realtime.stats.registry?.getMetricsAsJSON() ?? []) {
    for (const { value, labels, metricName = name } of values as Array<typeof values[number] & { metricName?: string }>) {
      for (const key of [metricName, ...Object.values(labels).map((label) => `${metricName} ${label}`)]) samples.set(key, value + (samples.get(key) ?? 0))
    }
  }
  const of = (sample: string): number => samples.get(`realtime_${sample}`) ?? 0
  return {
    node,
    connections: of('connections'),
    users: of('roster_users'),
    watched: of('presence_watched'),
    rooms: of('channels_with_members'),
    messages: of('log_batch_rows_sum'),
    deliveries: of('deliveries_total'),
    refused: of('frames_refused_total'),
    queued: of('log_queued_events'),
    pending: samples.get('realtime_log_events pending') ?? null,
    failed: samples.get('realtime_log_events failed') ?? null,
    // As last seen: `health()` would write to the database each time.
    database: of('healthy database') === 1,
    redis: of('healthy backplane') === 1 && of('healthy roster') === 1,
    delay: 1000 * of('event_loop_delay_seconds p99')
  }
}

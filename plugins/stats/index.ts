import { Type, type Static } from '@sinclair/typebox'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import type { Registry } from 'prom-client'
import type { Id } from '../../lib/ids.js'
import { internalsFor } from '../../lib/parts.js'
import { restScope } from '../../lib/plugin-kit/rest-scope.js'
import { tenantStats } from '../../lib/plugin-kit/tenant-stats.js'
import type { TenantStats } from '../../lib/schemas.js'
import { readSettings } from '../../lib/settings.js'
import { routes } from './routes.js'

const StatsSettings = Type.Object({
  metrics: Type.Optional(Type.String({ pattern: '^/', description: 'Path of the Prometheus metrics, outside the prefix; absent: none' }))
})

/** Options of the stats plugin. */
export type StatsOptions = Partial<Static<typeof StatsSettings>>

/** Counts of one tenant, over all nodes. */
export interface HostStats {
  /** Registered connections, with a socket or without. */
  totalConnections: number
  /** Connections with a socket, or with a recent heartbeat. */
  activeConnections: number
  uniqueUsers: number
  /** Durable events that are not published, or not confirmed yet. */
  pendingEvents: number
  failedEvents: number
}

/** `app.realtime.stats` */
export interface StatsApi {
  /** The counts of one tenant, over all nodes. Rejects with `RT_STORAGE_UNAVAILABLE` while Redis or the database cannot be read. */
  get (tenantId: Id): Promise<HostStats>
  /** @deprecated Use `get`. */
  of (tenantId: Id): Promise<TenantStats>
  /** The prom-client registry behind the metrics, for the host's own metrics; null without the option `metrics`. */
  readonly registry: Registry | null
}

declare module '../../lib/realtime.js' {
  interface RealtimeParts {
    stats: StatsApi
  }
}

async function statsPlugin (fastify: FastifyInstance, options: StatsOptions): Promise<void> {
  const internals = internalsFor(fastify, 'stats')
  const { metrics } = readSettings(StatsSettings, options, { of: 'stats', besides: [] })
  // Loaded only if metrics are served.
  const registry = metrics === undefined ? null : (await import('./metrics.js')).serveMetrics(fastify, internals, metrics)
  const of = async (tenantId: Id): Promise<TenantStats> => await tenantStats(internals, tenantId)
  fastify.realtime.stats = {
    get: async (tenantId) => {
      const stats = await of(tenantId)
      return {
        totalConnections: stats.total_connections, activeConnections: stats.active_connections, uniqueUsers: stats.unique_users,
        pendingEvents: stats.pending_events, failedEvents: stats.failed_events
      }
    },
    of,
    registry
  }
  await restScope(fastify, internals, (scope) => { routes(scope, internals) })
}

export default fp(statsPlugin, { name: 'realtime-stats', fastify: '5.x' })

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

/** `fastify.realtime.stats` */
export interface StatsApi {
  /** The guide's five figures of one tenant, over all nodes. */
  of (tenantId: Id): Promise<TenantStats>
  /** What the metrics are read from, for figures of the host's own beside them; null where no metrics were asked for. */
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
  // Whoever does not ask for metrics does not load their library.
  const registry = metrics === undefined ? null : (await import('./metrics.js')).serveMetrics(fastify, internals, metrics)
  fastify.realtime.stats = { of: async (tenantId) => await tenantStats(internals, tenantId), registry }
  await restScope(fastify, internals, (scope) => { routes(scope, internals) })
}

export default fp(statsPlugin, { name: 'realtime-stats', fastify: '5.x' })

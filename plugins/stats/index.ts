import { Type, type Static } from '@sinclair/typebox'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { readSettings } from '../../lib/options.js'
import { restScope } from '../../lib/rest.js'
import type { TenantStats } from '../../lib/schemas.js'
import { tenantStats } from '../../lib/tenant-stats.js'
import { routes } from './routes.js'

const StatsSettings = Type.Object({
  metrics: Type.Optional(Type.String({ pattern: '^/', description: 'Path of the Prometheus metrics, outside the prefix; absent: none' }))
})

/** Options of the stats plugin. */
export type StatsOptions = Partial<Static<typeof StatsSettings>>

/** `fastify.realtime.stats` */
export interface StatsApi {
  /** The guide's five figures of one tenant, over all nodes. */
  of (tenantId: number): Promise<TenantStats>
}

declare module '../../lib/core.js' {
  interface RealtimeParts {
    stats: StatsApi
  }
}

async function statsPlugin (fastify: FastifyInstance, options: StatsOptions): Promise<void> {
  const { metrics } = readSettings(StatsSettings, options)
  const { realtime } = fastify
  realtime.stats = { of: async (tenantId) => await tenantStats(realtime, tenantId) }
  await restScope(fastify, realtime, (scope) => { routes(scope, realtime) })
  if (metrics !== undefined) {
    // Whoever does not ask for metrics does not load their library.
    const { serveMetrics } = await import('./metrics.js')
    serveMetrics(fastify, realtime, metrics)
  }
}

export default fp(statsPlugin, { name: 'realtime-stats', fastify: '5.x', dependencies: ['realtime'] })

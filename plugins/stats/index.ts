import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { restScope } from '../../lib/rest.js'
import { tenantStats, type TenantStats } from '../../lib/tenant-stats.js'
import { routes } from './routes.js'

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

async function statsPlugin (fastify: FastifyInstance): Promise<void> {
  const { realtime } = fastify
  realtime.stats = { of: async (tenantId) => await tenantStats(realtime, tenantId) }
  await restScope(fastify, realtime, (scope) => { routes(scope, realtime) })
}

export default fp(statsPlugin, { name: 'realtime-stats', fastify: '5.x', dependencies: ['realtime'] })

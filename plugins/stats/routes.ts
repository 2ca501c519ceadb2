import { Type } from '@sinclair/typebox'
import type { Realtime } from '../../lib/core.js'
import { callerOf, type RestScope } from '../../lib/rest.js'
import { errorResponses } from '../../lib/schemas.js'
import { TenantStats, tenantStats } from '../../lib/tenant-stats.js'

export function routes (scope: RestScope, realtime: Realtime): void {
  scope.get('/stats', {
    schema: {
      tags: ['stats'],
      summary: 'The figures of the caller’s tenant, over all nodes',
      response: { ...errorResponses, 200: Type.Object({ data: TenantStats }) }
    }
  }, async (request) => ({ data: await tenantStats(realtime, callerOf(request).identity.tenantId) }))
}

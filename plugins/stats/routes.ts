import type { Realtime } from '../../lib/core.js'
import { callerOf, type RestScope } from '../../lib/rest.js'
import { tenantStats } from '../../lib/tenant-stats.js'
import { rest } from './schemas.js'

export function routes (scope: RestScope, realtime: Realtime): void {
  scope.get('/stats', { schema: rest['GET /stats'] }, async (request) =>
    ({ data: await tenantStats(realtime, callerOf(request).identity.tenantId) }))
}

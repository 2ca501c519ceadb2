import type { Internals } from '../../lib/internals.js'
import { callerOf } from '../../lib/plugin-kit/rest-scope.js'
import { tenantStats } from '../../lib/plugin-kit/tenant-stats.js'
import type { RestScope } from '../../lib/plugin-kit/typebox-provider.js'
import { rest } from './schemas.js'

export function routes (scope: RestScope, internals: Internals): void {
  scope.get('/stats', { schema: rest['GET /stats'] }, async (request) =>
    ({ data: await tenantStats(internals, callerOf(request).identity.tenantId) }))
}

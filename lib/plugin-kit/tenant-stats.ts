import type { Id } from '../ids.js'
import type { Internals } from '../internals.js'
import type { TenantStats } from '../schemas.js'

/** One read of the roster, one of the log; nothing is asked of other nodes. */
export async function tenantStats (internals: Internals, tenantId: Id): Promise<TenantStats> {
  const [{ total, active, users }, { pending, failed }] = await Promise.all([
    internals.roster.counts(tenantId), internals.eventLog.counts(tenantId)
  ])
  return { total_connections: total, active_connections: active, unique_users: users, pending_events: pending, failed_events: failed }
}

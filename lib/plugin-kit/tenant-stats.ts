import type { Id } from '../ids.js'
import type { Internals } from '../internals.js'
import type { TenantStats } from '../schemas.js'

/** Without users who are invisible to others. Reads the roster and the log once each, and asks no other node. */
export async function tenantStats (internals: Internals, tenantId: Id): Promise<TenantStats> {
  const [{ total, active, users }, { pending, failed }] = await Promise.all([
    internals.roster.counts(tenantId, true), internals.eventLog.counts(tenantId)
  ])
  return { total_connections: total, active_connections: active, unique_users: users, pending_events: pending, failed_events: failed }
}

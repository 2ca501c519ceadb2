import type { Id } from '../ids.js'
import type { Internals } from '../internals.js'
import type { TenantStats } from '../schemas.js'

/** Reads the roster and the log once each, and asks no other node. */
export async function tenantStats (internals: Internals, tenantId: Id): Promise<TenantStats> {
  const [{ total, active, users, hidden }, { pending, failed }] = await Promise.all([
    internals.roster.counts(tenantId), internals.eventLog.counts(tenantId)
  ])
  // Nobody can tell from the figures that somebody is invisible.
  return { total_connections: total - hidden.total, active_connections: active - hidden.active, unique_users: users - hidden.users, pending_events: pending, failed_events: failed }
}

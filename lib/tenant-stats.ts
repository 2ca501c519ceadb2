import type { Realtime } from './core.js'
import type { TenantStats } from './schemas.js'

/** One read of the roster, one of the log; nothing is asked of other nodes. */
export async function tenantStats (realtime: Realtime, tenantId: number): Promise<TenantStats> {
  const [{ total, active, users }, { pending, failed }] = await Promise.all([
    realtime.roster.counts(tenantId), realtime.eventLog.counts(tenantId)
  ])
  return { total_connections: total, active_connections: active, unique_users: users, pending_events: pending, failed_events: failed }
}

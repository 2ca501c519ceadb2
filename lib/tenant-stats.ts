import { Type, type Static } from '@sinclair/typebox'
import type { Realtime } from './core.js'

/** Five figures of one tenant, over all nodes. */
export const TenantStats = Type.Object({
  total_connections: Type.Integer({ description: 'Registered, with a socket or without' }),
  active_connections: Type.Integer({ description: 'Those with a socket, or heard of lately' }),
  unique_users: Type.Integer(),
  pending_events: Type.Integer({ description: 'Stored, not yet handed on or not yet confirmed' }),
  failed_events: Type.Integer()
})
export type TenantStats = Static<typeof TenantStats>

/** One read of the roster, one of the log; nothing is asked of other nodes. */
export async function tenantStats (realtime: Realtime, tenantId: number): Promise<TenantStats> {
  const [{ total, active, users }, { pending, failed }] = await Promise.all([
    realtime.roster.counts(tenantId), realtime.eventLog.counts(tenantId)
  ])
  return { total_connections: total, active_connections: active, unique_users: users, pending_events: pending, failed_events: failed }
}

import { RealtimeError } from '../errors.js'
import type { Identity } from '../identity.js'
import type { RosterConnection, Roster } from '../roster/contract.js'

/** The caller's connection with this id. Throws `RT_NOT_FOUND`, or `RT_FORBIDDEN` if it belongs to someone else. */
export async function ownedConnection (roster: Roster, identity: Identity, connectionId: string): Promise<RosterConnection> {
  const entry = await roster.find(identity.tenantId, connectionId)
  if (entry === null) throw new RealtimeError('RT_NOT_FOUND', 'No connection has this id')
  if (entry.userId !== identity.userId) throw new RealtimeError('RT_FORBIDDEN', 'The connection is not yours')
  return entry
}

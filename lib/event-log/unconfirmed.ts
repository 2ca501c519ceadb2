import { privateOwner } from '../channel-names.js'
import type { Id, Ids } from '../ids.js'
import { userKey, type UserKey, type UserRef } from '../keys.js'
import type { Roster } from '../roster/contract.js'
import type { StoredEvent } from './contract.js'

/** Calls of the roster at the same time. */
const CHUNK = 100

/** The users among these who have a connection, with a socket or without. The grace after a disconnect does not count. */
export async function connectedAmong (roster: Pick<Roster, 'connectionsOf'>, users: readonly UserRef[]): Promise<Set<UserKey>> {
  const all = [...new Map(users.map(({ tenantId, userId }) => [userKey(tenantId, userId), { tenantId, userId }]))]
  const found = new Set<UserKey>()
  for (let at = 0; at < all.length; at += CHUNK) {
    await Promise.all(all.slice(at, at + CHUNK).map(async ([key, { tenantId, userId }]) => {
      if ((await roster.connectionsOf(tenantId, userId)).length > 0) found.add(key)
    }))
  }
  return found
}

/** An unconfirmed event as the lifecycle events describe it: `userId` is the recipient. */
export function unconfirmed ({ id, tenantId, userId, channel, type, payload }: StoredEvent, ids: Ids): {
  tenantId: Id, userId: Id, messageId: number, senderId: Id, type: string, data: Record<string, unknown>
} {
  const data = { messageId: id, ...JSON.parse(payload) as Record<string, unknown> }
  return { tenantId, userId: privateOwner(channel, ids) ?? userId, messageId: id, senderId: userId, type, data }
}

import { userKey, type UserKey, type UserRef } from '../keys.js'
import type { Roster } from './contract.js'

/** The users among these who are online, with one read of the roster per tenant. */
export async function onlineAmong (roster: Pick<Roster, 'presence'>, users: readonly UserRef[]): Promise<Set<UserKey>> {
  const found = new Set<UserKey>()
  for (const tenantId of new Set(users.map((user) => user.tenantId))) {
    const ids = [...new Set(users.filter((user) => user.tenantId === tenantId).map(({ userId }) => userId))]
    const presences = await roster.presence(tenantId, ids)
    ids.forEach((userId, i) => { if (presences[i] !== null) found.add(userKey(tenantId, userId)) })
  }
  return found
}

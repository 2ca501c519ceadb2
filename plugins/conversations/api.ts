import type { Id } from '../../lib/ids.js'
import type { Internals } from '../../lib/internals.js'
import type { UserRef } from '../../lib/keys.js'
import type { Erased } from '../../lib/upkeep/erasure.js'
import { requireChannel, requireId, requireIds } from '../../lib/wire/host-arguments.js'
import type { Members } from './members.js'

export type { Erased } from '../../lib/upkeep/erasure.js'

/** `app.realtime.conversations` */
export interface ConversationsApi {
  /** Puts a channel conversation into the lists of users: `await conversations.add(1, [7, 8], { channel: 'group.5' })`. */
  add (tenantId: Id, userIds: Id[], conversation: { channel: string }): Promise<void>
  /** Removes a channel conversation from the lists of users. It returns when they send or read in it. */
  remove (tenantId: Id, userIds: Id[], conversation: { channel: string }): Promise<void>
  /**
   * Removes everything that a user wrote, and the user, from all tables, and ends the user's connections. Messages of others
   * stay. Resolves with the number of rows that were deleted or emptied. May take minutes for a user with millions of rows.
   */
  erase (tenantId: Id, userId: Id): Promise<Erased>
}

export function createApi (
  { ids, database }: Pick<Internals, 'ids' | 'database'>, members: Members, erase: (user: UserRef) => Promise<Erased>
): ConversationsApi {
  const check = (tenantId: Id, userIds: Id[], channel: string): void => {
    requireId(ids, tenantId, 'tenantId')
    requireIds(ids, userIds, 'userIds')
    requireChannel(ids, channel)
  }
  return {
    add: async (tenantId, userIds, { channel }) => {
      check(tenantId, userIds, channel)
      await database.ask(async () => { await members.add([...new Set(userIds)].map((userId) => ({ tenantId, userId, conversation: channel, readUpTo: 0 }))) })
    },
    remove: async (tenantId, userIds, { channel }) => {
      check(tenantId, userIds, channel)
      await database.ask(async () => { await members.remove(tenantId, [...new Set(userIds)], channel) })
    },
    erase: async (tenantId, userId) => {
      requireId(ids, tenantId, 'tenantId')
      requireId(ids, userId, 'userId')
      return await erase({ tenantId, userId })
    }
  }
}

import type { AccessResult } from '../../lib/access/log.js'
import type { AccessKind } from '../../lib/access/store.js'
import { BROADCAST_CHANNEL, privateChannel, resolveAlias } from '../../lib/channel-names.js'
import type { HostTransaction } from '../../lib/database/host-transaction.js'
import type { NewEvent, Receipt } from '../../lib/event-log/index.js'
import type { Id } from '../../lib/ids.js'
import type { Internals } from '../../lib/internals.js'
import type { PresenceStatus } from '../../lib/schemas.js'
import { notJson, requireChannel, requireId, requireIds } from '../../lib/wire/host-arguments.js'
import type { DataOf, EventName } from './event-types.js'
import type { Members } from './members.js'
import type { Messages } from './messages.js'
import type { FromHostCode, Outgoing } from './outgoing.js'
import type { StoredData } from './schemas.js'

interface Sender {
  tenantId: Id
  /** The sender; by default the system: `0`, or `''` with string ids. */
  userId?: Id
}

interface Durable extends Sender {
  /** Repeating an event with the same key from the same user within 5 minutes returns the original result. */
  dedupeId?: string
  /** The host's own transaction in the same database: the event is stored in it, sent after its commit, and never after a rollback. */
  transaction?: HostTransaction
}

interface DirectMessage extends Durable { recipientId: Id, message: string, conversationId: string, data?: Record<string, unknown> }

interface Emitted<Name extends EventName> extends Sender { channel: string, event: Name, data: DataOf<Name> }

/** A page of a channel's members. */
export interface ChannelMembersPage {
  users: Array<{ userId: Id, name: string | null, status: PresenceStatus }>
  /** All members, on every page. */
  total: number
  version: number
  /** The `cursor` of the next page; null on the last one. */
  nextCursor: Id | null
}

/**
 * `app.realtime.channels`: sends everything that clients can send, and more, without calling `authorize`. All but `emit` resolve with
 * `{ messageId, timestamp }` when the event is committed; they reject with `RT_STORAGE_UNAVAILABLE` while the database cannot
 * take it. A wrong argument is an `RT_INVALID_DATA` that names it.
 */
export interface ChannelsApi {
  /**
   * A durable event on any channel: `await channels.publish({ tenantId: 1, channel: 'orders', event: 'order:shipped', data })`.
   * Built-in events, like `message:group`, get the sender and the channel that clients expect.
   */
  publish<Name extends EventName> (event: Durable & { channel: string, event: Name, data: DataOf<Name> }): Promise<Receipt>
  /**
   * An ephemeral event for current subscribers: not stored, not recovered. Throws `RT_INVALID_DATA` if it is too large for its
   * readers. `channels.emit({ tenantId: 1, channel: 'cursor.7', event: 'cursor:moved', data: { x, y } })`
   */
  emit<Name extends EventName> (event: Emitted<Name>): void
  /** @deprecated Use `emit`. */
  tell<Name extends EventName> (event: Emitted<Name>): void
  /** A message to one user: `await channels.direct({ tenantId: 1, userId: 7, recipientId: 8, message: 'hi', conversationId: '7-8' })`. */
  direct (message: DirectMessage): Promise<Receipt>
  /** @deprecated Use `direct`. */
  message (message: DirectMessage): Promise<Receipt>
  /** A message to the subscribers of a channel: `await channels.group({ tenantId: 1, channel: 'room.5', message: 'hi', conversationId: 'room.5' })`. */
  group (message: Durable & { channel: string, message: string, conversationId: string, data?: Record<string, unknown> }): Promise<Receipt>
  /**
   * A notification for each recipient, any number of them. Resolves when all are stored, with one result per recipient; otherwise
   * rejects with a `RealtimeError` whose `stored` is the number of stored notifications. Repeating the call with the same
   * `dedupeId` stores the rest. `await channels.notify({ tenantId: 1, recipientIds: [7, 8], title: 'Maintenance', body: 'Tonight
   * at 22:00' })`
   */
  notify (notification: Durable & {
    recipientIds: Id[], title: string, body: string, icon?: string | null, tag?: string | null
  }): Promise<Receipt[]>
  /**
   * Subscribes every live connection of a user, on every node; each gets `subscribed`. `authorize` is not called. Resolves within
   * 2 s.
   */
  join (tenantId: Id, userId: Id, channel: string): Promise<AccessResult>
  /** Unsubscribes every live connection of a user from a channel, on every node; each gets `unsubscribed` with the reason `revoked`. Resolves within 2 s. */
  kick (tenantId: Id, userId: Id, channel: string): Promise<AccessResult>
  /** A page of a channel's members, by user id; `limit` is 100 unless given. Empty for channels without members. */
  members (tenantId: Id, channel: string, page?: { limit?: number, cursor?: Id }): Promise<ChannelMembersPage>
  /** The number of members of a channel; 0 for channels without members. */
  count (tenantId: Id, channel: string): Promise<number>
  /** A message to everyone in the tenant. `messageType` is `info` by default. `await channels.broadcast({ tenantId: 1, message: 'hi' })` */
  broadcast (broadcast: Durable & { message: string, messageType?: string }): Promise<Receipt>
}

export function createApi ({ emit: emitNow, accessLog, ids }: Pick<Internals, 'emit' | 'accessLog' | 'ids'>, messages: Messages, members: Members, outgoing: Outgoing): ChannelsApi {
  const eventOf = ({ event: type, ...sent }: FromHostCode): NewEvent =>
    ({ ...sent, type, data: outgoing.stored({ ...sent, event: type }) })
  const store = async (sent: FromHostCode, transaction: HostTransaction | undefined): Promise<Receipt> => {
    try {
      return await messages.storeFromHost(eventOf(sent), transaction)
    } catch (err) {
      throw notJson(err)
    }
  }

  const emit: ChannelsApi['emit'] = ({ tenantId, userId = ids.system, channel, event, data }) => {
    const emitted = outgoing.emitted({ tenantId, userId, channel, event, data })
    try {
      emitNow({ tenantId, channel, event, data: emitted })
    } catch (err) {
      throw notJson(err)
    }
  }
  const direct: ChannelsApi['direct'] = async ({ tenantId, userId = ids.system, recipientId, dedupeId, transaction, message, conversationId, data }) => {
    requireId(ids, recipientId, 'recipientId')
    return await store({ tenantId, userId, channel: privateChannel(recipientId), event: 'message:direct', data: { message, conversationId, data }, dedupeId }, transaction)
  }
  const decide = async (kind: AccessKind, tenantId: Id, userId: Id, channel: string): Promise<AccessResult> => {
    requireId(ids, tenantId, 'tenantId')
    requireId(ids, userId, 'userId')
    requireChannel(ids, channel)
    return await accessLog.record({ kind, tenantId, userId, channel: resolveAlias(channel, userId) })
  }
  return {
    members: async (tenantId, channel, page = {}) => {
      requireId(ids, tenantId, 'tenantId')
      requireChannel(ids, channel)
      const { members: users, next: nextCursor, total, version } = await members.page(tenantId, channel, page)
      return { users, total, version, nextCursor }
    },
    count: async (tenantId, channel) => {
      requireId(ids, tenantId, 'tenantId')
      requireChannel(ids, channel)
      return (await members.page(tenantId, channel, { limit: 0 })).total
    },
    join: async (tenantId, userId, channel) => await decide('join', tenantId, userId, channel),
    kick: async (tenantId, userId, channel) => await decide('kick', tenantId, userId, channel),
    publish: async ({ tenantId, userId = ids.system, channel, event, data, dedupeId, transaction }) =>
      await store({ tenantId, userId, channel, event, data, dedupeId }, transaction),
    emit,
    tell: emit,
    direct,
    message: direct,
    group: async ({ tenantId, userId = ids.system, channel, dedupeId, transaction, message, conversationId, data }) =>
      await store({ tenantId, userId, channel, event: 'message:group', data: { message, conversationId, data }, dedupeId }, transaction),
    notify: async ({ tenantId, userId = ids.system, recipientIds, title, body, icon, tag, dedupeId, transaction }) => {
      requireIds(ids, recipientIds, 'recipientIds')
      const [first] = recipientIds
      if (first === undefined) return []
      const data = outgoing.stored({
        tenantId, userId, channel: privateChannel(first), event: 'notification:received', data: { title, body, icon, tag }, dedupeId
      }) as StoredData<'notification:received'> // validated in the line above
      return await messages.storeNotifications({ tenantId, userId }, { recipientIds, dedupeId, ...data }, { patient: true, transaction })
    },
    broadcast: async ({ tenantId, userId = ids.system, message, messageType, dedupeId, transaction }) =>
      await store({ tenantId, userId, channel: BROADCAST_CHANNEL, event: 'broadcast:message', data: { message, messageType }, dedupeId }, transaction)
  }
}

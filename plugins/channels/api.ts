import { BROADCAST_CHANNEL, privateChannel } from '../../lib/channel-names.js'
import type { HostTransaction } from '../../lib/database/host-transaction.js'
import type { NewEvent, Receipt } from '../../lib/event-log/index.js'
import type { Id } from '../../lib/ids.js'
import type { Internals } from '../../lib/internals.js'
import { notJson, requireId, requireIds } from '../../lib/wire/host-arguments.js'
import type { DataOf, EventName } from './event-types.js'
import type { Messages } from './messages.js'
import type { FromHostCode, Outgoing } from './outgoing.js'
import type { StoredData } from './schemas.js'

interface Sender {
  tenantId: Id
  /** The user in whose name it is sent; absent: the system, `0`, or `''` with string ids. */
  userId?: Id
}

interface Durable extends Sender {
  /** Repeating an event with the same key from the same user within 5 minutes returns the original result. */
  dedupeId?: string
  /** A transaction of the host's own, in the same database: the event is stored with it, and told right after the commit. */
  transaction?: HostTransaction
}

interface DirectMessage extends Durable { recipientId: Id, message: string, conversationId: string }

interface Emitted<Name extends EventName> extends Sender { channel: string, event: Name, data: DataOf<Name> }

/**
 * `fastify.realtime.channels`: what clients can send, and more. `authorize` is not asked: the host decides. An argument that
 * cannot be right is refused with `RT_INVALID_DATA` and its name.
 */
export interface ChannelsApi {
  /**
   * Any event on any channel. Durable: stored, then told; resolves when it is stored. With a `transaction` it is told right
   * after the commit, and never after a rollback. Events of the suite, such as `message:group`, are completed with what
   * clients rely on: the sender and the channel.
   */
  publish<Name extends EventName> (event: Durable & { channel: string, event: Name, data: DataOf<Name> }): Promise<Receipt>
  /** An event for current subscribers only: not stored, not recovered. */
  emit<Name extends EventName> (event: Emitted<Name>): void
  /** @deprecated Use `emit`. */
  tell<Name extends EventName> (event: Emitted<Name>): void
  /** A message to one user. */
  direct (message: DirectMessage): Promise<Receipt>
  /** @deprecated Use `direct`. */
  message (message: DirectMessage): Promise<Receipt>
  /** A message to a channel. */
  group (message: Durable & { channel: string, message: string, conversationId: string }): Promise<Receipt>
  /**
   * One notification for each recipient, any number of them: they wait for room in the queue. Resolves when all are stored;
   * otherwise rejects with a `RealtimeError` whose `stored` says how many are, and the same `dedupeId` stores the rest.
   */
  notify (notification: Durable & {
    recipientIds: Id[], title: string, body: string, icon?: string | null, tag?: string | null
  }): Promise<Receipt[]>
  /** A message to everyone in the tenant. */
  broadcast (broadcast: Durable & { message: string, messageType?: string }): Promise<Receipt>
}

export function createApi ({ emit: tell, ids }: Pick<Internals, 'emit' | 'ids'>, messages: Messages, outgoing: Outgoing): ChannelsApi {
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
      tell({ tenantId, channel, event, data: emitted })
    } catch (err) {
      throw notJson(err)
    }
  }
  const direct: ChannelsApi['direct'] = async ({ tenantId, userId = ids.system, recipientId, dedupeId, transaction, message, conversationId }) => {
    requireId(ids, recipientId, 'recipientId')
    return await store({ tenantId, userId, channel: privateChannel(recipientId), event: 'message:direct', data: { message, conversationId }, dedupeId }, transaction)
  }
  return {
    publish: async ({ tenantId, userId = ids.system, channel, event, data, dedupeId, transaction }) =>
      await store({ tenantId, userId, channel, event, data, dedupeId }, transaction),
    emit,
    tell: emit,
    direct,
    message: direct,
    group: async ({ tenantId, userId = ids.system, channel, dedupeId, transaction, message, conversationId }) =>
      await store({ tenantId, userId, channel, event: 'message:group', data: { message, conversationId }, dedupeId }, transaction),
    notify: async ({ tenantId, userId = ids.system, recipientIds, title, body, icon, tag, dedupeId, transaction }) => {
      requireIds(ids, recipientIds, 'recipientIds')
      const [first] = recipientIds
      if (first === undefined) return []
      const data = outgoing.stored({
        tenantId, userId, channel: privateChannel(first), event: 'notification:received', data: { title, body, icon, tag }, dedupeId
      }) as StoredData<'notification:received'> // which its schema was asked of right now
      return await messages.storeNotifications({ tenantId, userId }, { recipientIds, dedupeId, ...data }, { patient: true, transaction })
    },
    broadcast: async ({ tenantId, userId = ids.system, message, messageType, dedupeId, transaction }) =>
      await store({ tenantId, userId, channel: BROADCAST_CHANNEL, event: 'broadcast:message', data: { message, messageType }, dedupeId }, transaction)
  }
}

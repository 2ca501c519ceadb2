import { Type, type Static } from '@sinclair/typebox'
import {
  Accepted, bodyErrorResponses, Channel, ConnectionId, ConversationId, DedupeId, Epoch, ErrorResponse, errorResponses, Id, MessageId, Nullable, PresenceStatus, SenderId, Timestamp
} from '../../lib/schemas.js'
import { MessageData } from '../../lib/wire/data-size.js'
import { ServerFrame } from '../../lib/wire/protocol.js'

const Message = Type.String({ minLength: 1, maxLength: 5000 })
const MessageType = Type.String({ minLength: 1, maxLength: 50, default: 'info' })
const recipients = { minItems: 1, maxItems: 500 }
/** The rule checks that ids are unique, because TypeBox would need milliseconds for it. */
const Recipients = Type.Array(Id, { ...recipients, description: 'Without repetitions' })
const UniqueRecipients = Type.Array(Id, { ...recipients, uniqueItems: true })
const Title = Type.String({ minLength: 1, maxLength: 255 })
const Body = Type.String({ minLength: 1, maxLength: 5000 })
const Icon = Type.Optional(Nullable(Type.String({ maxLength: 2048 })))
const Tag = Type.Optional(Nullable(Type.String({ maxLength: 255 })))
const Dedupe = Type.Optional(DedupeId)
const Data = Type.Optional(MessageData)

/** The largest messageId seen on the channel; 0: from the start. */
const Since = Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER })

// Subscriptions

export const SubscribeEntry = Type.Object({ channel: Channel, since: Type.Optional(Since) })
export type SubscribeEntry = Static<typeof SubscribeEntry>

/** One channel, or up to 100. Entries are not validated here, because an invalid one must not affect the others. */
export const SubscribeData = Type.Object({
  channel: Type.Optional(Channel),
  since: Type.Optional(Since),
  channels: Type.Optional(Type.Array(Type.Unsafe<SubscribeEntry>(Type.Unknown({ ...SubscribeEntry })), { minItems: 1, maxItems: 100 })),
  epoch: Type.Optional(Epoch)
}, { anyOf: [{ required: ['channel'] }, { required: ['channels'] }] })
export type SubscribeData = Static<typeof SubscribeData>

export const Member = Type.Object({ userId: Id, name: Nullable(Type.String()) })
export type Member = Static<typeof Member>

/** The part of a subscription's reply for a channel with members. */
export const RoomState = Type.Object({
  count: Type.Integer({ description: 'Users in the channel, the caller included' }),
  version: Type.Integer({ description: 'Version of the members; read the list if the version of a `channel:members` is not the next one' }),
  members: Type.Optional(Type.Array(Member, { description: 'By user id; absent for more than 200 members' }))
})
export type RoomState = Static<typeof RoomState>

export const Subscribed = Type.Object({
  channel: Channel,
  position: Type.Integer({ description: 'The next `since` if no event arrives until then' }),
  recovered: Type.Optional(Type.Boolean({ description: 'False: events were lost, reload' })),
  epoch: Type.Optional(Epoch),
  ...Type.Partial(RoomState).properties
})
export type Subscribed = Static<typeof Subscribed>

export const NotSubscribed = Type.Object({
  channel: Type.String({ description: 'As in the request' }),
  error: Type.Object({ code: ErrorResponse.properties.code, message: Type.String(), retryAfter: Type.Optional(Type.Number({ description: 'seconds' })) })
})
export type NotSubscribed = Static<typeof NotSubscribed>

/** In the order of the request. */
export const SubscribedMany = Type.Object({ channels: Type.Array(Type.Union([NotSubscribed, Subscribed])) })
export type SubscribedMany = Static<typeof SubscribedMany>

/** The ack for one channel, or for several. */
export const SubscribeAck = Type.Union([SubscribedMany, Subscribed])
export type SubscribeAck = Static<typeof SubscribeAck>

export const ChannelData = Type.Object({ channel: Channel })

/** Also sent if the host unsubscribed the connection. */
export const Unsubscribed = Type.Object({ channel: Channel, reason: Type.Optional(Type.Literal('revoked')) })
export type Unsubscribed = Static<typeof Unsubscribed>

export const SubscribeBody = Type.Object({ connection_id: ConnectionId, channel: Channel })
export const SubscribeAnswer = Type.Object({ message: Type.String(), channel: Channel })

// Durable events, as frames …

export const DirectData = Type.Object({ recipientId: Id, message: Message, conversationId: ConversationId, data: Data, dedupeId: Dedupe })
export type DirectData = Static<typeof DirectData>

export const GroupData = Type.Object({ channel: Channel, message: Message, conversationId: ConversationId, data: Data, dedupeId: Dedupe })
export type GroupData = Static<typeof GroupData>

export const BroadcastData = Type.Object({ message: Message, messageType: Type.Optional(MessageType), dedupeId: Dedupe })
export type BroadcastData = Static<typeof BroadcastData>

export const NotificationData = Type.Object({
  recipientIds: Recipients, title: Title, body: Body, icon: Icon, tag: Tag, dedupeId: Dedupe
})
export type NotificationData = Static<typeof NotificationData>

export const NotificationsAccepted = Type.Object({ messageIds: Type.Array(MessageId), timestamp: Timestamp })
export type NotificationsAccepted = Static<typeof NotificationsAccepted>

export const DeliveredData = Type.Object({ messageId: MessageId, senderId: Type.Optional(Id) })
export const DeliveredAck = Type.Object({ messageId: MessageId })

// … as requests …

export const DirectBody = Type.Object({
  recipient_id: Id, message: Message, conversation_id: ConversationId, data: Data, dedupe_id: Dedupe
})
export const GroupBody = Type.Object({ channel: Channel, message: Message, conversation_id: ConversationId, data: Data, dedupe_id: Dedupe })
export const BroadcastBody = Type.Object({ message: Message, message_type: Type.Optional(MessageType), dedupe_id: Dedupe })
export const NotificationsBody = Type.Object({
  recipient_ids: UniqueRecipients, title: Title, body: Body, icon: Icon, tag: Tag, dedupe_id: Dedupe
})
export const DeliveredBody = Type.Object({ message_ids: Type.Array(MessageId, { minItems: 1, maxItems: 500 }) })
export const DeliveredAnswer = Type.Object({ data: Type.Object({ delivered: Type.Array(MessageId, { description: 'The existing ones' }) }) })
export const AcceptedAnswer = Type.Object({ data: Type.Object({ message_id: MessageId, timestamp: Timestamp }) })
export const NotificationsAnswer = Type.Object({ data: Type.Object({ message_ids: Type.Array(MessageId), timestamp: Timestamp }) })

// … and as clients receive them

export const DirectMessage = Type.Object({
  messageId: MessageId, senderId: SenderId, recipientId: Id, message: Message, conversationId: ConversationId, data: Data, timestamp: Timestamp
})
export const GroupMessage = Type.Object({
  messageId: MessageId, userId: SenderId, channel: Channel, message: Message, conversationId: ConversationId, data: Data, timestamp: Timestamp
})
export const BroadcastMessage = Type.Object({
  messageId: MessageId, message: Message, messageType: MessageType, senderId: SenderId, timestamp: Timestamp
})
export const Notification = Type.Object({
  messageId: MessageId, title: Title, body: Body, icon: Nullable(Type.String()), tag: Nullable(Type.String()), timestamp: Timestamp
})
export const Delivered = Type.Object({ messageId: MessageId, userId: Id, timestamp: Timestamp })
export type Delivered = Static<typeof Delivered>

/** At most one per second and channel, with the changes since the last one. Above 200 users without `joined` and `left`. */
export const ChannelMembers = Type.Object({
  channel: Channel,
  joined: Type.Optional(Type.Array(Member)),
  left: Type.Optional(Type.Array(Id)),
  count: Type.Integer(),
  version: Type.Integer()
})
export type ChannelMembers = Static<typeof ChannelMembers>
export const ChannelCount = Type.Object({ channel: Channel, count: Type.Integer() })
export type ChannelCount = Static<typeof ChannelCount>

export const MembersParams = Type.Object({ channel: Channel })
export const MembersQuery = Type.Object({
  limit: Type.Optional(Type.Integer({ minimum: 1, maximum: 500, default: 100 })),
  cursor: Type.Optional(Id)
})
export const MembersAnswer = Type.Object({
  data: Type.Array(Type.Object({ user_id: Id, name: Nullable(Type.String()), status: PresenceStatus })),
  total: Type.Integer({ description: 'All members, on every page' }),
  version: Type.Integer(),
  next_cursor: Nullable(Id)
})

/** 1 to 100 names, separated by commas; each is checked as `Channel` is. */
export const NamesQuery = Type.Object({ names: Type.String({ minLength: 1, maxLength: 25_600 }) })
export const SizesAnswer = Type.Object({
  data: Type.Array(Type.Object({ channel: Channel, users: Nullable(Type.Integer()), connections: Nullable(Type.Integer()) }))
})

// History

export const EventsQuery = Type.Object({
  channel: Channel,
  since: Type.Optional(Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER, default: 0 })),
  epoch: Type.Optional(Epoch),
  limit: Type.Optional(Type.Integer({ minimum: 1, maximum: 1000, default: 100 }))
})
export const EventsAnswer = Type.Object({
  data: Type.Array(ServerFrame),
  position: Type.Integer({ description: 'The next `since`' }),
  recovered: Type.Boolean({ description: 'False: events before this page were lost' }),
  more: Type.Boolean({ description: 'There is another page' }),
  epoch: Epoch
})

// Events by name

export const clientEvents = {
  subscribe: { data: SubscribeData, ack: SubscribeAck },
  unsubscribe: { data: ChannelData, ack: ChannelData },
  'message:direct': { data: DirectData, ack: Accepted },
  'message:group': { data: GroupData, ack: Accepted },
  'broadcast:message': { data: BroadcastData, ack: Accepted },
  'notification:send': { data: NotificationData, ack: NotificationsAccepted },
  'message:delivered': { data: DeliveredData, ack: DeliveredAck }
} as const

export const serverEvents = {
  subscribed: SubscribeAck,
  unsubscribed: Unsubscribed,
  'message:direct': DirectMessage,
  'message:group': GroupMessage,
  'broadcast:message': BroadcastMessage,
  'notification:received': Notification,
  'message:delivered': Delivered,
  'channel:members': ChannelMembers,
  'channel:count': ChannelCount
} as const

/** The stored data of a durable event; the log adds id and time. */
export type StoredData<Event extends keyof typeof serverEvents> = Omit<Static<typeof serverEvents[Event]>, 'messageId' | 'timestamp'>

const subscription = {
  tags: ['channels'],
  body: SubscribeBody,
  response: { ...bodyErrorResponses, 200: SubscribeAnswer, 404: ErrorResponse, 409: ErrorResponse }
} as const
const message = { tags: ['messages'], response: { ...bodyErrorResponses, 202: AcceptedAnswer } } as const

export const rest = {
  'POST /subscribe': { ...subscription, summary: 'Subscribe a connection, on whichever node it is' },
  'POST /unsubscribe': { ...subscription, summary: 'Unsubscribe a connection, on whichever node it is' },
  'POST /messages/direct': { ...message, summary: 'Send a direct message', body: DirectBody },
  'POST /messages/group': { ...message, summary: 'Send a message to a channel', body: GroupBody },
  'POST /messages/delivered': {
    tags: ['messages'],
    summary: 'Confirm messages and notifications of the caller: they are not sent again',
    body: DeliveredBody,
    response: { ...bodyErrorResponses, 200: DeliveredAnswer }
  },
  'POST /broadcast': { ...message, summary: 'Send a message to everyone in the tenant', body: BroadcastBody },
  'POST /notifications': {
    tags: ['messages'],
    summary: 'Notify up to 500 users, one event for each',
    body: NotificationsBody,
    response: { ...bodyErrorResponses, 202: NotificationsAnswer }
  },
  'GET /events': {
    tags: ['channels'],
    summary: 'The durable events of a channel, oldest first: the same cursor as subscribe with since',
    querystring: EventsQuery,
    response: { ...errorResponses, 200: EventsAnswer }
  },
  'GET /channels/:channel/members': {
    tags: ['channels'],
    summary: 'The members of a channel, by user id',
    params: MembersParams,
    querystring: MembersQuery,
    response: { ...errorResponses, 200: MembersAnswer, 404: ErrorResponse }
  },
  'GET /channels': {
    tags: ['channels'],
    summary: 'Numbers of users and connections in up to 100 channels; null for channels without members',
    querystring: NamesQuery,
    response: { ...errorResponses, 200: SizesAnswer }
  }
} as const

import type { ClientError } from './errors.js'
import type {
  Accepted, BroadcastData, BroadcastMessage, ChannelCount, ChannelMembers, ConversationActivity, ConversationRead, Delivered, Device, DirectData, DirectMessage, GroupData, GroupMessage, Id,
  MessageDeleted, MessageEdited, Notification, NotificationData, NotificationsAccepted, PresenceChanged, PresenceCount, PresenceData, PresenceMode, PresenceStatus, Stats, Subscribed,
  TokenExpiring, TypingChanged, TypingData, UserEdge
} from './wire.js'

/** Events from the server. */
export interface ServerEvents {
  'message:direct': DirectMessage
  'message:group': GroupMessage
  'broadcast:message': BroadcastMessage
  'notification:received': Notification
  'message:delivered': Delivered
  'user:typing': TypingChanged
  'user:presence': PresenceChanged
  'user:online': UserEdge
  'user:offline': UserEdge
  'presence:count': PresenceCount
  'presence:mode': PresenceMode
  'channel:members': ChannelMembers
  'channel:count': ChannelCount
  'token:expiring': TokenExpiring
  'message:edited': MessageEdited
  'message:deleted': MessageDeleted
  'conversation:read': ConversationRead
  'conversation:activity': ConversationActivity
}

/** The identity behind the credentials. `clubId` is unknown if an older server was only used by REST. */
export interface Identity { userId: Id, clubId?: Id | undefined }

export type Transport = 'websocket' | 'sse' | 'polling'

/** Events of the client itself. */
export interface ClientEvents {
  /** Authenticated; earlier subscriptions are being resumed. */
  connected: { connectionId: string, userId: Id, transport: Transport }
  /** The credentials now belong to another user. Queued sends, subscriptions and cursors of the previous user are discarded. */
  'identity-changed': Identity & { previous: Identity }
  /** The connection was lost or ended; `code` is the close code, 1006 if there was none. */
  disconnected: { code: number, reason: string, willReconnect: boolean }
  /** A new attempt is scheduled: its number, and the delay in milliseconds. */
  reconnecting: { attempt: number, delay: number }
  'max-reconnect-attempts-reached': { attempts: number }
  subscribed: Subscribed
  /** With a `reason`, the host unsubscribed the connection. */
  unsubscribed: { channel: string, reason?: string }
  /** Events of this channel cannot be recovered: the application must reload it. */
  gap: { channel: string, position: number }
  /** The transport changed. If sockets are blocked, `sse` is used; if streams are, too, `polling`, which receives neither typing nor presence. */
  transport: { transport: Transport }
  /** The presence of watched users, after each reconnect. */
  watched: { users: WatchedUser[] }
  /** The counts of the tenant, with each heartbeat, if there is a listener. */
  heartbeat: Stats
  /** Each problem is emitted once until the next connection. */
  error: ClientError
}

export type PresenceDetails = Omit<PresenceData, 'status'>
export type Audience = Omit<TypingData, 'conversationId' | 'isTyping'>

/** The events that a client sends, and their acks. */
export interface Sends {
  'message:direct': { data: DirectData, ack: Accepted }
  'message:group': { data: GroupData, ack: Accepted }
  'broadcast:message': { data: BroadcastData, ack: Accepted }
  'notification:send': { data: NotificationData, ack: NotificationsAccepted }
}

/** The presence of a watched user. */
export interface WatchedUser {
  userId: Id
  status: PresenceStatus
  device: Device | null
  lastMessage: string | null
  data: object | null
  lastSeenAt: string | null
}

/** Watched users: their changes arrive as `user:online`, `user:offline` and `user:presence`. */
export interface Watch {
  /** Their presence at the start. */
  users: WatchedUser[]
  /** Stops watching these users, or all of them. A user who is also watched by another component stays watched. */
  stop (userIds?: readonly Id[]): void
}

/** The fields that the server adds to a custom event. */
export interface AddedFields { channel: string, userId: Id, timestamp: string, messageId?: number }
/** The fields that a client sends with a custom event, besides its data. */
export interface Addressed { channel: string, dedupeId?: string | undefined }
/** The ack of a custom event. Only durable events have an id. */
export interface CustomAck { timestamp: string, messageId?: number }

/** All events that have listeners. `Own` are the custom events of the host, by name. */
export type Events<Own> = ClientEvents & ServerEvents & { [Name in keyof Own]: Own[Name] & AddedFields }
export type EventName<Own> = keyof ClientEvents | keyof ServerEvents | (keyof Own & string)
export type SendName<Own> = keyof Sends | (keyof Own & string)
export type SendData<Own, Name> = Name extends keyof Sends
  ? Sends[Name]['data']
  : Name extends keyof Own ? Omit<Own[Name], keyof AddedFields> & Addressed : never
export type SendAck<Name> = Name extends keyof Sends ? Sends[Name]['ack'] : CustomAck

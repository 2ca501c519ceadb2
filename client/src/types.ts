import type { ClientError } from './errors.js'
import type {
  Accepted, BroadcastData, BroadcastMessage, Delivered, Device, DirectData, DirectMessage, GroupData, GroupMessage, Id, Notification, NotificationData,
  NotificationsAccepted, PresenceChanged, PresenceData, PresenceStatus, Stats, Subscribed, TokenExpiring, TypingChanged, TypingData, UserEdge
} from './wire.js'

/** What the server tells. */
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
  'token:expiring': TokenExpiring
}

/** Whose credentials they are. `clubId` is not known where an older server was asked by REST alone. */
export interface Identity { userId: Id, clubId?: Id | undefined }

export type Transport = 'websocket' | 'polling'

/** What the client itself tells. */
export interface ClientEvents {
  /** Authenticated; what was subscribed before is being resumed. */
  connected: { connectionId: string, userId: Id, transport: Transport }
  /** The credentials are another user's. What waited to be sent, subscriptions and cursors of the one before are gone. */
  'identity-changed': Identity & { previous: Identity }
  /** The connection is lost or ended; `code` is the close code, 1006 where there was none. */
  disconnected: { code: number, reason: string, willReconnect: boolean }
  /** Before each new attempt: which one, and in how many milliseconds. */
  reconnecting: { attempt: number, delay: number }
  'max-reconnect-attempts-reached': { attempts: number }
  subscribed: Subscribed
  /** With a `reason` it was the host that took the connection from the channel. */
  unsubscribed: { channel: string, reason?: string }
  /** Something of this channel is gone for the client, which must reload it. */
  gap: { channel: string, position: number }
  /** Which way the client talks now; `polling` where sockets are blocked: no typing and no presence is heard. */
  transport: { transport: Transport }
  /** How watched users are, after each reconnect. */
  watched: { users: WatchedUser[] }
  /** The tenant's figures, with each heartbeat, where anyone listens. */
  heartbeat: Stats
  /** One for each thing that is wrong, until the next connection. */
  error: ClientError
}

export type PresenceDetails = Omit<PresenceData, 'status'>
export type Audience = Omit<TypingData, 'conversationId' | 'isTyping'>

/** What a client sends and what it is answered. */
export interface Sends {
  'message:direct': { data: DirectData, ack: Accepted }
  'message:group': { data: GroupData, ack: Accepted }
  'broadcast:message': { data: BroadcastData, ack: Accepted }
  'notification:send': { data: NotificationData, ack: NotificationsAccepted }
}

/** How a watched user is. */
export interface WatchedUser {
  userId: Id
  status: PresenceStatus
  device: Device | null
  lastMessage: string | null
  data: object | null
  lastSeenAt: string | null
}

/** Users whose changes are told by `user:online`, `user:offline` and `user:presence`. */
export interface Watch {
  /** How they were when it began. */
  users: WatchedUser[]
  /** Ends it; a user whom another component watches goes on being watched. */
  stop (): void
}

/** What the server adds to an event of the host's own. */
export interface Told { channel: string, userId: Id, timestamp: string, messageId?: number }
/** What a client says of an event of the host's own, besides its data. */
export interface Addressed { channel: string, dedupeId?: string | undefined }
/** What it is answered: the id only where the event is durable. */
export interface CustomAck { timestamp: string, messageId?: number }

/** All events that listeners can be added for; `Own` are the host's, by name. */
export type Events<Own> = ClientEvents & ServerEvents & { [Name in keyof Own]: Own[Name] & Told }
export type EventName<Own> = keyof ClientEvents | keyof ServerEvents | (keyof Own & string)
export type SendName<Own> = keyof Sends | (keyof Own & string)
export type SendData<Own, Name> = Name extends keyof Sends
  ? Sends[Name]['data']
  : Name extends keyof Own ? Omit<Own[Name], keyof Told> & Addressed : never
export type SendAck<Name> = Name extends keyof Sends ? Sends[Name]['ack'] : CustomAck

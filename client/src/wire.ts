/**
 * The frames and the REST bodies of the protocol. The package has no dependencies, so it declares these types itself; a test
 * compares them with the schemas of the server.
 */

/**
 * Declares the ids, events and channels of an application for all types, by declaration merging:
 * `declare module 'fastify-realtime-client' { interface Register { ids: 'string', events: AppEvents, channels: `group.${string}` } }`.
 *
 * - `ids`: `'string'` if the server has string ids.
 * - `events`: the host's custom events and their data, for clients whose type names none.
 * - `channels`: the names of channels that the React hooks take.
 */
// eslint-disable-next-line @typescript-eslint/no-empty-object-type -- filled by the application
export interface Register {}

/** The id of a tenant or a user. */
export type Id = Register extends { ids: 'string' } ? string : number
/** The host's custom events, as declared. */
export type OwnEvents = Register extends { events: infer Own extends object } ? Own : object

/** The server's error codes. */
export type ServerErrorCode =
  | 'RT_UNAUTHENTICATED' | 'RT_TOKEN_EXPIRED' | 'RT_TOKEN_REVOKED' | 'RT_IDENTITY_MISMATCH' | 'RT_FORBIDDEN' | 'RT_BANNED' | 'RT_NOT_FOUND'
  | 'RT_CONNECTION_TAKEN' | 'RT_INVALID_FRAME' | 'RT_INVALID_DATA' | 'RT_REJECTED' | 'RT_RATE_LIMITED' | 'RT_LIMIT_EXCEEDED'
  | 'RT_STORAGE_UNAVAILABLE' | 'RT_UNAVAILABLE' | 'RT_INTERNAL'

export type Device = 'mobile' | 'desktop' | 'tablet' | 'web'
export type ConversationType = 'direct' | 'group' | 'broadcast'
/** Older servers do not know `invisible`. */
export type PresenceStatus = 'online' | 'away' | 'busy' | 'offline' | 'invisible'

/** One JSON object per text frame. */
export interface Frame { event: string, data: Record<string, unknown>, id?: number | string }

export interface Authenticated {
  connectionId: string
  userId: Id
  clubId: Id
  channels: string[]
  expiresAt: string | null
  heartbeatInterval: number
  /** The epoch of the log. Absent on older servers, which lack the features that were added with it. */
  epoch?: string
  /** With the presence plugin: how it is sent, the number of users online, and the client's own status. */
  presence?: { everyone: boolean, online: number, status: PresenceStatus }
}

/** The data of `auth`. */
export interface AuthData { token: string, connectionId: string }

export interface Subscribed {
  channel: string
  /** The `since` of the next subscription if no event arrives until then. */
  position: number
  /** False if events were lost: reload. */
  recovered?: boolean
  epoch?: string
  /** For a channel with members: their number, the version, and up to 200 of them. */
  count?: number
  version?: number
  members?: Member[]
}

export interface Member { userId: Id, name: string | null }

// Events that clients send

interface Dedupable {
  /** Repeating a send with the same key within 5 minutes returns the original result. The client adds one of its own. */
  dedupeId?: string | undefined
}
export interface DirectData extends Dedupable { recipientId: Id, message: string, conversationId: string, data?: object | undefined }
export interface GroupData extends Dedupable { channel: string, message: string, conversationId: string, data?: object | undefined }
export interface BroadcastData extends Dedupable { message: string, messageType?: string | undefined }
export interface NotificationData extends Dedupable {
  recipientIds: Id[]
  title: string
  body: string
  icon?: string | null | undefined
  tag?: string | null | undefined
}
export interface TypingData {
  conversationId: string
  isTyping: boolean
  conversationType?: ConversationType | undefined
  channel?: string | undefined
  recipientId?: Id | undefined
}
export interface PresenceData {
  status: PresenceStatus
  device?: Device | undefined
  lastMessage?: string | null | undefined
  data?: object | undefined
}

export interface Accepted { messageId: number, timestamp: string }
export interface NotificationsAccepted { messageIds: number[], timestamp: string }
export interface PresenceAck { status: PresenceStatus, device: Device, updatedAt: string }

// Events from the server

export interface DirectMessage { messageId: number, senderId: Id, recipientId?: Id, message: string, conversationId: string, data?: object, timestamp: string }
export interface GroupMessage { messageId: number, userId: Id, channel: string, message: string, conversationId: string, data?: object, timestamp: string }
export interface BroadcastMessage { messageId: number, senderId: Id, message: string, messageType: string, timestamp: string }
export interface Notification { messageId: number, title: string, body: string, icon: string | null, tag: string | null, timestamp: string }
export interface Delivered { messageId: number, userId: Id, timestamp: string }
export interface TypingChanged { userId: Id, isTyping: boolean, conversationId: string, conversationType: ConversationType, timestamp: string }
export interface PresenceChanged { userId: Id, status: PresenceStatus, device: Device, lastMessage: string | null, data?: object | null, timestamp: string }
export interface UserEdge { userId: Id, status: 'online' | 'offline', timestamp: string }
export interface PresenceCount { online: number, timestamp: string }
/** With `everyone`, every change is sent from now on: read the list again. */
export interface PresenceMode { everyone: boolean, online: number }
/** If `version` is not the next one, or above 200 users, read the list. */
export interface ChannelMembers { channel: string, joined?: Member[], left?: Id[], count: number, version: number }
export interface ChannelCount { channel: string, count: number }
export interface TokenExpiring { expiresAt: string }

/** Of a channel, or of a direct conversation. */
interface Place { channel?: string, senderId?: Id, recipientId?: Id }
export interface MessageEdited extends Place { messageId: number, targetId: number, message: string, data: object | null, editedAt: string, userId: Id, timestamp: string }
export interface MessageDeleted extends Place { messageId: number, targetId: number, userId: Id, timestamp: string }
export interface ConversationRead extends Place { userId: Id, readUpTo: number, timestamp: string }
export interface ConversationActivity { channel: string, messageId: number, timestamp: string }

// REST, and acks

/** A conversation in a channel, or with another user. */
export type Where = { channel: string, with?: undefined } | { with: Id, channel?: undefined }
export type HistoryQuery = Where & { before?: number | undefined, limit?: number | undefined, conversationId?: string | undefined }
/**
 * `before`: the value for the next page, if there are more. `reads`: without `before`, the read marks of everyone, as
 * `conversation:read` frames; missing on older servers.
 */
export interface History { data: Frame[], more: boolean, before?: number | null, reads?: Array<{ event: string, data: ConversationRead }> }
export interface Conversation { channel?: string, with?: Id, name: string | null, last: Frame | null, last_at: string | null, unread: number, read_up_to: number }
export interface ConversationPage { data: Conversation[], next_cursor: string | null }
export interface ReadAck { unread: number, readUpTo: number }
export interface EditAck { messageId: number, targetId: number, editedAt: string }
export interface DeleteAck { messageId: number, targetId: number }

/** The response of `/connect`. */
export interface Connected { data: { user_id: Id, club_id?: Id } }
export interface ConnectionBody { connection_id: string }
export interface DeliveredBody { message_ids: number[] }
export interface FramesBody { connection_id: string, frames: unknown[] }
/** The ack of a subscription to one channel, or to several. */
export interface SubscribeAnswer extends Subscribed { error?: object, channels?: SubscribeAnswer[] }
export interface Page { data: Frame[], position: number, recovered: boolean, more: boolean, epoch?: string }
export interface WatchAnswer { users?: object[], userIds?: Id[] }

/** The counts of the tenant, over all nodes. */
export interface Stats {
  total_connections: number
  active_connections: number
  unique_users: number
  pending_events: number
  failed_events: number
}
export interface UserPresence {
  user_id: Id
  status: PresenceStatus
  device: Device | null
  last_message?: string | null
  data?: object | null
  display_status: string
  last_seen_at: string | null
}
export interface OnlineUser {
  user_id: Id
  name: string | null
  status: PresenceStatus
  device: Device | null
  last_message?: string | null
  data?: object | null
  display_status: string
}

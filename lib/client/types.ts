import type { Static } from '@sinclair/typebox'
import type { Accepted, TenantStats } from '../schemas.js'
import type * as channels from '../../plugins/channels/schemas.js'
import type * as connections from '../../plugins/connections/schemas.js'
import type * as presence from '../../plugins/presence/schemas.js'
import type * as typing from '../../plugins/typing/schemas.js'
import type { ClientError } from './errors.js'

/** What the server tells, as its schemas say. */
export interface ServerEvents {
  'message:direct': Static<typeof channels.DirectMessage>
  'message:group': Static<typeof channels.GroupMessage>
  'broadcast:message': Static<typeof channels.BroadcastMessage>
  'notification:received': Static<typeof channels.Notification>
  'message:delivered': Static<typeof channels.Delivered>
  'user:typing': Static<typeof typing.TypingChanged>
  'user:presence': Static<typeof presence.PresenceChanged>
  'user:online': Static<typeof presence.UserEdge>
  'user:offline': Static<typeof presence.UserEdge>
  'token:expiring': Static<typeof connections.TokenExpiring>
}

export type Transport = 'websocket' | 'polling'

/** What the client itself tells. */
export interface ClientEvents {
  /** Authenticated; what was subscribed before is being resumed. */
  connected: { connectionId: string, userId: number, transport: Transport }
  /** The connection is lost or ended; `code` is the close code, 1006 where there was none. */
  disconnected: { code: number, reason: string, willReconnect: boolean }
  /** Before each new attempt: which one, and in how many milliseconds. */
  reconnecting: { attempt: number, delay: number }
  'max-reconnect-attempts-reached': { attempts: number }
  subscribed: channels.Subscribed
  unsubscribed: { channel: string }
  /** `recovered: false`: something of this channel is gone for the client, which must reload it. */
  gap: { channel: string, position: number }
  /** Which way the client talks now; `polling` where sockets are blocked: no typing and no presence is heard. */
  transport: { transport: Transport }
  /** The tenant's figures, with each heartbeat, where anyone listens. */
  heartbeat: Stats
  /** One for each thing that is wrong, until the next connection. */
  error: ClientError
}

export type Stats = Static<typeof TenantStats>
export type UserPresence = Static<typeof presence.UserPresence>
export type OnlineUsers = presence.OnlineUsers
export type OnlineUser = OnlineUsers['data'][number]
export type PresenceStatus = presence.PresenceData['status']
export type PresenceDetails = Omit<presence.PresenceData, 'status'>
export type Audience = Omit<typing.TypingData, 'conversationId' | 'isTyping'>

/** What a client sends and what it is answered. */
export interface Sends {
  'message:direct': { data: channels.DirectData, ack: Static<typeof Accepted> }
  'message:group': { data: channels.GroupData, ack: Static<typeof Accepted> }
  'broadcast:message': { data: channels.BroadcastData, ack: Static<typeof Accepted> }
  'notification:send': { data: channels.NotificationData, ack: channels.NotificationsAccepted }
}

export type { Authenticated } from '../../plugins/connections/schemas.js'
export type { PresenceAck } from '../../plugins/presence/schemas.js'
export type { Subscribed } from '../../plugins/channels/schemas.js'

/** A frame as it comes. */
export interface Frame { event: string, data: Record<string, unknown>, id?: number | string }

import type { Static } from '@sinclair/typebox'
import t from 'tap'
import type { ErrorCode } from '../../lib/errors.js'
import type { Accepted, TenantStats } from '../../lib/schemas.js'
import type * as channels from '../../plugins/channels/schemas.js'
import type * as connections from '../../plugins/connections/schemas.js'
import type * as presence from '../../plugins/presence/schemas.js'
import type * as typing from '../../plugins/typing/schemas.js'
import type { ServerEvents } from '../../client/src/index.js'
import type * as wire from '../../client/src/wire.js'

/* The client's types are written by hand, for a package without dependencies. What the server sends has to fit them, and what
   they let a client send has to fit the server's schemas: `tsc` says where it does not. */

type Fits<From extends To, To> = [From, To]
type Known<T> = { [Key in keyof T as undefined extends T[Key] ? never : Key]: T[Key] }

export type Emitted = [
  Fits<Static<typeof channels.DirectMessage>, ServerEvents['message:direct']>,
  Fits<Static<typeof channels.GroupMessage>, ServerEvents['message:group']>,
  Fits<Static<typeof channels.BroadcastMessage>, ServerEvents['broadcast:message']>,
  Fits<Static<typeof channels.Notification>, ServerEvents['notification:received']>,
  Fits<Static<typeof channels.Delivered>, ServerEvents['message:delivered']>,
  Fits<Static<typeof typing.TypingChanged>, ServerEvents['user:typing']>,
  Fits<Static<typeof presence.PresenceChanged>, ServerEvents['user:presence']>,
  Fits<Static<typeof presence.UserEdge>, ServerEvents['user:online']>,
  Fits<Static<typeof connections.TokenExpiring>, ServerEvents['token:expiring']>,
  Fits<connections.Authenticated, wire.Authenticated>,
  Fits<channels.Subscribed, wire.Subscribed>,
  Fits<Static<typeof Accepted>, wire.Accepted>,
  Fits<channels.NotificationsAccepted, wire.NotificationsAccepted>,
  Fits<presence.PresenceAck, wire.PresenceAck>,
  Fits<Static<typeof TenantStats>, wire.Stats>,
  Fits<Static<typeof presence.UserPresence>, wire.UserPresence>,
  Fits<presence.OnlineUsers['data'][number], wire.OnlineUser>,
  Fits<Static<typeof connections.Connected>, wire.Connected>,
  Fits<ErrorCode, wire.ServerErrorCode>
]

export type Sent = [
  Fits<Known<wire.DirectData>, channels.DirectData>,
  Fits<Known<wire.GroupData>, channels.GroupData>,
  Fits<Known<wire.BroadcastData>, channels.BroadcastData>,
  Fits<Known<wire.NotificationData>, channels.NotificationData>,
  Fits<Known<wire.TypingData>, typing.TypingData>,
  Fits<wire.AuthData, connections.AuthData>
]

t.pass('compiled')

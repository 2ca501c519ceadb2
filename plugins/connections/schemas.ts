import { Type, type Static } from '@sinclair/typebox'
import { TenantStats } from '../../lib/tenant-stats.js'
import { Channel, ConnectionId, Id, Nullable, Timestamp } from '../../lib/schemas.js'

export const ConnectBody = Type.Object({
  connection_id: ConnectionId,
  session_id: Type.Optional(Type.String({ minLength: 1, maxLength: 255 })),
  browser: Type.Optional(Type.String({ minLength: 1, maxLength: 50, description: 'Read from the User-Agent when absent' })),
  device_type: Type.Optional(Type.Union([Type.Literal('mobile'), Type.Literal('desktop'), Type.Literal('tablet'), Type.Literal('web')], {
    description: 'Read from the User-Agent when absent'
  }))
})
export type ConnectBody = Static<typeof ConnectBody>

export const Connected = Type.Object({
  data: Type.Object({
    connection_id: ConnectionId,
    status: Type.Literal('connected'),
    user_id: Id,
    connected_at: Timestamp
  })
})

export const ConnectionBody = Type.Object({ connection_id: ConnectionId })

export const Disconnected = Type.Object({ message: Type.String() })

/** `/heartbeat` answers like `/stats`. */
export const Heartbeat = Type.Object({ data: TenantStats })

/** A page's meta tags hold text: a numeric string says the same. */
const ClaimedId = Type.Union([Id, Type.String({ pattern: '^[1-9]\\d{0,15}$' })])

export const AuthData = Type.Object({
  token: Type.String({ minLength: 1, maxLength: 8192 }),
  userId: Type.Optional(ClaimedId),
  clubId: Type.Optional(ClaimedId),
  connectionId: Type.Optional(ConnectionId)
})
export type AuthData = Static<typeof AuthData>

export const Authenticated = Type.Object({
  status: Type.Literal('ok'),
  connectionId: ConnectionId,
  userId: Id,
  clubId: Id,
  channels: Type.Array(Channel),
  expiresAt: Nullable(Timestamp),
  heartbeatInterval: Type.Integer({ description: 'milliseconds' })
})
export type Authenticated = Static<typeof Authenticated>

export const PingData = Type.Object({})
export const Pong = Type.Object({ timestamp: Timestamp })
export const TokenExpiring = Type.Object({ expiresAt: Timestamp })

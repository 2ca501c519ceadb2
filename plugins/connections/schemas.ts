import { Type, type Static } from '@sinclair/typebox'
import { bodyErrorResponses, errorResponses, Channel, ClaimedId, ConnectionId, Device, Epoch, ErrorResponse, Id, Nullable, PresenceStatus, TenantStats, Timestamp } from '../../lib/schemas.js'
import { AckData, ClientFrame, ErrorData } from '../../lib/wire/protocol.js'

export const ConnectBody = Type.Object({
  connection_id: ConnectionId,
  session_id: Type.Optional(Type.String({ minLength: 1, maxLength: 255 })),
  browser: Type.Optional(Type.String({ minLength: 1, maxLength: 50, description: 'Read from the User-Agent when absent' })),
  device_type: Type.Optional(Type.Union(Device.anyOf, { description: 'Read from the User-Agent when absent' }))
})
export type ConnectBody = Static<typeof ConnectBody>

export const Connected = Type.Object({
  data: Type.Object({
    connection_id: ConnectionId,
    status: Type.Literal('connected'),
    user_id: Id,
    club_id: Id,
    connected_at: Timestamp
  })
})

export const ConnectionBody = Type.Object({ connection_id: ConnectionId })

export const FramesBody = Type.Object({
  connection_id: ConnectionId,
  frames: Type.Array(ClientFrame, { minItems: 1, maxItems: 100, description: 'As on a socket; the replies are events of the stream' })
})

export const FramesAccepted = Type.Object({ data: Type.Object({ accepted: Type.Integer() }) })

export const Disconnected = Type.Object({ message: Type.String() })

/** The response of `/heartbeat` is that of `/stats`. */
export const Heartbeat = Type.Object({ data: TenantStats })

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
  heartbeatInterval: Type.Integer({ description: 'milliseconds' }),
  epoch: Epoch,
  presence: Type.Optional(Type.Object({
    everyone: Type.Boolean({ description: 'Whether every change of presence is sent to everyone in the tenant; otherwise watch users' }),
    online: Type.Integer({ description: 'Users online in the tenant, the caller included' }),
    status: PresenceStatus
  }, { description: 'With the presence plugin; status is the caller’s own' }))
})
export type Authenticated = Static<typeof Authenticated>

export const StreamQuery = Type.Object({
  channels: Type.Optional(Type.String({ maxLength: 4096, description: 'Names of channels, separated by commas' })),
  connection_id: Type.Optional(ConnectionId),
  cursor: Type.Optional(Type.String({ maxLength: 64, description: 'The last `id` of an earlier stream; the header `Last-Event-ID` precedes it' }))
})
export type StreamQuery = Static<typeof StreamQuery>

/** The last event of a stream that this node closes. */
export const Close = Type.Object({
  code: Type.Integer({ description: 'A close code, as of a socket' }),
  reason: Type.String()
})

export const PingData = Type.Object({})
export const Pong = Type.Object({ timestamp: Timestamp })
export type Pong = Static<typeof Pong>
export const TokenExpiring = Type.Object({ expiresAt: Timestamp })
export type TokenExpiring = Static<typeof TokenExpiring>

export const clientEvents = {
  auth: { data: AuthData, ack: Authenticated },
  ping: { data: PingData, ack: Pong }
} as const

export const serverEvents = {
  authenticated: Authenticated, pong: Pong, 'token:expiring': TokenExpiring, close: Close, ack: AckData, error: ErrorData
} as const

const tags = ['connections'] as const

export const rest = {
  'POST /connect': {
    tags,
    summary: 'Register a connection, before its socket or without one',
    body: ConnectBody,
    response: { ...bodyErrorResponses, 200: Connected, 201: Connected, 409: ErrorResponse }
  },
  'POST /disconnect': {
    tags,
    summary: 'End a connection; its socket, on whichever node, is closed with 4000',
    body: ConnectionBody,
    response: { ...bodyErrorResponses, 200: Disconnected, 404: ErrorResponse }
  },
  'GET /stream': {
    tags,
    summary: 'Events as a stream of server-sent events, instead of a socket',
    querystring: StreamQuery,
    response: {
      ...errorResponses,
      200: { description: 'Server-sent events, with the same events as on a socket', content: { 'text/event-stream': { schema: Type.String() } } },
      409: ErrorResponse
    }
  },
  'POST /frames': {
    tags,
    summary: 'Send frames on a stream, as on a socket: in their order, with the replies on the stream',
    body: FramesBody,
    response: { ...bodyErrorResponses, 202: FramesAccepted, 404: ErrorResponse }
  },
  'POST /heartbeat': {
    tags,
    summary: 'Keep a connection without a socket registered; the response is that of /stats',
    body: ConnectionBody,
    response: { ...bodyErrorResponses, 200: Heartbeat, 404: ErrorResponse }
  }
} as const

import { Type, type Static } from '@sinclair/typebox'
import { bodyErrorResponses, ConnectionId, Device, ErrorResponse, errorResponses, Id, IdList, Nullable, PresenceStatus, Timestamp } from '../../lib/schemas.js'

const LastMessage = Type.String({ maxLength: 1000 })
/** Its size is checked by the rule. */
const Data = Type.Record(Type.String(), Type.Unknown(), { description: 'Any object, at most 1024 bytes as JSON' })

export const UpdateBody = Type.Object({
  status: PresenceStatus,
  device: Type.Optional(Device),
  last_message: Type.Optional(Nullable(LastMessage)),
  data: Type.Optional(Nullable(Data))
})

export const Updated = Type.Object({
  data: Type.Object({ status: PresenceStatus, device: Device, updated_at: Timestamp })
})

const DisplayStatus = Type.String({ description: 'For people: Online on desktop, Away for 5m, Busy, Offline' })

export const UserPresence = Type.Object({
  user_id: Id,
  status: PresenceStatus,
  device: Nullable(Device),
  last_message: Nullable(Type.String()),
  data: Nullable(Data),
  display_status: DisplayStatus,
  last_seen_at: Nullable(Timestamp)
})
export type UserPresence = Static<typeof UserPresence>

export const UserParams = Type.Object({ userId: Id })

/** 1,2,3 */
export const UserIdsQuery = Type.Object({ user_ids: IdList })

export const OnlineQuery = Type.Object({
  limit: Type.Optional(Type.Integer({ minimum: 1, maximum: 500, default: 100 })),
  cursor: Type.Optional(Id)
})

export const OnlineUsers = Type.Object({
  data: Type.Array(Type.Object({
    user_id: Id,
    name: Nullable(Type.String()),
    status: PresenceStatus,
    device: Nullable(Device),
    last_message: Nullable(Type.String()),
    data: Nullable(Data),
    display_status: DisplayStatus
  })),
  total: Type.Integer({ description: 'All users who are online, on every page' }),
  next_cursor: Nullable(Id)
})
export type OnlineUsers = Static<typeof OnlineUsers>

export const PresenceData = Type.Object({
  status: PresenceStatus,
  device: Type.Optional(Device),
  lastMessage: Type.Optional(Nullable(LastMessage)),
  data: Type.Optional(Nullable(Data))
})
export type PresenceData = Static<typeof PresenceData>

export const PresenceAck = Type.Object({ status: PresenceStatus, device: Device, updatedAt: Timestamp })
export type PresenceAck = Static<typeof PresenceAck>

/** server → client `user:presence` */
export const PresenceChanged = Type.Object({
  userId: Id, status: PresenceStatus, device: Device, lastMessage: Nullable(Type.String()), data: Nullable(Data), timestamp: Timestamp
})
export type PresenceChanged = Static<typeof PresenceChanged>

/** server → client `user:online`, `user:offline` */
export const UserEdge = Type.Object({
  userId: Id, status: Type.Union([Type.Literal('online'), Type.Literal('offline')]), timestamp: Timestamp
})
export type UserEdge = Static<typeof UserEdge>

/** server → client `presence:count`, at most one per second while not every change is sent to everyone */
export const PresenceCount = Type.Object({ online: Type.Integer(), timestamp: Timestamp })
export type PresenceCount = Static<typeof PresenceCount>

/** server → client `presence:mode`. True: every change is sent to everyone from now on, read the list again. */
export const PresenceMode = Type.Object({ everyone: Type.Boolean(), online: Type.Integer() })
export type PresenceMode = Static<typeof PresenceMode>

const WatchedIds = Type.Array(Id, { minItems: 1, maxItems: 500 })

export const WatchData = Type.Object({ userIds: WatchedIds })
export const UnwatchData = Type.Object({ userIds: Type.Optional(Type.Array(Id, { minItems: 1, maxItems: 500, description: 'All if absent' })) })

export const WatchedUser = Type.Object({
  userId: Id,
  status: PresenceStatus,
  device: Nullable(Device),
  lastMessage: Nullable(Type.String()),
  data: Nullable(Data),
  lastSeenAt: Nullable(Timestamp)
})
export type WatchedUser = Static<typeof WatchedUser>

/** In the requested order. Every later change is sent. */
export const WatchAck = Type.Object({ users: Type.Array(WatchedUser) })
export type WatchAck = Static<typeof WatchAck>
export const UnwatchAck = Type.Object({ watching: Type.Integer({ description: 'Users who are still watched' }) })

export const WatchBody = Type.Object({ connection_id: ConnectionId, user_ids: WatchedIds })
export const UnwatchBody = Type.Object({ connection_id: ConnectionId, user_ids: UnwatchData.properties.userIds })

/** A `WatchedUser` in the names of REST. */
export const WatchedRow = Type.Object({
  user_id: Id,
  status: PresenceStatus,
  device: Nullable(Device),
  last_message: Nullable(Type.String()),
  data: Nullable(Data),
  last_seen_at: Nullable(Timestamp)
})

export const clientEvents = {
  'user:presence': { data: PresenceData, ack: PresenceAck },
  'presence:watch': { data: WatchData, ack: WatchAck },
  'presence:unwatch': { data: UnwatchData, ack: UnwatchAck }
} as const

export const serverEvents = {
  'user:presence': PresenceChanged,
  'user:online': UserEdge,
  'user:offline': UserEdge,
  'presence:count': PresenceCount,
  'presence:mode': PresenceMode
} as const

const tags = ['presence'] as const

export const rest = {
  'GET /presence/:userId': {
    tags,
    summary: 'Get the presence of one user',
    params: UserParams,
    response: { ...errorResponses, 200: Type.Object({ data: UserPresence }) }
  },
  'GET /presence': {
    tags,
    summary: 'Get the presence of up to 200 users, in the order given',
    querystring: UserIdsQuery,
    response: { ...errorResponses, 200: Type.Object({ data: Type.Array(UserPresence) }) }
  },
  'GET /online-users': {
    tags, summary: 'List the users who are online, by user id', querystring: OnlineQuery, response: { ...errorResponses, 200: OnlineUsers }
  },
  'POST /presence/update': {
    tags, summary: 'Set the caller’s status', body: UpdateBody, response: { ...bodyErrorResponses, 200: Updated }
  },
  'POST /presence/watch': {
    tags,
    summary: 'Watch up to 500 users: their changes are sent to the connection',
    body: WatchBody,
    response: { ...bodyErrorResponses, 200: Type.Object({ data: Type.Object({ users: Type.Array(WatchedRow) }) }), 404: ErrorResponse, 409: ErrorResponse }
  },
  'POST /presence/unwatch': {
    tags,
    summary: 'Stop watching some users, or all',
    body: UnwatchBody,
    response: { ...bodyErrorResponses, 200: Type.Object({ data: UnwatchAck }), 404: ErrorResponse }
  }
} as const

import { Type, type Static } from '@sinclair/typebox'
import { bodyErrorResponses, Device, errorResponses, Id, IdList, Nullable, PresenceStatus, Timestamp } from '../../lib/schemas.js'

const LastMessage = Type.String({ maxLength: 1000 })

export const UpdateBody = Type.Object({
  status: PresenceStatus,
  device: Type.Optional(Device),
  last_message: Type.Optional(Nullable(LastMessage))
})

export const Updated = Type.Object({
  data: Type.Object({ status: PresenceStatus, device: Device, updated_at: Timestamp })
})

const DisplayStatus = Type.String({ description: 'For people: Online on desktop, Away for 5m, Busy, Offline' })

export const UserPresence = Type.Object({
  user_id: Id,
  status: PresenceStatus,
  device: Nullable(Device),
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
    display_status: DisplayStatus
  })),
  total: Type.Integer({ description: 'All users who are online, on every page' }),
  next_cursor: Nullable(Id)
})
export type OnlineUsers = Static<typeof OnlineUsers>

export const PresenceData = Type.Object({
  status: PresenceStatus,
  device: Type.Optional(Device),
  lastMessage: Type.Optional(Nullable(LastMessage))
})
export type PresenceData = Static<typeof PresenceData>

export const PresenceAck = Type.Object({ status: PresenceStatus, device: Device, updatedAt: Timestamp })
export type PresenceAck = Static<typeof PresenceAck>

/** server → client `user:presence` */
export const PresenceChanged = Type.Object({
  userId: Id, status: PresenceStatus, device: Device, lastMessage: Nullable(Type.String()), timestamp: Timestamp
})
export type PresenceChanged = Static<typeof PresenceChanged>

/** server → client `user:online`, `user:offline` */
export const UserEdge = Type.Object({
  userId: Id, status: Type.Union([Type.Literal('online'), Type.Literal('offline')]), timestamp: Timestamp
})
export type UserEdge = Static<typeof UserEdge>

export const clientEvents = { 'user:presence': { data: PresenceData, ack: PresenceAck } } as const

export const serverEvents = { 'user:presence': PresenceChanged, 'user:online': UserEdge, 'user:offline': UserEdge } as const

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
  }
} as const

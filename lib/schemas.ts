import { Type, type Static, type TSchema } from '@sinclair/typebox'
import { errorCodes } from './errors.js'

/** The shapes that several routes and frames share; each is written here once. */

export { Channel, ClaimedId, Id, IdList, SenderId } from './id-schemas.js'

/** The id of an event: always an integer, also with string ids of tenants and users. */
export const MessageId = Type.Integer({ minimum: 1, maximum: Number.MAX_SAFE_INTEGER })

export const Timestamp = Type.String({ format: 'date-time', description: 'ISO 8601, UTC, with milliseconds' })

/** Chosen by the client or made by the server; one device or tab. */
export const ConnectionId = Type.String({
  pattern: '^[A-Za-z0-9][A-Za-z0-9._:-]{0,254}$', minLength: 1, maxLength: 255
})

/** No blank at either end: SQL comparisons pad with blanks, so `a` and `a ` would be one conversation. */
export const ConversationId = Type.String({ minLength: 1, maxLength: 255, pattern: '^\\S(?:.*\\S)?$' })

/** The epoch of the event log; part of every cursor. If it has changed, earlier cursors do not apply to the log. */
export const Epoch = Type.String({ pattern: '^[A-Za-z0-9_-]{1,32}$' })

export const ConversationType = Type.Union([Type.Literal('direct'), Type.Literal('group'), Type.Literal('broadcast')])
export type ConversationType = Static<typeof ConversationType>

export const PresenceStatus = Type.Union(
  [Type.Literal('online'), Type.Literal('away'), Type.Literal('busy'), Type.Literal('offline'), Type.Literal('invisible')],
  { description: 'invisible: others see the user as offline' })
export type PresenceStatus = Static<typeof PresenceStatus>

export const Device = Type.Union(
  [Type.Literal('mobile'), Type.Literal('desktop'), Type.Literal('tablet'), Type.Literal('web')])
export type Device = Static<typeof Device>

export const Nullable = <T extends TSchema>(schema: T) => Type.Union([schema, Type.Null()])

/** A key of the client's choice: repeating a send with it within 5 minutes returns the original result. */
export const DedupeId = Type.String({ minLength: 1, maxLength: 98 })

/** The ack of every durable event: its id, and when it was accepted. */
export const Accepted = Type.Object({ messageId: MessageId, timestamp: Type.String() })

/** Five figures of one tenant, over all nodes. */
export const TenantStats = Type.Object({
  total_connections: Type.Integer({ description: 'Registered, with a socket or without' }),
  active_connections: Type.Integer({ description: 'Connections with a socket, or with a recent heartbeat' }),
  unique_users: Type.Integer(),
  pending_events: Type.Integer({ description: 'Stored events that are not published, or not confirmed yet' }),
  failed_events: Type.Integer()
})
export type TenantStats = Static<typeof TenantStats>

/** Whether a send that failed with `RT_STORAGE_UNAVAILABLE` may have been stored. */
export const StorageOutcome = Type.Union([Type.Literal('none'), Type.Literal('unknown')], {
  description: 'Only with RT_STORAGE_UNAVAILABLE. none: nothing was stored; unknown: it may have been stored, repeat it with the same dedupe id'
})

/** Fastify's error shape, in which every route returns errors. */
export const ErrorResponse = Type.Object({
  statusCode: Type.Integer(),
  code: Type.String({ description: `FST_ERR_VALIDATION, or one of ${errorCodes.join(', ')}` }),
  error: Type.String(),
  message: Type.String(),
  outcome: Type.Optional(StorageOutcome)
}, { description: 'Error' })

/** The error responses that every route has. */
export const errorResponses = {
  400: ErrorResponse, 401: ErrorResponse, 403: ErrorResponse, 429: ErrorResponse, 500: ErrorResponse, 503: ErrorResponse
} as const

/** The error responses of a route with a body, which may also be too large or not JSON. */
export const bodyErrorResponses = { ...errorResponses, 413: ErrorResponse, 415: ErrorResponse } as const

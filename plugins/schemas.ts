import type { Static, TSchema } from '@sinclair/typebox'
import * as channels from './channels/schemas.js'
import * as connections from './connections/schemas.js'
import * as conversations from './conversations/schemas.js'
import * as presence from './presence/schemas.js'
import * as stats from './stats/schemas.js'
import * as typing from './typing/schemas.js'

/**
 * The JSON Schemas that validate frames and requests, and their types. They are written for integer ids;
 * `withIds(rest, 'string')` converts them to string ids.
 */

/** client → server: the data of each event, and of its ack. */
export const clientEvents = {
  ...connections.clientEvents, ...channels.clientEvents, ...conversations.clientEvents, ...presence.clientEvents, ...typing.clientEvents
} as const

/** server → client: the data of each event. */
export const serverEvents = {
  ...connections.serverEvents, ...channels.serverEvents, ...conversations.serverEvents, ...presence.serverEvents, ...typing.serverEvents
} as const

/** The routes, as `POST /connect`: params, querystring, body, and the response of each status. */
export const rest = { ...connections.rest, ...channels.rest, ...conversations.rest, ...presence.rest, ...typing.rest, ...stats.rest } as const

/** The envelopes around the data. */
export { ClientFrame, ServerFrame } from '../lib/wire/protocol.js'
export { ErrorResponse } from '../lib/schemas.js'
export { Id, withIds } from '../lib/id-schemas.js'

export type ClientEvent = keyof typeof clientEvents
export type ServerEvent = keyof typeof serverEvents
export type RestRoute = keyof typeof rest

/** The data that a client sends with an event. */
export type ClientData<Event extends ClientEvent> = Static<typeof clientEvents[Event]['data']>
/** The data of the ack of an event. */
export type Ack<Event extends ClientEvent> = Static<typeof clientEvents[Event]['ack']>
/** The data that a client receives with an event. */
export type ServerData<Event extends ServerEvent> = Static<typeof serverEvents[Event]>

type Of<Part extends string, Route extends RestRoute> = typeof rest[Route] extends Record<Part, infer Schema extends TSchema> ? Static<Schema> : never
type Response<Route extends RestRoute> = typeof rest[Route]['response']

/** The body of a request; never if it has none. */
export type RestBody<Route extends RestRoute> = Of<'body', Route>
/** The query of a request; never if it has none. */
export type RestQuery<Route extends RestRoute> = Of<'querystring', Route>
/** The response of a route with a status. */
export type RestAnswer<Route extends RestRoute, Status extends keyof Response<Route>> =
  Response<Route>[Status] extends TSchema ? Static<Response<Route>[Status]> : never

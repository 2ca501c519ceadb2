import { Type, type Static, type TObject, type TSchema } from '@sinclair/typebox'
import { TypeCompiler } from '@sinclair/typebox/compiler'
import { ErrorResponse } from '../schemas.js'

/**
 * The protocol on one page. RFC 6455 text frames, one JSON object each: `{ event, data, id? }`.
 * A frame with an `id` gets exactly one `ack` or `error` with that id; replies keep the order of the frames.
 * The events are declared in each plugin's schemas.ts, and registered with the frame router (lib/frame-router.ts). plugins/schemas.ts collects all of them.
 */

/** The path of the socket under the prefix. */
export const SOCKET_PATH = '/ws'

/** Chosen by the client; a frame with an id gets a reply. */
export const FrameId = Type.Union([Type.Integer(), Type.String({ minLength: 1, maxLength: 64 })])
export type FrameId = Static<typeof FrameId>

/** client → server */
export const ClientFrame = Type.Object({
  event: Type.String({ minLength: 1, maxLength: 50 }),
  data: Type.Optional(Type.Record(Type.String(), Type.Unknown())),
  id: Type.Optional(FrameId)
})
export type ClientFrame = Static<typeof ClientFrame>

const envelope = TypeCompiler.Compile(ClientFrame)

/** server → client */
export const ServerFrame = Type.Object({ event: Type.String(), data: Type.Record(Type.String(), Type.Unknown()) })

export const ErrorData = Type.Object({
  code: ErrorResponse.properties.code,
  message: Type.String(),
  retryAfter: Type.Optional(Type.Number({ description: 'seconds' })),
  outcome: ErrorResponse.properties.outcome
})
export type ErrorData = Static<typeof ErrorData>

/** The data of an `ack`; their schema depends on the event. */
export const AckData = Type.Record(Type.String(), Type.Unknown(), { description: 'The result of the event with this id' })

/** client → server events, by name. */
export type ClientEventSchemas = Readonly<Record<string, { data: TObject, ack: TSchema }>>
/** server → client events, by name. */
export type ServerEventSchemas = Readonly<Record<string, TSchema>>

/** One event of the catalogue, as documents and clients read it. */
export type EventDescription =
  | { event: string, direction: 'client', data: TObject, ack: TSchema }
  | { event: string, direction: 'server', data: TSchema }

/** The catalogue of these events. */
export const eventsOf = ({ client = {}, server = {} }: { client?: ClientEventSchemas, server?: ServerEventSchemas }): EventDescription[] => [
  ...Object.entries(client).map(([event, { data, ack }]): EventDescription => ({ event, direction: 'client', data, ack })),
  ...Object.entries(server).map(([event, data]): EventDescription => ({ event, direction: 'server', data }))
]

/** Parses a frame; null if the text is not one. */
export function parseFrame (text: string): ClientFrame | null {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    return null
  }
  return envelope.Check(value) ? value : null
}

/** The `id` of JSON that is not a valid frame, so that the error can refer to it. */
export function idOf (text: string): FrameId | undefined {
  try {
    const value: unknown = JSON.parse(text)
    if (typeof value !== 'object' || value === null || !('id' in value)) return undefined
    const { id } = value
    if (Number.isInteger(id) || (typeof id === 'string' && id.length > 0 && id.length <= 64)) return id as FrameId
  } catch {}
  return undefined
}

export const encodeFrame = (event: string, data: unknown, id?: FrameId): Buffer =>
  Buffer.from(JSON.stringify(id === undefined ? { event, data } : { event, id, data }))

/**
 * A durable event's frame from its stored payload. The id is known only after the insert, so it is put in front
 * of the stored text instead of parsing and encoding the text again.
 */
export function encodeStored (event: string, messageId: number, payload: string): Buffer {
  const rest = payload === '{}' ? '}' : ',' + payload.slice(1)
  return Buffer.from(`{"event":${JSON.stringify(event)},"data":{"messageId":${messageId}${rest}}`)
}

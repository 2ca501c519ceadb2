import type { TSchema } from '@sinclair/typebox'
import { CloseCode } from './close-codes.js'
import { FrameId, SOCKET_PATH, type EventDescription } from './protocol.js'

export interface AsyncApiOptions {
  /** `app.realtime.frames.catalogue`: the schemas that validate the frames. */
  events: readonly EventDescription[]
  /** The prefix of the socket's path, `/api/websocket`. */
  prefix?: string
  title?: string
  version?: string
  /** Where clients find the host, e.g. `{ host: 'api.example.com', protocol: 'wss' }`. */
  server?: { host: string, protocol: 'ws' | 'wss' }
}

/** A document as JSON. */
export type AsyncApiDocument = Record<string, unknown> & { asyncapi: '3.0.0' }

const description = `Text frames, one JSON object each: \`{ event, data, id? }\`. A frame with an \`id\` gets exactly one \`ack\` or
\`error\` with that id; replies keep the order of the frames. Without an \`id\` success is silent, except for \`authenticated\`,
\`subscribed\`, \`unsubscribed\` and \`pong\`. Close codes: ${Object.entries(CloseCode).map(([name, code]) => `${code} ${name}`).join(', ')}.`

/** The socket as an AsyncAPI 3 document, from the schemas that validate its frames. `receive` operations are events that clients send. */
export function asyncapi ({ events, prefix = '/api/websocket', title = 'fastify-realtime', version = '1.0.0', server }: AsyncApiOptions): AsyncApiDocument {
  const messages: Record<string, object> = {}
  const operations: Record<string, object> = {}
  for (const described of events) {
    const { event, direction, data } = described
    const key = keyOf(direction, event)
    const isReply = direction === 'server' && (event === 'ack' || event === 'error')
    messages[key] = message(event, { event, data, id: direction === 'client' || isReply })
    if (direction === 'server') {
      // Acks are documented as replies of their events.
      if (event !== 'ack') operations[key] = { action: 'send', channel: channelRef, messages: [messageRef(key)] }
      continue
    }
    const ack = keyOf('ack', event)
    messages[ack] = message('ack', { event: 'ack', data: described.ack, id: 'required' }, `Answers ${event}`)
    operations[key] = {
      action: 'receive',
      channel: channelRef,
      messages: [messageRef(key)],
      reply: { channel: channelRef, messages: [messageRef(ack), ...(hasError(events) ? [messageRef(ERROR)] : [])] }
    }
  }
  return {
    asyncapi: '3.0.0',
    id: 'urn:fastify-realtime',
    info: { title, version, description },
    defaultContentType: 'application/json',
    ...(server === undefined ? {} : { servers: { host: { ...server, security: [{ $ref: '#/components/securitySchemes/bearer' }] } } }),
    channels: {
      socket: {
        address: prefix + SOCKET_PATH,
        messages: Object.fromEntries(Object.keys(messages).map((key) => [key, { $ref: `#/components/messages/${key}` }])),
        bindings: { ws: { method: 'GET' } }
      }
    },
    operations,
    components: {
      messages,
      securitySchemes: {
        bearer: {
          type: 'http',
          scheme: 'bearer',
          description: 'At the upgrade, as the subprotocol pair `bearer, <token>`, or in an `auth` frame'
        }
      }
    }
  }
}

const channelRef = { $ref: '#/channels/socket' }
const messageRef = (key: string): { $ref: string } => ({ $ref: `#/channels/socket/messages/${key}` })

/** Keys of a document contain no colons. */
const keyOf = (kind: 'client' | 'server' | 'ack', event: string): string => `${kind}.${event.replaceAll(':', '.')}`
const ERROR = keyOf('server', 'error')
const hasError = (events: readonly EventDescription[]): boolean => events.some(({ direction, event }) => direction === 'server' && event === 'error')

function message (name: string, frame: { event: string, data: TSchema, id: boolean | 'required' }, title = name): object {
  return { name, title, contentType: 'application/json', payload: envelope(frame) }
}

/** The schema of the whole frame. A client may omit data without required fields. */
function envelope ({ event, data, id }: { event: string, data: TSchema, id: boolean | 'required' }): object {
  const needsData = id !== true || ((data.required as string[] | undefined) ?? []).length > 0
  return {
    type: 'object',
    properties: { event: { const: event }, ...(id === false ? {} : { id: FrameId }), data },
    required: ['event', ...(needsData ? ['data'] : []), ...(id === 'required' ? ['id'] : [])]
  }
}

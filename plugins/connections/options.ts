import { Type, type Static } from '@sinclair/typebox'

const ms = (description: string, value: number, minimum = 1) =>
  Type.Integer({ minimum, maximum: 2 ** 31 - 1, default: value, description: `${description}, in milliseconds` })

/** Options of the connections plugin, with their defaults. */
export const ConnectionSettings = Type.Object({
  pingInterval: ms('Pause between two pings; a socket that answers two of them with silence is dead', 25_000),
  authDeadline: ms('How long a socket may stay unauthenticated', 10_000),
  maxConnectionsPerUser: Type.Integer({ default: 20, minimum: 1, description: 'Over all nodes; past it the oldest is replaced' }),
  framesPerSecond: Type.Integer({ default: 50, minimum: 0, description: 'Frames a second and connection; 0: no limit' }),
  frameBurst: Type.Integer({ default: 100, minimum: 1, description: 'Frames at once after a quiet time' }),
  maxFrameSize: Type.Integer({ default: 64 * 1024, minimum: 1024, description: 'Bytes of one frame' }),
  maxBuffered: Type.Integer({ default: 1024 * 1024, minimum: 1024, description: 'Bytes that may wait for a slow reader' }),
  allowedOrigins: Type.Array(Type.String(), {
    default: [],
    description: 'Exact origins of any scheme that may open a socket, besides the host’s own, and "null"; a client that is no browser sends none'
  }),
  closeDeadline: ms('All sockets are closed this long after app.close() began', 10_000, 100),
  perMessageDeflate: Type.Boolean({ default: false, description: 'Compression costs much memory for each socket' })
})
export type ConnectionSettings = Static<typeof ConnectionSettings>

/** How long before its credentials end a client is told, in milliseconds. */
export const EXPIRY_WARNING_MS = 30_000
/** How long a peer has to answer a close, in milliseconds. */
export const CLOSE_TIMEOUT_MS = 5000

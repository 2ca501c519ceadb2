import { Type, type Static } from '@sinclair/typebox'
import { ms } from '../../lib/settings.js'

/** Options of the connections plugin, with their defaults. */
export const ConnectionSettings = Type.Object({
  pingInterval: ms('Interval of pings; a socket that leaves two unanswered is closed', 25_000),
  authDeadline: ms('Time within which a socket must authenticate', 10_000),
  maxConnectionsPerUser: Type.Integer({ default: 20, minimum: 1, description: 'Connections of one user, over all nodes; beyond it the oldest one is closed' }),
  framesPerSecond: Type.Integer({ default: 50, minimum: 0, description: 'Frames per second of one connection; 0: no limit' }),
  frameBurst: Type.Integer({ default: 100, minimum: 1, description: 'Frames that a connection may send at once after a pause' }),
  maxFrameSize: Type.Integer({ default: 64 * 1024, minimum: 1024, description: 'Bytes of one frame from a client' }),
  maxBuffered: Type.Integer({ default: 1024 * 1024, minimum: 1024, description: 'Bytes that may wait for a slow reader; beyond it the socket is closed' }),
  allowedOrigins: Type.Array(Type.String(), {
    default: [],
    description: 'Origins that may open a socket besides the host’s own: exact `scheme://host[:port]`, or `null`. Clients other than browsers send no origin'
  }),
  closeDeadline: ms('Time within which app.close() closes all sockets', 10_000, { minimum: 100 }),
  drainSeconds: Type.Number({
    default: 5, minimum: 0, maximum: 3600, description: 'Seconds over which app.close() closes many sockets, within `closeDeadline`, so that their clients do not all reconnect at the same time'
  }),
  drainGrace: ms('Time for which users stay online after app.close() closed their last connection with 1012', 30_000, { minimum: 0 }),
  perMessageDeflate: Type.Boolean({ default: false, description: 'Compression; costs much memory per socket' })
})
export type ConnectionSettings = Static<typeof ConnectionSettings>

/** Time before its credentials expire at which a client gets `token:expiring`. */
export const EXPIRY_WARNING_MS = 30_000
/** Time for a client to respond to a close. */
export const CLOSE_TIMEOUT_MS = 5000

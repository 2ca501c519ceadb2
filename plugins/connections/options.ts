import { Type, type Static } from '@sinclair/typebox'
import { OptionError } from '../../lib/errors.js'
import { ms, readSettings } from '../../lib/settings.js'

const MIN_BYTES = 1024
const bytes = (value: number, description: string) =>
  Type.Integer({ default: value, minimum: 0, description: `${description}; at least ${MIN_BYTES}. 0: no limit` })

/** Options of the connections plugin, with their defaults. */
export const ConnectionSettings = Type.Object({
  pingInterval: ms('Interval of pings; a socket that leaves two unanswered is closed', 25_000),
  authDeadline: ms('Time within which a socket must authenticate', 10_000),
  maxConnectionsPerUser: Type.Integer({ default: 20, minimum: 0, description: 'Connections of one user, over all nodes; beyond it the oldest one is closed. 0: no limit' }),
  framesPerSecond: Type.Integer({ default: 50, minimum: 0, description: 'Frames per second of one connection; 0: no limit' }),
  frameBurst: Type.Integer({ default: 100, minimum: 1, description: 'Frames that a connection may send at once after a pause' }),
  maxFrameSize: bytes(64 * 1024, 'Bytes of one frame from a client'),
  maxBuffered: bytes(1024 * 1024, 'Bytes that may wait for a slow reader; beyond it the socket is closed'),
  allowedOrigins: Type.Array(Type.String(), {
    default: [],
    description: 'Origins that may open a socket besides the host’s own: exact `scheme://host[:port]`, or `null`. Clients other than browsers send no origin'
  }),
  closeDeadline: ms('Time within which app.close() closes all sockets', 10_000, { minimum: 100 }),
  drainSeconds: Type.Number({
    default: 5, minimum: 0, maximum: 3600, description: 'Seconds over which app.close() closes many sockets, within `closeDeadline`, so that their clients do not all reconnect at the same time'
  }),
  maxPerAddress: Type.Integer({ default: 1000, minimum: 0, description: 'Open sockets of one client address on this node (IPv6: of one /64); beyond it upgrades get 429. 0: no limit' }),
  maxPendingPerAddress: Type.Integer({ default: 200, minimum: 0, description: 'Sockets of one client address that are not authenticated yet; beyond it upgrades get 429. 0: no limit' }),
  limitPrivateAddresses: Type.Boolean({ default: false, description: 'Whether limits by address also apply to loopback and private addresses' }),
  connectRate: Type.Integer({ default: 0, minimum: 0, description: 'Upgrades per second of this node; beyond it they get 503. 0: no limit' }),
  maxSockets: Type.Integer({ default: 0, minimum: 0, description: 'Sockets of this node; beyond it upgrades get 503. 0: no limit' }),
  maxLag: ms('Lag of the event loop above which this node admits new sockets more slowly; sockets that would wait for more than 6 s are closed with 1013. 0: no limit', 50, { minimum: 0 }),
  drainGrace: ms('Time for which users stay online after app.close() closed their last connection with 1012', 30_000, { minimum: 0 }),
  perMessageDeflate: Type.Boolean({ default: false, description: 'Compression; costs much memory per socket' })
})
export type ConnectionSettings = Static<typeof ConnectionSettings>

/** "No limit" as a number that is never reached. */
const UNLIMITED = 2 ** 31 - 1

/** Reads and checks the options. Limits of 0 become {@link UNLIMITED}. */
export function readConnectionSettings (options: Partial<ConnectionSettings>): ConnectionSettings {
  const settings = readSettings(ConnectionSettings, options, { of: 'connections', besides: [] })
  for (const name of ['maxFrameSize', 'maxBuffered'] as const) {
    if (settings[name] > 0 && settings[name] < MIN_BYTES) throw new OptionError(name, `is ${settings[name]}: expected 0, or at least ${MIN_BYTES} bytes`)
    settings[name] ||= UNLIMITED
  }
  settings.maxConnectionsPerUser ||= UNLIMITED
  return settings
}

/** How long before its credentials expire a client gets `token:expiring`, in milliseconds. */
export const EXPIRY_WARNING_MS = 30_000
/** Time for a client to respond to a close. */
export const CLOSE_TIMEOUT_MS = 5000
/** The same for a socket that was refused as it opened. */
export const REFUSAL_TIMEOUT_MS = 500
/** Time from the first byte of a frame until it must be complete, in milliseconds. */
export const FRAME_TIMEOUT_MS = 30_000

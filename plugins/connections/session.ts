import type { FastifyRequest } from 'fastify'
import type { Identity } from '../../lib/identity.js'
import type { Internals } from '../../lib/internals.js'
import type { Device } from '../../lib/schemas.js'
import type { FrameLimits } from './frame-limiter.js'
import type { Transport } from './transport.js'

/** An authenticated connection, as registered in the roster. */
export interface Session {
  identity: Identity
  connectionId: string
  generation: string
  connectedAt: number
  /** Time of the last authentication. */
  authenticatedAt: number
  /** It was sent `token:expiring`. */
  warned: boolean
}

/** Properties of the client besides its identity. */
export interface ClientDescription {
  browser: string | null
  device: Device
  ipAddress: string | null
}

/** The parts of a new connection. */
export interface Opening {
  transport: Transport
  /** The upgrade request, or the request for a stream: passed to `authenticate` with later `auth` frames. */
  request: FastifyRequest
  client: ClientDescription
}

/** The phases of a connection: before authentication, authenticated, closing or closed. */
export type Phase =
  | { name: 'opening', since: number }
  | { name: 'open', session: Session }
  /** `code`: the code with which this node closed it; null if the client did. */
  | { name: 'closing', since: number, session: Session | null, code: number | null }

/** The shared parts that a connection uses. */
export type ConnectionInternals = Pick<Internals, 'hub' | 'eventLog' | 'clock' | 'metrics' | 'defaultChannels' | 'channelLeft'>

export const NO_CHANNELS: ReadonlySet<string> = new Set()

export interface ConnectionOptions extends FrameLimits {
  /** Bytes that may wait for a slow reader. */
  maxBuffered: number
}

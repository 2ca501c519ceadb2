import type { FastifyRequest } from 'fastify'
import type { WebSocket } from 'ws'
import type { Identity } from '../../lib/identity.js'
import type { Device } from '../../lib/schemas.js'
import type { FrameLimits } from './frame-limiter.js'
import type { RawSocket } from './node/raw-socket.js'

/** What an authenticated connection is to the roster and to others. */
export interface Session {
  identity: Identity
  connectionId: string
  generation: string
  connectedAt: number
  /** When the credentials were shown. */
  authenticatedAt: number
  /** Told that its credentials end soon. */
  warned: boolean
}

/** What is known of the client besides its identity. */
export interface ClientDescription {
  browser: string | null
  device: Device
  ipAddress: string | null
}

/** What a connection is made of. */
export interface Upgraded {
  socket: WebSocket
  /** Where frames can be written as they are; null behind compression or a test's stream. */
  raw: RawSocket | null
  /** The upgrade request: later `auth` frames are shown to the host with it. */
  request: FastifyRequest
  client: ClientDescription
}

/** Before, during and after its life as an authenticated connection. */
export type Phase =
  | { name: 'opening', since: number }
  | { name: 'open', session: Session }
  /** `code`: with which it is closed from here; null where its peer did. */
  | { name: 'closing', since: number, session: Session | null, code: number | null }

export interface ConnectionOptions extends FrameLimits {
  /** Bytes that may wait for a slow reader. */
  maxBuffered: number
}

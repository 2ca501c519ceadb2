import type { Batch } from '../../lib/delivery/batch.js'

/** The transport of a connection: a WebSocket, or the response of a stream. */
export interface Transport {
  /** Identifies it among all transports of the node. Limits count it by this object. */
  readonly source: object
  /** Events can be written. */
  readonly isOpen: boolean
  /** Bytes that were written and not taken by the client yet. */
  readonly waiting: number
  /** Changes with each byte that the client takes. */
  readonly progress: number
  /** Nothing is read from the client. */
  readonly isPaused: boolean
  /** A message of the client has arrived in part. */
  readonly isMidMessage: boolean
  /** Bytes that `write` would write. */
  sizeOf (batch: Batch): number
  write (batch: Batch): void
  /** Collects everything written until the end of this turn into one write. */
  cork (): void
  /** Offers collected bytes to the kernel. */
  flush (): void
  /** All replays are done. */
  replayed (): void
  /** Pings after which a client that sent nothing meanwhile counts as gone. */
  readonly patience: number
  /** Keeps the connection alive, and requests a response if the transport supports that. */
  ping (): void
  /** The client sent a ping of its own. */
  notePing (): void
  pause (): void
  resume (): void
  /** Sends the code and the reason, and closes. */
  close (code: number, reason: string): void
  /** Destroys the connection. */
  terminate (): void
}

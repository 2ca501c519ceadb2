import type { Batch } from '../../lib/delivery/batch.js'

/** What a connection needs of what carries it: a WebSocket, or the response to a request for a stream. */
export interface Transport {
  /** Identifies it among all transports of the node, and is where its place of the limits is kept. */
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
  /** Keeps the connection alive, and asks the client for a sign where it can give one. */
  ping (): void
  /** The client sent a ping of its own. */
  notePing (): void
  pause (): void
  resume (): void
  /** Tells the client why, and closes. */
  close (code: number, reason: string): void
  /** Closes without telling. */
  terminate (): void
}

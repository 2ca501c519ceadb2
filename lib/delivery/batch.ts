import { streamBytes, withCursor, type StreamBytes } from '../wire/event-stream.js'
import { websocketFrame } from '../wire/websocket-frame.js'

/**
 * Encoded events that are written together, to one member or to many. The bytes that a transport adds are built when the first
 * member needs them, once for all members of a node.
 */
export class Batch {
  readonly payloads: readonly Buffer[]
  /** All of them are ephemeral: they may be dropped. */
  readonly isEphemeral: boolean
  /** The largest id of a durable event; 0 without one. */
  readonly newest: number
  #wire: Buffer | null = null
  #stream: StreamBytes | null = null
  #marked: StreamBytes | null = null
  #epoch = ''

  constructor (payloads: readonly Buffer[], isEphemeral: boolean, newest: number) {
    this.payloads = payloads
    this.isEphemeral = isEphemeral
    this.newest = newest
  }

  /** A reply, which belongs to no channel. */
  static ofReply (payload: Buffer): Batch {
    return new Batch([payload], false, 0)
  }

  /** Bytes of the events, without the bytes that a transport adds. */
  get bytes (): number {
    let bytes = 0
    for (const { length } of this.payloads) bytes += length
    return bytes
  }

  /** Complete WebSocket frames, one after the other. */
  get wire (): Buffer {
    return this.#wire ??= wireOf(this.payloads)
  }

  /** The first events; without a cursor, because their ids are not known here. */
  first (count: number): Batch {
    return new Batch(this.payloads.slice(0, count), this.isEphemeral, 0)
  }

  /** Each event as a batch of its own. */
  split (): Batch[] {
    const last = this.payloads.length - 1
    return this.payloads.map((payload, i) => new Batch([payload], this.isEphemeral, i === last ? this.newest : 0))
  }

  /** Server-sent events. */
  get stream (): StreamBytes {
    return this.#stream ??= streamBytes(this.payloads)
  }

  /** Server-sent events, followed by the cursor at the newest one. */
  marked (epoch: string): StreamBytes {
    if (this.#marked === null || this.#epoch !== epoch) {
      this.#epoch = epoch
      this.#marked = withCursor(this.stream, `${epoch}.${this.newest}`)
    }
    return this.#marked
  }
}

function wireOf (payloads: readonly Buffer[]): Buffer {
  const [only] = payloads
  return payloads.length === 1 && only !== undefined ? websocketFrame(only) : Buffer.concat(payloads.map(websocketFrame))
}

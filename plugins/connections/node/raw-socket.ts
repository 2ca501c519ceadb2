import { writeSync } from 'node:fs'
import { Socket } from 'node:net'
import { TLSSocket } from 'node:tls'

/**
 * Writes complete WebSocket frames to the TCP socket below a WebSocket.
 *
 * Reaches into Node: `socket._handle.fd`, and `writeSync` on it. Serves the bench rows "fan-out under load", "one at a time",
 * "across nodes" and "latency". A stream allocates a request, a callback and a tick per write; with one small write for each
 * of many members that costs more than everything else. It is needed only when the kernel does not accept more. So the bytes
 * are offered to the kernel first; the rest, and everything after it, goes through the stream, with its backpressure and
 * its errors. Without a descriptor (TLS, Windows, another Node) every write goes through the stream.
 */
export class RawSocket {
  readonly #socket: Socket
  /** Null until first needed: on most sockets little is written besides the first reply, which goes through the stream. */
  #descriptor: number | null = null
  #corked: Buffer[] | null = null
  #corkedBytes = 0

  constructor (socket: Socket) {
    this.#socket = socket
  }

  /** Bytes that the kernel has not accepted yet. */
  get waiting (): number {
    return this.#socket.writableLength + this.#corkedBytes
  }

  write (bytes: Buffer): void {
    const socket = this.#socket
    if (this.#corked !== null) {
      this.#corked.push(bytes)
      this.#corkedBytes += bytes.length
      return
    }
    // Bytes in the stream come first. A destroyed socket is not `writable`: another socket may have its descriptor by now.
    const descriptor = socket.writableLength > 0 || socket.writableCorked > 0 || !socket.writable ? -1 : this.#descriptor ??= descriptorOf(socket)
    if (descriptor < 0) {
      socket.write(bytes)
      return
    }
    let taken = 0
    try {
      taken = writeSync(descriptor, bytes, 0, bytes.length)
    } catch {
      // The buffer of the kernel is full, or the connection is broken: the stream waits, or emits the error.
    }
    if (taken < bytes.length) socket.write(taken === 0 ? bytes : bytes.subarray(taken))
  }

  /** Collects everything written until the end of this turn into one write. */
  cork (): void {
    if (this.#corked !== null || this.#socket.writableCorked > 0) return
    this.#corked = []
    process.nextTick(flush, this)
  }

  /** Writes the collected bytes, before something is written to the socket in another way. */
  flush (): void {
    if (this.#corked === null) return
    const corked = this.#corked
    const [first] = corked
    this.#corked = null
    this.#corkedBytes = 0
    if (first !== undefined) this.write(corked.length === 1 ? first : Buffer.concat(corked))
  }
}

const flush = (raw: RawSocket): void => { raw.flush() }

/** -1 if bytes must go through the stream: it encrypts them, its `write` is replaced, or there is no descriptor (Windows). */
function descriptorOf (socket: Socket): number {
  if (socket instanceof TLSSocket || socket.write !== Socket.prototype.write) return -1
  const handle: unknown = Reflect.get(socket, '_handle')
  const descriptor: unknown = typeof handle === 'object' && handle !== null ? Reflect.get(handle, 'fd') : undefined
  return typeof descriptor === 'number' ? descriptor : -1
}

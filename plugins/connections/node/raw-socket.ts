import { writeSync } from 'node:fs'
import { Socket } from 'node:net'
import { TLSSocket } from 'node:tls'

/**
 * The TCP socket below a WebSocket, to which ready frames are written as they are.
 *
 * A stream keeps accounts of each write: a request object, a callback, a tick. With one small write for each of many
 * members that costs more than all else this process does for them, and is needed only where the kernel takes no more.
 * So the kernel is asked first; what it leaves, and all that comes behind it, is the stream's, with its backpressure and
 * its errors.
 */
export class RawSocket {
  readonly #socket: Socket
  /** Null until it is asked for: most sockets are written little but their greeting, which waits in the stream. */
  #descriptor: number | null = null
  #corked: Buffer[] | null = null
  #corkedBytes = 0

  constructor (socket: Socket) {
    this.#socket = socket
  }

  /** Bytes that the kernel has not taken yet. */
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
    // Behind what waits. A socket that is destroyed is not `writable`: its descriptor may be another's by now.
    const descriptor = socket.writableLength > 0 || socket.writableCorked > 0 || !socket.writable ? -1 : this.#descriptor ??= descriptorOf(socket)
    if (descriptor < 0) {
      socket.write(bytes)
      return
    }
    let taken = 0
    try {
      taken = writeSync(descriptor, bytes, 0, bytes.length)
    } catch {
      // Full: the stream waits until it is not. Broken: the stream finds out too, and tells.
    }
    if (taken < bytes.length) socket.write(taken === 0 ? bytes : bytes.subarray(taken))
  }

  /** What is written from now on until the turn is over leaves as one write. */
  cork (): void {
    if (this.#corked !== null || this.#socket.writableCorked > 0) return
    this.#corked = []
    process.nextTick(flush, this)
  }

  /** Writes what was gathered: something is about to be written that does not come this way. */
  flush (): void {
    if (this.#corked === null) return
    const corked = this.#corked
    const [first] = corked
    this.#corked = null
    this.#corkedBytes = 0
    if (first !== undefined) this.write(corked.length === 1 ? first : Buffer.concat(corked))
  }
}

/** A number that changes whenever the kernel takes something of what waits in a socket, and not when more is written. */
export function progressOf (socket: Socket): number {
  // The stream counts a write as taken when all of it is; within one, what libuv has not passed on becomes less.
  const handle: unknown = Reflect.get(socket, '_handle')
  const queued: unknown = typeof handle === 'object' && handle !== null ? Reflect.get(handle, 'writeQueueSize') : undefined
  return socket.bytesWritten - socket.writableLength - (typeof queued === 'number' ? queued : 0)
}

const flush = (raw: RawSocket): void => { raw.flush() }

/** -1 where bytes must go through the stream: it encrypts them, somebody listens in on its writes, or Node does not say (Windows). */
function descriptorOf (socket: Socket): number {
  if (socket instanceof TLSSocket || socket.write !== Socket.prototype.write) return -1
  const handle: unknown = Reflect.get(socket, '_handle')
  const descriptor: unknown = typeof handle === 'object' && handle !== null ? Reflect.get(handle, 'fd') : undefined
  return typeof descriptor === 'number' ? descriptor : -1
}

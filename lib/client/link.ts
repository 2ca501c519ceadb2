import type { ClientClock } from './clock.js'
import { ClientError, type ClientErrorCode } from './errors.js'
import type { Frame } from './types.js'

/** What the client needs of a WebSocket: a browser's, Node's own, or the one of `ws`. */
export interface SocketLike {
  send (text: string): void
  close (code?: number, reason?: string): void
  addEventListener (type: 'open' | 'error', listener: () => void): void
  addEventListener (type: 'message', listener: (event: { data: unknown }) => void): void
  addEventListener (type: 'close', listener: (event: Closed) => void): void
}
export type SocketClass = new (url: string) => SocketLike

export interface Closed { code: number, reason: string }

interface Waiting { resolve: (data: unknown) => void, reject: (err: ClientError) => void, onAck?: ((data: unknown) => void) | undefined, timer: unknown }

/** Below the server's 50 a second and 100 at once: a hundred channels to resume must not look like a flood. */
const FRAMES_PER_SECOND = 40
const BURST = 60
/** The server answers each frame in order and in time; one that does not is as good as gone. */
const REPLY_TIMEOUT = 15_000

/** One socket: frames out, no faster than the server takes them, and their replies. */
export class Link {
  readonly opened: Promise<boolean>
  readonly closed: Promise<Closed>
  /** When anything came last. */
  heardAt: number
  readonly #socket: SocketLike
  readonly #clock: ClientClock
  /** By the frame's id, or by the name of an event that comes unasked. */
  readonly #waiting = new Map<unknown, Waiting>()
  /** Frames that came before anyone listened. */
  #early: Frame[] = []
  #onFrame = (frame: Frame): void => { this.#early.push(frame) }
  #queue: Array<() => void> = []
  #tokens = BURST
  #filledAt: number
  #ids = 0
  #gone: ((closed: Closed) => void) | null = null

  /** Throws what the constructor of the socket throws. */
  constructor (socket: SocketLike, clock: ClientClock) {
    this.#socket = socket
    this.#clock = clock
    this.heardAt = this.#filledAt = clock.now()
    this.closed = new Promise((resolve) => { this.#gone = resolve })
    this.opened = new Promise((resolve) => {
      socket.addEventListener('open', () => { resolve(true) })
      void this.closed.then(() => { resolve(false) })
    })
    socket.addEventListener('error', () => {}) // `close` follows
    socket.addEventListener('close', ({ code, reason }) => { this.#end({ code, reason }) })
    socket.addEventListener('message', ({ data }) => {
      if (this.#gone === null) return
      this.heardAt = clock.now()
      const frame = JSON.parse(String(data)) as Frame
      if (!this.#answer(frame)) this.#onFrame(frame)
    })
  }

  get isClosed (): boolean {
    return this.#gone === null
  }

  /** From now on, and what came before: the server sends what waited right behind its first answer. */
  listen (onFrame: (frame: Frame) => void): void {
    this.#onFrame = onFrame
    for (const frame of this.#early.splice(0)) onFrame(frame)
  }

  /**
   * The ack's data. Rejects with what an `error` frame says, and with `RT_SOCKET_CLOSED`. `onAck` is given it before the
   * next frame is looked at, which a promise is not.
   */
  async request (event: string, data: object, onAck?: (data: unknown) => void): Promise<unknown> {
    const id = ++this.#ids
    return await this.#wait(id, (waiting) => {
      waiting.onAck = onAck
      this.#write(() => {
        waiting.timer = this.#clock.setTimeout(() => { this.drop('no reply in time') }, REPLY_TIMEOUT)
        this.#socket.send(JSON.stringify({ event, data, id }))
      })
    })
  }

  /** The data of the first event of this name, which may have come with the opening. */
  async expect (event: string): Promise<unknown> {
    const early = this.#early.find((frame) => frame.event === event)
    return early !== undefined ? early.data : await this.#wait(event, () => {})
  }

  /** A sign of life is asked for, past the queue. */
  ping (): void {
    if (!this.isClosed) this.#socket.send('{"event":"ping"}')
  }

  close (code: number, reason: string): void {
    this.#socket.close(code, reason)
    this.#end({ code, reason })
  }

  /** Gives it up without waiting for a peer that may be gone. */
  drop (reason: string): void {
    // Only `ws` has it; a browser's `close` waits for the peer, unseen.
    if ('terminate' in this.#socket) (this.#socket as SocketLike & { terminate: () => void }).terminate()
    else this.#socket.close()
    this.#end({ code: 1006, reason })
  }

  async #wait (key: unknown, begin: (waiting: Waiting) => void): Promise<unknown> {
    return await new Promise((resolve, reject) => {
      if (this.isClosed) {
        reject(new ClientError('RT_SOCKET_CLOSED', 'The socket is closed'))
        return
      }
      const waiting: Waiting = { resolve, reject, timer: undefined }
      this.#waiting.set(key, waiting)
      begin(waiting)
    })
  }

  #answer ({ event, id, data }: Frame): boolean {
    const waiting = this.#waiting.get(id ?? event)
    if (waiting === undefined) return id !== undefined || event === 'pong'
    this.#waiting.delete(id ?? event)
    this.#clock.clearTimeout(waiting.timer)
    if (event === 'error') waiting.reject(errorOf(data))
    else {
      waiting.onAck?.(data)
      waiting.resolve(data)
    }
    return true
  }

  #write (send: () => void): void {
    this.#queue.push(send)
    if (this.#queue.length === 1) this.#drain()
  }

  #drain (): void {
    const now = this.#clock.now()
    this.#tokens = Math.min(BURST, this.#tokens + (now - this.#filledAt) * FRAMES_PER_SECOND / 1000)
    this.#filledAt = now
    while (this.#queue.length > 0 && this.#tokens >= 1) {
      this.#tokens--
      this.#queue.shift()?.()
    }
    if (this.#queue.length > 0) this.#clock.setTimeout(() => { this.#drain() }, 100)
  }

  #end (closed: Closed): void {
    if (this.#gone === null) return
    this.#queue = []
    for (const { reject, timer } of this.#waiting.values()) {
      this.#clock.clearTimeout(timer)
      reject(new ClientError('RT_SOCKET_CLOSED', `The socket was closed with ${closed.code} ${closed.reason}`, { closeCode: closed.code }))
    }
    this.#waiting.clear()
    const gone = this.#gone
    this.#gone = null
    gone(closed)
  }
}

/** An `error` frame's data as an error. */
export function errorOf (data: object): ClientError {
  const { code, message, retryAfter } = data as { code: ClientErrorCode, message: string, retryAfter?: number }
  return new ClientError(code, message, { retryAfter })
}

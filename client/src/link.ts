import type { ClientClock } from './clock.js'
import { ClientError, type ClientErrorCode } from './errors.js'
import type { Scope } from './scope.js'
import type { Frame } from './wire.js'

/** What the client needs of a WebSocket: a browser's, Node's own, or the one of `ws`. */
export interface SocketLike {
  send (text: string): void
  close (code?: number, reason?: string): void
  /** Only `ws` has it; a browser's `close` waits for the peer, unseen. */
  terminate? (): void
  addEventListener (type: 'open' | 'error', listener: () => void): void
  addEventListener (type: 'message', listener: (event: { data: unknown }) => void): void
  addEventListener (type: 'close', listener: (event: { code: number, reason: string }) => void): void
}
export type SocketClass = new (url: string) => SocketLike

/** One way to the server and back. `onAck` is given the answer before the next frame is looked at, which a promise is not. */
export type Carrier = (event: string, data: object, onAck?: (data: unknown) => void) => Promise<unknown>

/** One socket: frames out, no faster than the server takes them, and their replies. */
export interface Link {
  /** Why it was closed. */
  readonly closed: Promise<ClientError>
  /** What the server said when it closed it. */
  reason?: string
  /** Ends with the socket. */
  readonly scope: Scope
  /** When anything came last. */
  heardAt: number
  /** It was closed because of a frame that is refused by now: too big a one. */
  isExplained?: boolean
  /** The ack's data. Rejects with what an `error` frame says, and with `RT_SOCKET_CLOSED`. */
  readonly request: Carrier
  /** The data of an event that comes without being asked for. */
  expect (event: string, onEvent: (data: unknown) => void): Promise<unknown>
  /** Asks for a sign of life, past the queue. */
  ping (): void
  /** Gives it up without waiting for a peer that may be gone. */
  drop (): void
}

interface Waiting {
  resolve: (data: unknown) => void
  reject: (err: ClientError) => void
  onAck?: ((data: unknown) => void) | undefined
  /** Ends its deadline; absent: not sent yet. */
  stop?: () => void
  text: string
}

/** Below the server's 50 a second and 100 at once: a hundred channels to resume must not look like a flood. */
const BURST = 50
const WINDOW = 1250
/** Milliseconds for an answer, longer than all that the server itself waits for: then the socket is given up. */
const DEADLINE = 30_000
/** Milliseconds until a socket that failed has to say so with `close`, which not all of them do. */
const FAILED = 1000
/** Milliseconds in which an error that nobody asked for explains the close behind it. */
const EXPLAINS = 5000

export function createLink (
  socket: SocketLike, clock: ClientClock, scope: Scope, maxFrameSize: number, onOpen: () => void, onFrame: (frame: Frame) => void
): Link {
  /** By the frame's id, or by the name of an event that comes unasked. */
  const waiting = new Map<unknown, Waiting>()
  const queue: Waiting[] = []
  let ids = 0
  let sent = 0
  let isOpen = false
  let gone: ClientError | undefined
  /** The last error that nobody asked for, which may be why the server closes the socket. */
  let told: ClientError | undefined
  let toldAt = 0
  let ended: (err: ClientError) => void

  const end = (closeCode: number, reason = ''): void => {
    if (gone) return
    const cause = clock.now() - toldAt < EXPLAINS ? told : undefined
    link.reason = reason
    gone = new ClientError('RT_SOCKET_CLOSED', reason || `Closed with ${closeCode}`, { closeCode, cause, retryAfter: cause?.retryAfter })
    scope.end()
    // Of what is not answered, the largest was too big: it must not be sent again, and the others may.
    const [largest] = closeCode === 1009 ? [...waiting.values()].filter(({ stop }) => stop).sort((a, b) => b.text.length - a.text.length) : []
    link.isExplained = Boolean(largest)
    largest?.reject(new ClientError('RT_INVALID_DATA', reason, { closeCode }))
    for (const { reject } of waiting.values()) reject(gone)
    ended(gone)
  }
  /** A browser's socket throws in states that others bear. */
  const write = (text: string): void => {
    try {
      socket.send(text)
    } catch {
      link.drop()
    }
  }
  const shut = (code: number, close: () => void): void => {
    if (gone) return
    end(code)
    try {
      close()
    } catch {}
  }
  const drain = (): void => {
    while (sent < BURST && !gone) {
      const next = queue.shift()
      if (!next) return
      if (!sent++) {
        scope.after(WINDOW, () => {
          sent = 0
          drain()
        })
      }
      next.stop = scope.after(DEADLINE, link.drop)
      write(next.text)
    }
  }

  const link: Link = {
    scope,
    closed: new Promise((resolve) => { ended = resolve }),
    heardAt: clock.now(),
    request: (event, data, onAck) => new Promise((resolve, reject) => {
      const id = ++ids
      const text = JSON.stringify({ event, data, id })
      const one = { resolve, reject, onAck, text }
      if (gone) return reject(gone)
      if (isTooLarge(text, maxFrameSize)) return reject(tooLarge())
      waiting.set(id, one)
      queue.push(one)
      drain()
    }),
    expect: (event, onAck) => new Promise((resolve, reject) => { waiting.set(event, { resolve, reject, onAck, text: '' }) }),
    ping: () => { if (!gone) write('{"event":"ping"}') },
    drop: () => { shut(1006, () => { socket[socket.terminate ? 'terminate' : 'close']?.() }) }
  }
  scope.onEnd(() => { shut(1000, () => { socket.close(1000) }) })
  socket.addEventListener('open', () => {
    isOpen = true
    if (!gone) onOpen()
  })
  // A policy of the page that forbids the socket is an `error` that no `close` follows.
  socket.addEventListener('error', () => {
    if (isOpen) scope.after(FAILED, link.drop)
    else end(1006)
  })
  socket.addEventListener('close', ({ code, reason }) => { end(code, reason) })
  socket.addEventListener('message', ({ data: text }) => {
    if (gone) return
    link.heardAt = clock.now()
    let frame: Partial<Frame> | null
    try {
      frame = JSON.parse(String(text)) as Partial<Frame> | null
    } catch {
      return // Not a frame.
    }
    const { event = '', id } = frame ?? {}
    const data = Object(frame?.data) as Frame['data']
    const one = waiting.get(id ?? event)
    if (one) {
      waiting.delete(id ?? event)
      one.stop?.()
      if (event === 'error') return one.reject(errorOf(data))
      one.onAck?.(data)
      one.resolve(data)
    } else if (!id && event !== 'pong') {
      if (event === 'error') [told, toldAt] = [errorOf(data), link.heardAt]
      onFrame({ event, data })
    }
  })
  return link
}

/** Whether a text takes more bytes in UTF-8. */
export function isTooLarge (text: string, max: number): boolean {
  let bytes = text.length
  if (bytes * 3 <= max) return false
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i)
    // Two units that make one character take four bytes.
    if (unit > 0x7f) bytes += unit > 0x7ff && (unit < 0xd800 || unit > 0xdfff) ? 2 : 1
  }
  return bytes > max
}

export const tooLarge = (): ClientError => new ClientError('RT_INVALID_DATA', 'Larger than the server takes')

/** An `error` frame's data as an error. */
export function errorOf (data: object): ClientError {
  const { code, message } = data as { code: ClientErrorCode, message: string }
  return new ClientError(code, message, data)
}

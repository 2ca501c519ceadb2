import type { ClientClock } from './clock.js'
import { ClientError, toClientError, type ClientErrorCode } from './errors.js'
import type { SocketLike } from './globals.js'
import type { Scope } from './scope.js'
import type { Frame } from './wire.js'

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
  onAck: ((data: unknown) => void) | undefined
  /** Ends its deadline. */
  stop?: () => void
  /** Characters, once it is on its way. */
  size?: number
}

/** Below the server's 50 a second and 100 at once: a hundred channels to resume must not look like a flood. */
const BURST = 50
const WINDOW = 1250
/** Milliseconds for an answer, longer than all that the server itself waits for: then the socket is given up. */
const DEADLINE = 30_000

export function createLink (
  socket: SocketLike, clock: ClientClock, scope: Scope, limits: { maxFrameSize: number }, onOpen: () => void, onFrame: (frame: Frame) => void
): Link {
  /** By the frame's id, or by the name of an event that comes unasked. */
  const waiting = new Map<unknown, Waiting>()
  const queue: Array<() => void> = []
  let ids = 0
  let sent = 0
  let gone: ClientError | undefined
  /** The last error that nobody asked for, which may be why the server closes the socket. */
  let told: ClientError | undefined
  let ended: (err: ClientError) => void

  /** `close`: what is left to do about the socket. */
  const end = (closeCode: number, reason = '', close?: () => void): void => {
    if (gone) return
    link.reason = reason
    gone = new ClientError('RT_SOCKET_CLOSED', reason || `Closed with ${closeCode}`, { closeCode, cause: told, retryAfter: told?.retryAfter })
    scope.end()
    for (const { reject } of waiting.values()) reject(gone)
    ended(gone)
    try {
      close?.()
    } catch {}
  }
  /** A browser's socket throws in states that others bear. */
  const write = (text: string): void => {
    try {
      if (!gone) socket.send(text)
    } catch {
      link.drop()
    }
  }
  const drain = (): void => {
    for (; sent < BURST && queue.length; queue.shift()?.()) {
      if (sent++) continue
      scope.after(WINDOW, () => {
        sent = 0
        drain()
      })
    }
  }

  const link: Link = {
    scope,
    closed: new Promise((resolve) => { ended = resolve }),
    heardAt: clock.now(),
    request: (event, data, onAck) => new Promise((resolve, reject) => {
      const id = ++ids
      const one: Waiting = { resolve, reject, onAck }
      const text = encode({ event, data, id }, limits.maxFrameSize)
      if (gone) return reject(gone)
      waiting.set(id, one)
      queue.push(() => {
        one.size = text.length
        one.stop = scope.after(DEADLINE, link.drop)
        write(text)
      })
      drain()
    }),
    expect: (event, onAck) => new Promise((resolve, reject) => { waiting.set(event, { resolve, reject, onAck }) }),
    ping: () => { write('{"event":"ping"}') },
    drop: () => { end(1006, '', () => { socket[socket.terminate ? 'terminate' : 'close']?.() }) }
  }
  scope.onEnd(() => { end(1000, '', () => { socket.close(1000) }) })
  socket.addEventListener('open', () => { if (!gone) onOpen() })
  // A policy of the page that forbids the socket is an `error` that no `close` follows; where one does, it says no more.
  socket.addEventListener('error', link.drop)
  socket.addEventListener('close', ({ code, reason }) => {
    // The server takes less than it was thought to: the largest frame without an answer is not sent again.
    const largest = Math.max(...[...waiting.values()].map(({ size = 0 }) => size))
    if (code === 1009 && largest > 0) limits.maxFrameSize = largest - 1
    end(code, reason)
  })
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
    const key = id ?? event
    const one = waiting.get(key)
    waiting.delete(key)
    one?.stop?.()
    if (event === 'error') {
      const err = errorOf(data)
      if (one) return one.reject(err)
      told = err
    }
    one?.onAck?.(data)
    one?.resolve(data)
    if (!one && !id && event !== 'pong') onFrame({ event, data })
  })
  return link
}

/** As JSON. Throws `RT_INVALID_DATA` where JSON cannot hold it, or the server would close the socket because of its size in bytes. */
export function encode (frame: object, max: number): string {
  try {
    const text = JSON.stringify(frame)
    if (text.length > max / 3 && encodeURIComponent(text).replace(/%../g, '.').length > max) throw new Error('too large')
    return text
  } catch (err) {
    throw toClientError(err, 'RT_INVALID_DATA')
  }
}

/** An `error` frame's data as an error. */
export function errorOf (data: object): ClientError {
  const { code, message } = data as { code: ClientErrorCode, message: string }
  return new ClientError(code, message, data)
}

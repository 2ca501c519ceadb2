import type { ClientClock } from './clock.js'
import { ClientError, toClientError, type ClientErrorCode } from './errors.js'
import type { SocketLike } from './globals.js'
import type { Scope } from './scope.js'
import type { Frame } from './wire.js'

/** A transport to the server. `onAck` is called with the ack before the next frame is handled, unlike a promise. */
export type Carrier = (event: string, data: object, onAck?: (data: unknown) => void) => Promise<unknown>

/** A socket. It sends frames no faster than the server accepts them, and assigns the replies. */
export interface Link {
  /** The reason of the close. */
  readonly closed: Promise<ClientError>
  /** The error that the server sent before it closed the socket. */
  reason?: string
  /** The scope of the socket. */
  readonly scope: Scope
  /** Time of the last message. */
  receivedAt: number
  /** Resolves with the data of the ack. Rejects with the error of an `error` frame, and with `RT_SOCKET_CLOSED`. */
  readonly request: Carrier
  /** Resolves with the data of the next event of this name that is not a reply. */
  expect (event: string, onEvent: (data: unknown) => void): Promise<unknown>
  /** Sends a ping, ahead of the queue. */
  ping (): void
  /** Closes the socket without waiting for a server that may be gone. */
  drop (): void
}

interface Waiting {
  resolve: (data: unknown) => void
  reject: (err: ClientError) => void
  onAck: ((data: unknown) => void) | undefined
  /** Cancels its timeout. */
  stop?: () => void
  /** Characters, once it is on its way. */
  size?: number
}

/** Below the server's limits of 50 frames per second and 100 at once, so that resuming a hundred channels is not flooding. */
const BURST = 50
const WINDOW = 1250
/** Milliseconds until a reply, after which the socket is closed. Longer than all timeouts of the server. */
const DEADLINE = 30_000

export function createLink (
  socket: SocketLike, clock: ClientClock, scope: Scope, limits: { maxFrameSize: number }, onOpen: () => void, onFrame: (frame: Frame) => void
): Link {
  /** By the id of the frame, or the name of an event that is not a reply. */
  const waiting = new Map<unknown, Waiting>()
  const queue: Array<() => void> = []
  let ids = 0
  let sent = 0
  let gone: ClientError | undefined
  /** The last error that was not a reply: possibly the reason why the server closes the socket. */
  let told: ClientError | undefined
  let ended: (err: ClientError) => void

  /** `close`: how to close the socket. */
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
  /** A browser's socket throws in some states. */
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
    receivedAt: clock.now(),
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
  // If a policy of the page forbids the socket, `error` is not followed by `close`. Otherwise `close` has no more information.
  socket.addEventListener('error', link.drop)
  socket.addEventListener('close', ({ code, reason }) => {
    // The server takes less than it was thought to: the largest frame without an answer is not sent again.
    const largest = Math.max(...[...waiting.values()].map(({ size = 0 }) => size))
    if (code === 1009 && largest > 0) limits.maxFrameSize = largest - 1
    end(code, reason)
  })
  socket.addEventListener('message', ({ data: text }) => {
    if (gone) return
    link.receivedAt = clock.now()
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

/** The error of an `error` frame. */
export function errorOf (data: object): ClientError {
  const { code, message } = data as { code: ClientErrorCode, message: string }
  return new ClientError(code, message, data)
}

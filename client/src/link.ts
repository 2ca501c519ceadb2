import { ClientError, toClientError, type ClientErrorCode } from './errors.js'
import { BURST, REPLY_DEADLINE, WINDOW } from './limits.js'
import type { Scope } from './scope.js'
import type { Core } from './state.js'
import type { Authenticated, Frame } from './wire.js'

/** A transport to the server. `onAck` is called with the ack before the next frame is handled, unlike a promise. */
export type Carrier = (event: string, data: object, onAck?: (data: unknown) => void) => Promise<unknown>

/** A socket or a stream, which transports the text of frames. */
export interface Wire {
  send (text: string): void
  close (code?: number): void
  terminate?: () => void
}

/** A parsed message, which may have any shape. */
export interface Arrived { event?: string, id?: unknown, data?: unknown }

/** A connection to the server, and the scope in which it is open. It sends frames no faster than the server accepts them, and assigns the replies. */
export interface Link extends Scope {
  /** Its transport, set by `openSocket` or `openStream`. */
  wire?: Wire
  /** The server supports epochs, and the features added with them. */
  isModern?: boolean
  /** The reason of the close. */
  readonly closed: Promise<ClientError>
  /** Time of the last message. */
  receivedAt: number
  /** Resolves with the data of the ack. Rejects with the error of an `error` frame, and with `RT_SOCKET_CLOSED`. */
  readonly request: Carrier
  /** Sends a ping, ahead of the queue. */
  ping (): void
  /** Closes without waiting for a server that may be gone. */
  drop (): void
  /** A frame arrived. */
  take (frame: Arrived | null): void
  /** It is closed. `close` closes the wire, unless the server did. */
  closeBy (closeCode: number, reason?: string, close?: () => void): void
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

/** Of the last frame. Not counted per link: a request with frames for an earlier stream may arrive late, and be answered on the next one. */
let ids = 0

/** `welcome` is called with the data of `authenticated` if no `auth` frame was needed. */
export function createLink (core: Core, scope: Scope, welcome: (answer: Authenticated) => void): Link {
  /** By the id of the frame. */
  const waiting = new Map<unknown, Waiting>()
  const queue: Array<() => void> = []
  let sent = 0
  let gone: ClientError | undefined
  /** The last error that was not a reply: possibly the reason why the server closes the link. */
  let serverError: ClientError | undefined
  let ended: (err: ClientError) => void

  /** A browser's socket throws in some states. */
  const write = (text: string): void => {
    try {
      if (!gone) link.wire!.send(text)
    } catch {
      link.drop()
    }
  }
  const drain = (): void => {
    for (; sent < BURST && queue.length; queue.shift()!()) {
      if (!sent++) {
        scope.after(WINDOW, () => {
          sent = 0
          drain()
        })
      }
    }
  }

  const link: Link = Object.assign<Scope, Omit<Link, keyof Scope>>(scope, {
    closed: new Promise((resolve) => { ended = resolve }),
    receivedAt: core.clock.now(),
    request: (event, data, onAck) => new Promise((resolve, reject) => {
      const id = ++ids
      const one: Waiting = { resolve, reject, onAck }
      const text = encode({ event, data, id }, core.maxFrameSize)
      if (gone) return reject(gone)
      waiting.set(id, one)
      queue.push(() => {
        one.size = text.length
        one.stop = scope.after(REPLY_DEADLINE, link.drop)
        write(text)
      })
      drain()
    }),
    ping: () => { write('{"event":"ping"}') },
    drop: () => { link.closeBy(1006, '', () => { link.wire![link.wire!.terminate ? 'terminate' : 'close']!() }) },
    take: (frame) => {
      if (gone) return
      link.receivedAt = core.clock.now()
      const { event = '', id, data: what } = Object(frame) as Arrived
      const data = Object(what) as Frame['data']
      const one = waiting.get(id)
      waiting.delete(id)
      one?.stop?.()
      if (event === 'error') {
        const err = errorOf(data)
        if (one) return one.reject(err)
        serverError = err
      }
      one?.onAck?.(data)
      one?.resolve(data)
      if (event === 'authenticated') welcome(data as never)
      else if (!id && event !== 'pong') core.received({ event, data })
    },
    closeBy: (closeCode, reason = '', close) => {
      if (gone) return
      gone = new ClientError('RT_SOCKET_CLOSED', reason || `Closed with ${closeCode}`, { closeCode, reason, cause: serverError, retryAfter: serverError?.retryAfter })
      scope.end()
      let largest = 0
      for (const { reject, size = 0 } of waiting.values()) {
        largest = Math.max(largest, size)
        reject(gone)
      }
      // The server accepts less than assumed: the largest unacknowledged frame is not sent again.
      if (closeCode === 1009 && largest) core.maxFrameSize = largest - 1
      ended(gone)
      try {
        close?.()
      } catch {}
    }
  })
  scope.onEnd(() => { link.closeBy(1000, '', () => { link.wire!.close(1000) }) })
  return link
}

/** As JSON. Throws `RT_INVALID_DATA` if it cannot be written as JSON, or if the server would close the link because of its size. */
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

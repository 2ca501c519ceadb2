import type { ClientClock } from './clock.js'
import { ClientError, type ClientErrorCode } from './errors.js'
import type { Frame } from './types.js'

/** What the client needs of a WebSocket: a browser's, Node's own, or the one of `ws`. */
export interface SocketLike {
  send (text: string): void
  close (code?: number, reason?: string): void
  /** Only `ws` has it; a browser's `close` waits for the peer, unseen. */
  terminate? (): void
  addEventListener (type: 'open' | 'error', listener: () => void): void
  addEventListener (type: 'message', listener: (event: { data: unknown }) => void): void
  addEventListener (type: 'close', listener: (event: Closed) => void): void
}
export type SocketClass = new (url: string) => SocketLike

export interface Closed { code: number, reason: string }

/** One way to the server and back. `onAck` is given the answer before the next frame is looked at, which a promise is not. */
export type Carrier = (event: string, data: object, onAck?: (data: unknown) => void) => Promise<unknown>

/** One socket: frames out, no faster than the server takes them, and their replies. */
export interface Link {
  /** Rejects when it closes instead. */
  readonly opened: Promise<void>
  readonly closed: Promise<Closed>
  /** When anything came last. */
  heardAt: number
  /** The ack's data. Rejects with what an `error` frame says, and with `RT_SOCKET_CLOSED`. */
  readonly request: Carrier
  /** The data of the first event of this name, which may have come with the opening. */
  expect (event: string): Promise<unknown>
  /** From now on, and what came before: the server sends what waited right behind its first answer. */
  listen (onFrame: (frame: Frame) => void): void
  /** Asks for a sign of life, past the queue. */
  ping (): void
  close (): void
  /** Gives it up without waiting for a peer that may be gone. */
  drop (): void
}

interface Waiting { resolve: (data: unknown) => void, reject: (err: ClientError) => void, onAck?: ((data: unknown) => void) | undefined }

/** Below the server's 50 a second and 100 at once: a hundred channels to resume must not look like a flood. */
const BURST = 50
const WINDOW = 1250

export function createLink (socket: SocketLike, clock: ClientClock): Link {
  /** By the frame's id, or by the name of an event that comes unasked. */
  const waiting = new Map<unknown, Waiting>()
  const early: Frame[] = []
  const queue: string[] = []
  let receive = (frame: Frame): void => { early.push(frame) }
  let ids = 0
  let sent = 0
  let gone = false
  let ended: (closed: Closed) => void

  const end = (code: number, reason = ''): void => {
    if (gone) return
    gone = true
    queue.length = 0
    const closed = { code, reason }
    waiting.forEach(({ reject }) => { reject(closedError(closed)) })
    ended(closed)
  }
  const wait = (key: unknown, onAck?: Waiting['onAck']): Promise<unknown> => new Promise((resolve, reject) => {
    if (gone) reject(closedError({ code: 1006, reason: '' }))
    waiting.set(key, { resolve, reject, onAck })
  })
  const drain = (): void => {
    while (queue.length > 0 && sent < BURST) {
      if (sent++ === 0) {
        clock.after(WINDOW, () => {
          sent = 0
          drain()
        })
      }
      socket.send(queue.shift() ?? '')
    }
  }
  /** False: nobody asked for it. */
  const answer = ({ event, id, data }: Frame): boolean => {
    const one = waiting.get(id ?? event)
    if (!one) return Boolean(id) || event === 'pong'
    waiting.delete(id ?? event)
    if (event === 'error') one.reject(errorOf(data))
    else {
      one.onAck?.(data)
      one.resolve(data)
    }
    return true
  }

  const link: Link = {
    closed: new Promise((resolve) => { ended = resolve }),
    opened: new Promise((resolve, reject) => {
      socket.addEventListener('open', resolve)
      socket.addEventListener('close', reject)
    }),
    heardAt: clock.now(),
    request: (event, data, onAck) => {
      const id = ++ids
      if (!gone) queue.push(JSON.stringify({ event, data, id }))
      drain()
      return wait(id, onAck)
    },
    expect: async (event) => early.find((frame) => frame.event === event)?.data ?? await wait(event),
    listen: (onFrame) => {
      receive = onFrame
      early.splice(0).forEach(onFrame)
    },
    ping: () => { if (!gone) socket.send('{"event":"ping"}') },
    close: () => {
      socket.close(1000)
      end(1000)
    },
    drop: () => {
      socket[socket.terminate ? 'terminate' : 'close']?.()
      end(1006)
    }
  }
  socket.addEventListener('error', () => {}) // `close` follows
  socket.addEventListener('close', ({ code, reason }) => { end(code, reason) })
  socket.addEventListener('message', ({ data }) => {
    if (gone) return
    link.heardAt = clock.now()
    const frame = JSON.parse(String(data)) as Frame
    if (!answer(frame)) receive(frame)
  })
  return link
}

export const closedError = ({ code, reason }: Closed): ClientError => new ClientError('RT_SOCKET_CLOSED', `Closed with ${code} ${reason}`, { closeCode: code })

/** An `error` frame's data as an error. */
export function errorOf (data: object): ClientError {
  const told = data as { code: ClientErrorCode, message: string, retryAfter?: number }
  return new ClientError(told.code, told.message, told)
}

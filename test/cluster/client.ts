import { createHmac } from 'node:crypto'
import { once } from 'node:events'
import { WebSocket, type RawData } from 'ws'

export const SECRET = 'cluster-secret-cluster-secret-1234'

export interface Who {
  userId: number
  /** 1 unless given. */
  clubId?: number
  admin?: boolean
}

/** Where to connect; a Host is one. */
export interface Target { url: string, wsUrl: string }

export interface Frame {
  event: string
  // Read as JSON of any shape.
  // eslint-disable-next-line @typescript-eslint/no-explicit-any
  data: any
  id?: number
  /** When it came, milliseconds since 1970. */
  at: number
}

/** An `error` frame, or an error answered by REST. */
export class Refused extends Error {
  readonly code: string
  readonly retryAfter: number | undefined
  /** Of `RT_STORAGE_UNAVAILABLE`. */
  readonly outcome: 'none' | 'unknown' | undefined

  constructor (code: string, message: string, retryAfter?: number, outcome?: 'none' | 'unknown') {
    super(`${code}: ${message}`)
    this.code = code
    this.retryAfter = retryAfter
    this.outcome = outcome
  }
}

/** The socket closed before the answer came: what became of the request is not known. */
export class Lost extends Error {}

/** A token as the example host's own. */
export function tokenOf ({ userId, clubId = 1, admin = false }: Who): string {
  const part = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString('base64url')
  const now = Math.floor(Date.now() / 1000)
  const claims = { sub: String(userId), club: clubId, name: `User ${userId}`, ...(admin ? { admin } : {}), iat: now, exp: now + 3600 }
  const text = `${part({ alg: 'HS256', typ: 'JWT' })}.${part(claims)}`
  return `${text}.${createHmac('sha256', SECRET).update(text).digest('base64url')}`
}

/** A raw client: frames out, frames in, nothing done by itself. */
export class Client {
  readonly who: Who
  readonly frames: Frame[] = []
  readonly closed: Promise<{ code: number, reason: string, at: number }>
  isClosed = false
  /** False: frames are for `onFrame` alone, under load. */
  keep = true
  /** Called with each frame that is not an answer, as it comes. */
  onFrame: (frame: Frame) => void = () => {}
  readonly #socket: WebSocket
  readonly #open = new Map<number, { resolve: (data: unknown) => void, reject: (err: Error) => void }>()
  #ids = 0
  #wake = new Set<() => void>()

  private constructor (socket: WebSocket, who: Who) {
    this.who = who
    this.#socket = socket
    socket.on('message', (bytes: RawData) => { this.#receive(bytes as Buffer) })
    socket.on('error', () => {}) // reported by `closed`
    this.closed = once(socket, 'close').then((closed) => {
      const [code, reason] = closed as [number, Buffer]
      this.isClosed = true
      for (const { reject } of this.#open.values()) reject(new Lost(`closed with ${code}`))
      this.#open.clear()
      for (const wake of this.#wake) wake()
      return { code, reason: reason.toString(), at: Date.now() }
    })
  }

  /** Opens and authenticates: by the upgrade's header, or by an `auth` frame where the connection's id is chosen. */
  static async connect (target: Target, who: Who, { connectionId }: { connectionId?: string } = {}): Promise<Client> {
    const headers = connectionId === undefined ? { authorization: `Bearer ${tokenOf(who)}` } : {}
    const socket = new WebSocket(target.wsUrl, { headers, handshakeTimeout: 3000, perMessageDeflate: false })
    const client = new Client(socket, who)
    await Promise.race([once(socket, 'open').catch(() => {}), client.closed])
    if (connectionId === undefined) await client.next('authenticated', 10_000)
    else await client.request('auth', { token: tokenOf(who), connectionId })
    return client
  }

  /** Sends a frame without an id. */
  send (event: string, data: object): void {
    this.#socket.send(JSON.stringify({ event, data }))
  }

  /** Sends a frame with an id; the ack's data, or {@link Refused}, or {@link Lost}. */
  async request (event: string, data: object): Promise<Frame['data']> {
    if (this.isClosed) throw new Lost('closed')
    const id = ++this.#ids
    return await new Promise((resolve, reject) => {
      this.#open.set(id, { resolve, reject })
      this.#socket.send(JSON.stringify({ event, data, id }), (err) => {
        if (err !== undefined && err !== null && this.#open.delete(id)) reject(new Lost(err.message))
      })
    })
  }

  /** All frames of an event that came so far. */
  all (event: string): Frame[] {
    return this.frames.filter((frame) => frame.event === event)
  }

  /** The first frame, among all that came and will come, of this event and with these data. Rejects after `ms`. */
  async next (event: string, ms = 5000, matches: (data: Frame['data']) => boolean = () => true): Promise<Frame> {
    const find = (): Frame | undefined => this.frames.find((frame) => frame.event === event && matches(frame.data))
    const deadline = Date.now() + ms
    for (let found = find(); ; found = find()) {
      if (found !== undefined) return found
      if (this.isClosed) throw new Lost(`closed before ${event}`)
      const left = deadline - Date.now()
      if (left <= 0) throw new Error(`no ${event} within ${ms} ms`)
      await new Promise<void>((resolve) => {
        const wake = (): void => {
          clearTimeout(timer)
          this.#wake.delete(wake)
          resolve()
        }
        const timer = setTimeout(wake, left)
        this.#wake.add(wake)
      })
    }
  }

  /** A clean close, as by a browser's tab. */
  async close (): Promise<void> {
    this.#socket.close(1000)
    await this.closed
  }

  /** Reads nothing more from the connection, not even pings and closes. */
  pause (): void {
    this.#socket.pause()
  }

  resume (): void {
    this.#socket.resume()
  }

  /** Gone without a word. */
  terminate (): void {
    this.#socket.terminate()
  }

  #receive (bytes: Buffer): void {
    const frame = { ...JSON.parse(bytes.toString()) as Omit<Frame, 'at'>, at: Date.now() }
    const waiting = frame.id === undefined ? undefined : this.#open.get(frame.id)
    if (frame.id !== undefined && waiting !== undefined) {
      this.#open.delete(frame.id)
      if (frame.event === 'ack') waiting.resolve(frame.data)
      else {
        const { code, message, retryAfter, outcome } = frame.data as { code: string, message: string, retryAfter?: number, outcome?: 'none' | 'unknown' }
        waiting.reject(new Refused(code, message, retryAfter, outcome))
      }
      return
    }
    if (this.keep) this.frames.push(frame)
    this.onFrame(frame)
    for (const wake of [...this.#wake]) wake()
  }
}

/** A REST request as this user; the body of a 2xx, or {@link Refused}. */
export async function rest (target: Target, who: Who, path: string, body?: object): Promise<Frame['data']> {
  const response = await fetch(`${target.url}/api/websocket${path}`, {
    method: body === undefined ? 'GET' : 'POST',
    headers: { authorization: `Bearer ${tokenOf(who)}`, ...(body === undefined ? {} : { 'content-type': 'application/json' }) },
    ...(body === undefined ? {} : { body: JSON.stringify(body) })
  })
  const answer = await response.json() as { code: string, message: string, outcome?: 'none' | 'unknown' }
  if (!response.ok) throw new Refused(answer.code, answer.message, Number(response.headers.get('retry-after') ?? 0), answer.outcome)
  return answer
}

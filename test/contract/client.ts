/* eslint-disable @typescript-eslint/no-explicit-any -- what comes from outside has the shape that the test then asserts */
import { createHmac, randomInt } from 'node:crypto'
import { WebSocket, type ClientOptions } from 'ws'
import { headersOf, pathOf, toNumbers, toStrings, TranslatingSocket } from '../string-ids.js'

/** A client written from the contract alone: it shares no code with fastify-realtime. */

export const SECRET = 'test-secret-test-secret-test-secret'
const DEADLINE = 10_000
/** Addresses of hosts with string ids: there the numbers of a test stand for strings. */
export const hostsWithStrings = new Set<string>()

export interface Frame { event: string, id?: number | string, data: any }

export const newClub = (): number => randomInt(1, 2 ** 40)

/** A token as the example host signs them, with whatever claims a test needs. */
export function sign (claims: Record<string, unknown>, secret = SECRET): string {
  const encode = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url')
  const body = `${encode({ alg: 'HS256', typ: 'JWT' })}.${encode(claims)}`
  return `${body}.${createHmac('sha256', secret).update(body).digest('base64url')}`
}

export const tokenFor = (userId: number, club: number, more: Record<string, unknown> = {}): string =>
  sign({ sub: String(userId), club, name: `User ${userId}`, exp: Math.floor(Date.now() / 1000) + 3600, ...more })

export async function rest (url: string, token: string | null, method: string, path: string, body?: unknown): Promise<{ status: number, body: any, headers: Headers }> {
  const hasStrings = hostsWithStrings.has(url)
  const headers = {
    ...(token === null ? {} : { authorization: `Bearer ${token}` }),
    ...(body === undefined ? {} : { 'content-type': 'application/json' })
  }
  const response = await fetch(`${url}/api/websocket${hasStrings ? pathOf(path) : path}`, {
    method,
    headers: hasStrings ? headersOf(headers) : headers,
    ...(body === undefined ? {} : { body: JSON.stringify(hasStrings ? toStrings(body) : body) })
  })
  const answer: unknown = await response.json().catch(() => null)
  return { status: response.status, body: hasStrings ? toNumbers(answer) : answer, headers: response.headers }
}

/** What the example host's login answers. */
export async function login (url: string, body: object): Promise<any> {
  const hasStrings = hostsWithStrings.has(url)
  const response = await fetch(`${url}/login`, {
    method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(hasStrings ? toStrings(body) : body)
  })
  const answer: unknown = await response.json()
  return hasStrings ? toNumbers(answer) : answer
}

/** A raw socket that keeps every frame until someone asks for it, so that none is missed and none is waited for twice. */
export class Client {
  readonly frames: Frame[] = []
  readonly closed: Promise<number>
  readonly opened: Promise<void>
  readonly socket: WebSocket
  #next = 0
  #wake: () => void = () => {}

  constructor (url: string, protocols: string[] = [], options: ClientOptions = {}) {
    const Socket = hostsWithStrings.has(url) ? TranslatingSocket : WebSocket
    this.socket = new Socket(`${url.replace(/^http/, 'ws')}/api/websocket/ws`, protocols, options)
    this.socket.on('error', () => {})
    this.socket.on('message', (data: Buffer) => {
      this.frames.push(JSON.parse(data.toString()) as Frame)
      this.#wake()
    })
    this.opened = new Promise((resolve, reject) => {
      this.socket.once('open', resolve)
      this.socket.once('error', reject)
    })
    this.opened.catch(() => {})
    this.closed = new Promise((resolve) => { this.socket.once('close', resolve) })
  }

  send (event: string, data?: unknown, id?: number | string): void {
    this.socket.send(JSON.stringify({ event, data, id }))
  }

  /** The ack's data; an `error` frame throws its data. */
  async request (event: string, data?: unknown): Promise<any> {
    const id = ++this.#next
    this.send(event, data, id)
    const reply = await this.take((frame) => frame.id === id)
    if (reply.event === 'error') throw Object.assign(new Error(reply.data.message), reply.data)
    return reply.data
  }

  /** Removes and answers the first frame that fits. */
  async take (fits: (frame: Frame) => boolean, deadline = DEADLINE): Promise<Frame> {
    const until = Date.now() + deadline
    for (;;) {
      const at = this.frames.findIndex(fits)
      if (at >= 0) return this.frames.splice(at, 1)[0] as Frame
      if (Date.now() > until) throw new Error(`nothing came; there is ${JSON.stringify(this.frames)}`)
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, 100)
        this.#wake = () => {
          clearTimeout(timer)
          resolve()
        }
      })
    }
  }

  async next (event: string, deadline?: number): Promise<any> {
    return (await this.take((frame) => frame.event === event, deadline)).data
  }

  /** What came of an event up to now, once everything sent before has been answered. */
  async soFar (event: string): Promise<any[]> {
    await this.request('ping')
    return this.frames.filter((frame) => frame.event === event).map(({ data }) => data)
  }

  async end (): Promise<void> {
    this.socket.close()
    await this.closed
  }
}

/** An authenticated client, by the subprotocol. */
export async function connect (url: string, token: string): Promise<Client> {
  const client = new Client(url, ['bearer', token])
  await client.opened
  await client.take(({ event }) => event === 'authenticated')
  return client
}

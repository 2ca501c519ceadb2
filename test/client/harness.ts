import { createServer, request as forward, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { once } from 'node:events'
import { connect as connectTcp, type AddressInfo, type Socket } from 'node:net'
import type { Test } from 'tap'
import { WebSocket } from 'ws'
import { WebSocketClient, type ClientClock, type ClientError, type WebSocketClientOptions } from '../../client/src/index.js'
import type { Identity } from '../../plugins/index.js'
import { PREFIX, tokenOf, until, type Host } from '../helper.js'

/** A client and all its events. */
export interface Received {
  client: WebSocketClient
  /** Every event, in order. */
  emitted: Array<{ event: string, data: any }> // eslint-disable-line @typescript-eslint/no-explicit-any -- as it came, asserted by the test
  errors: ClientError[]
  of (event: string): any[] // eslint-disable-line @typescript-eslint/no-explicit-any -- as it came, asserted by the test
  /** Waits until an event was emitted `times` times; returns the data of the last one. */
  next (event: string, times?: number): Promise<any> // eslint-disable-line @typescript-eslint/no-explicit-any -- as it came, asserted by the test
}

const EVENTS = [
  'connected', 'disconnected', 'reconnecting', 'max-reconnect-attempts-reached', 'subscribed', 'unsubscribed', 'gap', 'transport', 'heartbeat', 'error',
  'message:direct', 'message:group', 'broadcast:message', 'notification:received', 'message:delivered', 'user:typing', 'user:presence',
  'user:online', 'user:offline', 'token:expiring'
] as const

/** A client of this user, ended with the test. */
export function clientOf (t: Test, { url }: { url: string }, who: Identity | null, options: Partial<WebSocketClientOptions> = {}): Received {
  const client = new WebSocketClient({
    baseUrl: url + PREFIX, ...(who === null ? {} : { token: tokenOf(who) }), reconnectDelay: 200, WebSocket, ...options
  })
  const emitted: Received['emitted'] = []
  for (const event of EVENTS) if (event !== 'heartbeat') client.on(event, (data) => { emitted.push({ event, data }) })
  const errors: ClientError[] = []
  client.on('error', (err) => { errors.push(err) })
  t.teardown(async () => { await client.disconnect() })
  const of = (event: string) => emitted.filter((one) => one.event === event).map(({ data }) => data)
  return {
    client,
    emitted,
    of,
    errors,
    next: async (event, times = 1) => await until(`${event} ${times}`, () => of(event)[times - 1] ?? null).catch((err: unknown) => { throw new Error(`${String(err)}: ${JSON.stringify(emitted)}`) })
  }
}

/** Connected, with its automatic channels resumed. */
export async function connected (t: Test, host: { url: string }, who: Identity, options: Partial<WebSocketClientOptions> = {}): Promise<Received> {
  const received = clientOf(t, host, who, options)
  await received.next('subscribed', 2)
  return received
}

/** Time that runs faster: long waits of the client are short ones of the test. */
export function fastClock (speed: number, random = Math.random): ClientClock {
  return {
    now: () => performance.now() * speed,
    after: (ms, task) => {
      const timer = setTimeout(task, ms / speed)
      return () => { clearTimeout(timer) }
    },
    random
  }
}

export interface Door {
  url: string
  /** When each attempt to register or to open a socket came. */
  connects: number[]
  upgrades: number[]
  /** Bodies of requests by path. */
  requests: string[]
  /** Sockets are refused, as by a proxy that knows nothing of them. */
  blocked: boolean
  /** Streams are passed on. */
  streams: boolean
  /** Nothing is passed on, in no direction; connections stay. */
  silent: boolean
  /** Nothing is passed on from the host. */
  mute: boolean
  /** Nobody listens. */
  shut (): Promise<void>
  open (): Promise<void>
  /** Breaks every connection. */
  cut (): void
}

/** What stands between a client and its host: counts, refuses, falls silent, breaks. */
export async function doorTo (t: Test, host: Pick<Host, 'url'>): Promise<Door> {
  const target = new URL(host.url)
  const sockets = new Set<Socket>()
  let server: Server
  let port = 0
  const door: Door = {
    url: '',
    connects: [],
    upgrades: [],
    requests: [],
    blocked: false,
    streams: false,
    silent: false,
    mute: false,
    cut: () => { for (const socket of sockets) socket.destroy() },
    async shut () {
      server.close()
      door.cut()
      await once(server, 'close')
    },
    async open () {
      server = createServer(pass)
      server.on('upgrade', upgrade)
      server.on('connection', (socket) => {
        sockets.add(socket)
        socket.on('close', () => sockets.delete(socket)).on('error', () => {})
      })
      server.listen(port, '127.0.0.1')
      await once(server, 'listening')
      port = (server.address() as AddressInfo).port
      door.url = `http://127.0.0.1:${port}`
    }
  }
  const pass = (request: IncomingMessage, response: ServerResponse): void => {
    if (request.url?.endsWith('/connect') === true) door.connects.push(performance.now())
    door.requests.push(`${request.method} ${request.url}`)
    if (!door.streams && request.url?.includes('/stream') === true) {
      response.writeHead(404).end('{}')
      return
    }
    const { method, url, headers } = request
    const onward = forward({ host: target.hostname, port: target.port, method, path: url, headers, agent: false }, (answer) => {
      response.writeHead(answer.statusCode ?? 500, answer.headers)
      answer.pipe(response)
    })
    onward.on('error', () => { response.destroy() })
    response.on('close', () => { onward.destroy() })
    request.pipe(onward)
  }
  const upgrade = (request: IncomingMessage, socket: Socket): void => {
    door.upgrades.push(performance.now())
    if (door.blocked) {
      socket.end('HTTP/1.1 403 Forbidden\r\nconnection: close\r\ncontent-length: 0\r\n\r\n')
      return
    }
    const lines = [`GET ${request.url} HTTP/1.1`]
    for (let i = 0; i < request.rawHeaders.length; i += 2) lines.push(`${request.rawHeaders[i]}: ${request.rawHeaders[i + 1]}`)
    const onward = connectTcp(Number(target.port), target.hostname)
    onward.write(`${lines.join('\r\n')}\r\n\r\n`)
    onward.on('data', (bytes) => { if (!door.silent && !door.mute) socket.write(bytes) }).on('error', () => {}).on('close', () => { if (!door.silent) socket.destroy() })
    socket.on('data', (bytes) => { if (!door.silent) onward.write(bytes) }).on('close', () => { onward.destroy() })
  }
  await door.open()
  t.teardown(async () => { if (server.listening) await door.shut() })
  return door
}

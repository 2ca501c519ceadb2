/* eslint-disable @typescript-eslint/no-explicit-any -- what comes over the wire has the shape that the test then asserts */
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import Fastify, { type FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'
import { WebSocket, type ClientOptions } from 'ws'
import {
  channels, connections, presence, realtime, stats, typing, type ChannelsOptions, type Clock, type ConnectionsOptions, type Identity,
  type PresenceOptions, type RealtimeOptions, type StatsOptions, type TypingOptions
} from '../plugins/index.js'
import { createDatabase } from './servers.js'

export const PREFIX = '/api/websocket'
const DEADLINE = 10_000
/** Time that was moved must not look like a node that was not heard of. */
const LEASE = 20 * 24 * 3600_000

/** In one process with SQLite, or on MariaDB and Redis. */
export const backends = ['embedded', 'servers'] as const
export type Backend = typeof backends[number]

export const pluginNames = ['connections', 'presence', 'typing', 'channels', 'stats'] as const
export type PluginName = typeof pluginNames[number]

export interface HostSettings {
  backend: Backend
  /** Registered in this order; all five unless given. */
  plugins?: readonly PluginName[]
  /** Of the core. */
  options?: Partial<RealtimeOptions>
  connections?: ConnectionsOptions
  presence?: PresenceOptions
  typing?: TypingOptions
  channels?: ChannelsOptions
  stats?: StatsOptions
  /** The host's own things, before and after the suite is registered. */
  before?: (app: FastifyInstance) => unknown
  after?: (app: FastifyInstance) => unknown
}

/** Time that goes on as usual and can be moved. */
export class MovableClock implements Clock {
  #ahead = 0

  now (): number {
    return Date.now() + this.#ahead
  }

  advance (ms: number): void {
    this.#ahead += ms
  }
}

export interface Host {
  app: FastifyInstance
  url: string
  clock: MovableClock
}

/** For hosts where everything is allowed. */
export const allowAll = { authorize: () => true }

export const user = (userId: number, more: Partial<Identity> = {}): Identity => ({ tenantId: 1, userId, ...more })

/** A token of the test hosts is the identity itself. */
export const tokenOf = (identity: Identity): string => Buffer.from(JSON.stringify(identity)).toString('base64url')

export const identityOf = (token: string | undefined): Identity | null =>
  token === undefined ? null : JSON.parse(Buffer.from(token, 'base64url').toString()) as Identity

/** Runs the suite once over each backend, its tests side by side: each has a host of its own, and most wait for a timer. */
export function overBackends (suite: (test: (sentence: string, body: (t: Test) => Promise<void>) => void, backend: Backend) => void): void {
  t.jobs = backends.length
  for (const backend of backends) {
    void t.test(backend, { buffered: true }, async (t) => {
      t.jobs = 4
      suite((sentence, body) => { void t.test(sentence, { buffered: true }, body) }, backend)
    })
  }
}

/** The servers' part of the core's options, for as many hosts as share it; an empty database and no Redis where it is embedded. */
export async function store (t: Test, backend: Backend): Promise<Pick<RealtimeOptions, 'database' | 'redis' | 'keyPrefix'>> {
  if (backend === 'embedded') return { database: 'sqlite::memory:' }
  const database = await createDatabase(process.env.DATABASE_URL ?? '')
  t.teardown(async () => { await database.drop() })
  return { database: database.url, redis: process.env.REDIS_URL, keyPrefix: `test-${randomBytes(6).toString('hex')}` }
}

/** A host that listens, closed with the test. */
export async function buildHost (t: Test, settings: HostSettings): Promise<Host> {
  return await startHost(t, settings, await store(t, settings.backend), new MovableClock())
}

/** Hosts that share MariaDB, Redis and the clock. */
export async function buildCluster (t: Test, nodes: number, settings: Omit<HostSettings, 'backend'> = {}): Promise<Host[]> {
  const shared = await store(t, 'servers')
  const clock = new MovableClock()
  const hosts: Host[] = []
  for (let i = 0; i < nodes; i++) hosts.push(await startHost(t, { backend: 'servers', ...settings }, shared, clock))
  return hosts
}

/** One embedded host, or two that share their servers: what the nodes of a suite do together must not show. */
export async function buildNodes (t: Test, { backend, ...settings }: HostSettings): Promise<[Host, Host]> {
  const [first, second] = backend === 'servers' ? await buildCluster(t, 2, settings) : [await buildHost(t, { backend, ...settings })]
  if (first === undefined) throw new Error('there is always one')
  return [first, second ?? first]
}

async function startHost (t: Test, settings: HostSettings, shared: Partial<RealtimeOptions>, clock: MovableClock): Promise<Host> {
  // MariaDB migrates one database at a time, and many tests begin at once.
  const app = Fastify({ pluginTimeout: 60_000 })
  t.teardown(async () => { await app.close() })
  await settings.before?.(app)
  await registerSuite(app, settings, { authenticate: ({ token }) => identityOf(token), clock, presenceLease: LEASE, ...shared, ...settings.options })
  await settings.after?.(app)
  await app.listen({ port: 0, host: '127.0.0.1' })
  return { app, clock, url: `http://127.0.0.1:${(app.server.address() as AddressInfo).port}` }
}

async function registerSuite (app: FastifyInstance, settings: HostSettings, options: Partial<RealtimeOptions>): Promise<void> {
  await app.register(realtime, { database: 'sqlite::memory:', authenticate: () => null, ...options })
  const plugins: Record<PluginName, () => PromiseLike<unknown>> = {
    connections: () => app.register(connections, settings.connections ?? {}),
    presence: () => app.register(presence, settings.presence ?? {}),
    typing: () => app.register(typing, settings.typing ?? {}),
    channels: () => app.register(channels, settings.channels ?? {}),
    stats: () => app.register(stats, settings.stats ?? {})
  }
  for (const name of settings.plugins ?? pluginNames) await plugins[name]()
}

/** A request under the suite's prefix; without an identity it carries no credentials. */
export async function rest (
  { app }: Pick<Host, 'app'>, identity: Identity | null, method: 'GET' | 'POST', path: string, body?: object
): Promise<{ status: number, body: any, headers: Record<string, unknown> }> {
  const response = await app.inject({
    method,
    url: PREFIX + path,
    headers: identity === null ? {} : { authorization: `Bearer ${tokenOf(identity)}` },
    ...(body === undefined ? {} : { payload: body })
  })
  return { status: response.statusCode, body: response.json(), headers: response.headers }
}

/** The rows of a table, oldest first; JSON columns as values. */
export async function rowsOf (
  { app }: Host, table: 'websocket_connections' | 'websocket_presence' | 'websocket_typing_indicators' | 'websocket_events'
): Promise<any[]> {
  const rows: Array<Record<string, unknown>> = await app.realtime.database.db.selectFrom(table).selectAll().orderBy('id').execute()
  // Whether a driver parses JSON is its own affair.
  return rows.map((row) => Object.fromEntries(Object.entries(row).map(([name, value]) =>
    [name, ['payload', 'subscribed_channels'].includes(name) && typeof value === 'string' ? JSON.parse(value) : value])))
}

/** Asks again and again until the answer is true, or whatever else is not nothing. */
export async function until<T> (what: string, ask: () => T | Promise<T>): Promise<Exclude<T, false | null | undefined>> {
  for (const deadline = Date.now() + DEADLINE; ;) {
    const answer = await ask()
    if (answer !== false && answer !== null && answer !== undefined) return answer as Exclude<T, false | null | undefined>
    if (Date.now() > deadline) throw new Error(`${what}: not within ${DEADLINE} ms`)
    await sleep(10)
  }
}

export interface Frame { event: string, id?: number | string, data: any }

/** A socket that keeps every frame until someone asks for it, so that none is missed and none is taken twice. */
export class Client {
  readonly frames: Frame[] = []
  readonly socket: WebSocket
  /** The close code. */
  readonly closed: Promise<number>
  #serial = 0

  constructor ({ url }: Pick<Host, 'url'>, { protocols = [], ...options }: ClientOptions & { protocols?: string[] } = {}) {
    this.socket = new WebSocket(`${url.replace(/^http/, 'ws')}${PREFIX}/ws`, protocols, options)
    this.socket.setMaxListeners(0)
    this.socket.on('error', () => {}) // `close` follows
    this.socket.on('message', (data: Buffer) => {
      this.frames.push(JSON.parse(data.toString()) as Frame)
      this.socket.emit('kept')
    })
    this.closed = new Promise((resolve) => { this.socket.once('close', resolve) })
  }

  send (event: string, data?: unknown, id?: number | string): void {
    this.socket.send(JSON.stringify({ event, data, id }))
  }

  /** The ack's data; an `error` frame is thrown. */
  async request (event: string, data?: unknown): Promise<any> {
    const id = ++this.#serial
    this.send(event, data, id)
    const reply = await this.take(`a reply to ${event}`, (frame) => frame.id === id)
    if (reply.event === 'error') throw Object.assign(new Error(reply.data.message), reply.data)
    return reply.data
  }

  /** The data of the first frame of this event that fits, which is then taken out of the buffer. */
  async next (event: string, fits: (data: any) => boolean = () => true): Promise<any> {
    return (await this.take(event, (frame) => frame.event === event && fits(frame.data))).data
  }

  /** The data of all frames of this event that are here and not taken; what the socket was sent before is here. */
  async soFar (event: string): Promise<any[]> {
    await this.request('ping')
    return this.frames.filter((frame) => frame.event === event).map(({ data }) => data)
  }

  async end (): Promise<number> {
    this.socket.close()
    return await this.closed
  }

  async take (what: string, fits: (frame: Frame) => boolean): Promise<Frame> {
    const signal = AbortSignal.timeout(DEADLINE)
    for (;;) {
      const at = this.frames.findIndex(fits)
      const [found] = at < 0 ? [] : this.frames.splice(at, 1)
      if (found !== undefined) return found
      if (signal.aborted || this.socket.readyState === this.socket.CLOSED) {
        throw new Error(`${what} did not come; there is ${JSON.stringify(this.frames)}`)
      }
      await Promise.race([once(this.socket, 'kept', { signal }), this.closed]).catch(() => {})
    }
  }
}

/** A client that is open, not authenticated by anything but what the options carry. */
export async function open (host: Pick<Host, 'url'>, options: ClientOptions & { protocols?: string[] } = {}): Promise<Client> {
  const client = new Client(host, options)
  await once(client.socket, 'open')
  return client
}

/** An authenticated client: by an `auth` frame where it names a connection, else by the upgrade's header. */
export async function connect (
  host: Pick<Host, 'url'>, identity: Identity, { connectionId, ...options }: ClientOptions & { connectionId?: string } = {}
): Promise<Client> {
  const headers = connectionId === undefined ? { authorization: `Bearer ${tokenOf(identity)}` } : {}
  const client = await open(host, { ...options, headers: { ...headers, ...options.headers } })
  if (connectionId !== undefined) client.send('auth', { token: tokenOf(identity), connectionId })
  await client.next('authenticated')
  return client
}

/** Closes a client; resolves when its host has let go of everything that was its. */
export async function leave ({ app: { realtime: { events } } }: Host, client: Client): Promise<void> {
  const gone = new Promise<void>((resolve) => {
    events.on('disconnected', function listener () {
      events.off('disconnected', listener)
      resolve()
    })
  })
  await client.end()
  await gone
}

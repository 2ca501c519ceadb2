/* eslint-disable @typescript-eslint/no-explicit-any -- what comes over the wire has the shape that the test then asserts */
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import type { FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'
import { WebSocket, type ClientOptions } from 'ws'
import { internalsOf } from '../lib/internals.js'
import type { Identity, RealtimeOptions } from '../plugins/index.js'
import { buildApp, MovableClock, TestClient, tokenOf, type TestAppOptions } from '../plugins/testing.js'
import { createDatabase } from './servers.js'
import { optionsOf, optionsOfPlugins, toNumbers, toStrings, translatingApp, TranslatingSocket } from './string-ids.js'

export { identityOf, pluginNames, tokenOf, type PluginName, type TestClient as Client, type TestFrame as Frame } from '../plugins/testing.js'

export const PREFIX = '/api/websocket'
/** Addresses of hosts with string ids. */
const hostsWithStrings = new Set<string>()
const DEADLINE = 10_000

/** In one process with SQLite, or on MariaDB and Redis; with integer ids, or with string ids, for which the numbers of a test stand. */
export const backends = ['embedded', 'servers', 'embedded with string ids', 'servers with string ids'] as const
export type Backend = typeof backends[number]

export const isEmbedded = (backend: Backend): boolean => backend.startsWith('embedded')
const hasStrings = (backend: Backend): boolean => backend.endsWith('string ids')

export interface HostSettings extends Omit<TestAppOptions, 'core' | 'clock'> {
  backend: Backend
  /** Of the core. */
  options?: Partial<RealtimeOptions>
}

export interface Host {
  app: FastifyInstance
  url: string
  clock: MovableClock
}

/** For hosts where everything is allowed. */
export const allowAll = { authorize: () => true }

export const user = (userId: number, more: Partial<Identity> = {}): Identity => ({ tenantId: 1, userId, ...more })

/** The same as a host of this backend takes it, for what passes by the clients and APIs of this file. */
export const userOn = (backend: Backend, userId: number): Identity => hasStrings(backend) ? toStrings(user(userId)) : user(userId)

/** Runs the tests over each backend, its tests side by side: each has a host of its own, and most wait for a timer. */
export function overBackends (suite: (test: (sentence: string, body: (t: Test) => Promise<void>) => void, backend: Backend) => void): void {
  // Not all at once: what is to happen within some milliseconds must, on a busy machine too.
  t.jobs = 2
  for (const backend of backends) {
    void t.test(backend, { buffered: true }, async (t) => {
      t.jobs = 4
      suite((sentence, body) => { void t.test(sentence, { buffered: true }, body) }, backend)
    })
  }
}

/** The servers' part of the core's options, for as many hosts as share it; an empty database and no Redis where it is embedded. */
export async function store (t: Test, backend: Backend): Promise<Pick<RealtimeOptions, 'database' | 'redis' | 'keyPrefix'>> {
  if (isEmbedded(backend)) return { database: 'sqlite::memory:' }
  const database = await createDatabase(process.env.DATABASE_URL ?? '')
  t.teardown(async () => { await database.drop() })
  return { database: database.url, redis: process.env.REDIS_URL, keyPrefix: `test-${randomBytes(6).toString('hex')}` }
}

/** A host that listens, closed with the test. */
export async function buildHost (t: Test, settings: HostSettings): Promise<Host> {
  return await startNode(t, settings, await store(t, settings.backend), new MovableClock())
}

/** Hosts that share MariaDB, Redis and the clock. */
export async function buildCluster (t: Test, nodes: number, settings: Partial<HostSettings> = {}): Promise<Host[]> {
  const shared = await store(t, 'servers')
  const clock = new MovableClock()
  const hosts: Host[] = []
  for (let i = 0; i < nodes; i++) hosts.push(await startNode(t, { backend: 'servers', ...settings }, shared, clock))
  return hosts
}

/** One embedded host, or two that share their servers: what the nodes of a suite do together must not show. */
export async function buildNodes (t: Test, { backend, ...settings }: HostSettings): Promise<[Host, Host]> {
  const [first, second] = !isEmbedded(backend) ? await buildCluster(t, 2, { backend, ...settings }) : [await buildHost(t, { backend, ...settings })]
  if (first === undefined) throw new Error('there is always one')
  return [first, second ?? first]
}

/** A host on these servers, which others may share, as they may the clock. */
export async function startNode (t: Test, { backend, options = {}, ...settings }: HostSettings, shared: Partial<RealtimeOptions>, clock: MovableClock): Promise<Host> {
  const { app } = await buildApp(hasStrings(backend)
    ? { ...optionsOfPlugins(settings), clock, core: { ...shared, ...optionsOf(options), ids: 'string' } }
    : { ...settings, clock, core: { ...shared, ...options } })
  t.teardown(async () => { await app.close() })
  await app.listen({ port: 0, host: '127.0.0.1' })
  const url = `http://127.0.0.1:${(app.server.address() as AddressInfo).port}`
  // The port may have been another host's.
  hostsWithStrings.delete(url)
  if (!hasStrings(backend)) return { app, clock, url }
  hostsWithStrings.add(url)
  return { app: translatingApp(app), clock, url }
}

/** A request under the prefix; without an identity it carries no credentials. */
export async function rest (
  { app }: Pick<Host, 'app'>, identity: Identity | null, method: 'GET' | 'POST' | 'PATCH' | 'DELETE', path: string, body?: object
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
  const rows: Array<Record<string, unknown>> = await internalsOf(app).database.db.selectFrom(table).selectAll().orderBy('id').execute()
  // Whether a driver parses JSON is its own affair.
  return toNumbers(rows).map((row) => Object.fromEntries(Object.entries(row).map(([name, value]) =>
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

/** Whether the host has string ids, which clients of tests translate. */
export const isTranslated = ({ url }: Pick<Host, 'url'>): boolean => hostsWithStrings.has(url)

/** A socket that is opening. */
export const socketTo = ({ url }: Pick<Host, 'url'>, { protocols = [], ...options }: ClientOptions & { protocols?: string[] } = {}): TestClient =>
  new TestClient(new (hostsWithStrings.has(url) ? TranslatingSocket : WebSocket)(`${url.replace(/^http/, 'ws')}${PREFIX}/ws`, protocols, options))

/** A client that is open, not authenticated by anything but what the options carry. */
export async function open (host: Pick<Host, 'url'>, options: ClientOptions & { protocols?: string[] } = {}): Promise<TestClient> {
  const client = socketTo(host, options)
  await once(client.socket, 'open')
  return client
}

/** An authenticated client: by an `auth` frame where it names a connection, else by the upgrade's header. */
export async function connect (
  host: Pick<Host, 'url'>, identity: Identity, { connectionId, ...options }: ClientOptions & { connectionId?: string } = {}
): Promise<TestClient> {
  const headers = connectionId === undefined ? { authorization: `Bearer ${tokenOf(identity)}` } : {}
  const client = await open(host, { ...options, headers: { ...headers, ...options.headers } })
  if (connectionId !== undefined) client.send('auth', { token: tokenOf(identity), connectionId })
  await client.next('authenticated')
  return client
}

/** Closes a client; resolves when its host has let go of everything that was its. */
export async function leave ({ app: { realtime: { events } } }: Host, client: TestClient): Promise<void> {
  const gone = new Promise<void>((resolve) => {
    events.on('disconnected', function listener () {
      events.off('disconnected', listener)
      resolve()
    })
  })
  await client.end()
  await gone
}

import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import Fastify, { type FastifyInstance } from 'fastify'
import { WebSocket } from 'ws'
import type { Identity } from '../lib/identity.js'
import type { RealtimeOptions } from '../lib/settings.js'
import { TestClient } from '../lib/testing/client.js'
import { MovableClock } from '../lib/testing/clock.js'
import { SOCKET_PATH } from '../lib/wire/protocol.js'
import {
  channels, connections, presence, realtime, stats, typing, type ChannelsOptions, type ConnectionsOptions, type PresenceOptions,
  type StatsOptions, type TypingOptions
} from './index.js'

export { TestClient, type TestFrame } from '../lib/testing/client.js'
export { MovableClock } from '../lib/testing/clock.js'

export const pluginNames = ['connections', 'presence', 'typing', 'channels', 'stats'] as const
export type PluginName = typeof pluginNames[number]

export interface TestAppOptions {
  /** Of the core. Unless given: SQLite in memory, no Redis, any identity that `connect` names, a clock to move. */
  core?: Partial<RealtimeOptions>
  /** Registered in this order; all five unless given. */
  plugins?: readonly PluginName[]
  connections?: ConnectionsOptions
  presence?: PresenceOptions
  typing?: TypingOptions
  channels?: ChannelsOptions
  stats?: StatsOptions
  /** The host's own things, before and after the suite is registered. */
  before?: (app: FastifyInstance) => unknown
  after?: (app: FastifyInstance) => unknown
  /** Shared by several apps; a new one unless given. */
  clock?: MovableClock
}

/** Time that was moved must not look like a node that was not heard of. */
const LEASE = 20 * 24 * 3600_000

/** A token of a test app is the identity itself. */
export const tokenOf = (identity: Identity): string => Buffer.from(JSON.stringify(identity)).toString('base64url')

export const identityOf = (token: string | undefined): Identity | null =>
  token === undefined ? null : JSON.parse(Buffer.from(token, 'base64url').toString()) as Identity

/** An app with the suite in memory, and its clock: `clock.advance(30_000)` lets typing run out. Close it with `app.close()`. */
export async function buildApp (options: TestAppOptions = {}): Promise<{ app: FastifyInstance, clock: MovableClock }> {
  const clock = options.clock ?? new MovableClock()
  // Many tests begin at once, and a database migrates one after the other.
  const app = Fastify({ pluginTimeout: 60_000 })
  try {
    await options.before?.(app)
    await app.register(realtime, {
      database: 'sqlite::memory:', authenticate: ({ token }) => identityOf(token), clock, presenceLease: LEASE, ...options.core
    })
    const plugins: Record<PluginName, () => PromiseLike<unknown>> = {
      connections: () => app.register(connections, options.connections ?? {}),
      presence: () => app.register(presence, options.presence ?? {}),
      typing: () => app.register(typing, options.typing ?? {}),
      channels: () => app.register(channels, options.channels ?? {}),
      stats: () => app.register(stats, options.stats ?? {})
    }
    for (const name of options.plugins ?? pluginNames) await plugins[name]()
    await options.after?.(app)
    return { app, clock }
  } catch (err) {
    await app.close()
    throw err
  }
}

/**
 * An authenticated client of an app, which listens on a free port from then on if it did not yet: `const ann = await connect(app, { tenantId: 1, userId: 1 })`.
 * With null for the identity, `headers` carry what the host's own `authenticate` reads.
 */
export async function connect (
  app: FastifyInstance, identity: Identity | null, { connectionId, headers = {} }: { connectionId?: string, headers?: Record<string, string> } = {}
): Promise<TestClient> {
  const token = identity === null ? undefined : tokenOf(identity)
  const byHeader = token === undefined || connectionId !== undefined ? {} : { authorization: `Bearer ${token}` }
  const client = await openSocket(app, { ...byHeader, ...headers })
  if (connectionId !== undefined) client.send('auth', { token, connectionId })
  await client.next('authenticated')
  return client
}

async function openSocket (app: FastifyInstance, headers: Record<string, string>): Promise<TestClient> {
  if (!app.server.listening) await app.listen({ port: 0, host: '127.0.0.1' })
  const { port } = app.server.address() as AddressInfo
  const socket = new WebSocket(`ws://127.0.0.1:${port}${app.realtime.prefix}${SOCKET_PATH}`, { headers })
  const client = new TestClient(socket)
  await once(socket, 'open')
  return client
}

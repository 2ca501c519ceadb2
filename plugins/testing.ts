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
  channels, connections, conversations, presence, realtime, stats, typing, type ChannelsOptions, type ConnectionsOptions, type ConversationsOptions, type PresenceOptions,
  type StatsOptions, type TypingOptions
} from './index.js'

export { TestClient, type TestFrame } from '../lib/testing/client.js'
export { systemClock, type Clock } from '../lib/clock.js'
export { MovableClock } from '../lib/testing/clock.js'

export const pluginNames = ['connections', 'presence', 'typing', 'channels', 'conversations', 'stats'] as const
export type PluginName = typeof pluginNames[number]

export interface TestAppOptions {
  /** Options of the core. By default: SQLite in memory, no Redis, any identity that `connect` is given, a movable clock. */
  core?: Partial<RealtimeOptions>
  /** Which plugins to register, in this order; all by default. */
  plugins?: readonly PluginName[]
  connections?: ConnectionsOptions
  presence?: PresenceOptions
  typing?: TypingOptions
  channels?: ChannelsOptions
  conversations?: ConversationsOptions
  stats?: StatsOptions
  /** Registers the host's own plugins, before and after the realtime plugins. */
  before?: (app: FastifyInstance) => unknown
  after?: (app: FastifyInstance) => unknown
  /** A clock that several apps share; a new one by default. */
  clock?: MovableClock
}

/** Long, because a node whose clock was moved ahead must not look dead. */
const LEASE = 20 * 24 * 3600_000

/** A token of a test app is the identity itself. */
export const tokenOf = (identity: Identity): string => Buffer.from(JSON.stringify(identity)).toString('base64url')

/** The identity in a token of a test app; null for any other text. */
export function identityOf (token: string | undefined): Identity | null {
  if (token === undefined) return null
  try {
    return JSON.parse(Buffer.from(token, 'base64url').toString()) as Identity
  } catch {
    // A host function that throws means "not now"; an unreadable token is a wrong one.
    return null
  }
}

/** An app with the plugins in memory, and its clock: `clock.advance(30_000)` lets typing expire. Close it with `app.close()`. */
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
      conversations: () => app.register(conversations, options.conversations ?? {}),
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
 * An authenticated client of an app; starts the app on a free port if it does not listen yet: `const ann = await connect(app, { tenantId: 1, userId: 1 })`.
 * With null as the identity, the host's own `authenticate` reads `headers`.
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

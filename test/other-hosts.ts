import type { AddressInfo } from 'node:net'
import Fastify, { type FastifyInstance, type FastifyServerOptions } from 'fastify'
import type { Test } from 'tap'
import {
  channels, connections, presence, realtime, stats, typing, type ChannelsOptions, type ConnectionsOptions, type RealtimeOptions
} from '../plugins/index.js'
import { identityOf } from '../plugins/testing.js'
import type { Host } from './helper.js'

export interface SuiteOptions {
  core?: Partial<RealtimeOptions>
  connections?: ConnectionsOptions
  channels?: ChannelsOptions
}

export interface OtherHost extends SuiteOptions {
  /** What Fastify itself is given. */
  fastify?: object
  /** Where it listens; 127.0.0.1 by default. */
  address?: string
  /** What the host sets up before fastify-realtime, and after it. */
  before?: (app: FastifyInstance) => unknown
  after?: (app: FastifyInstance) => unknown
  /** How the host registers fastify-realtime; at the top by default. */
  register?: (app: FastifyInstance, addSuite: (scope: FastifyInstance) => Promise<void>) => unknown
}

/** A host with a Fastify of its own making, in memory; it listens, and is closed with the test. */
export async function otherHost (t: Test, { fastify = {}, address = '127.0.0.1', before, after, register, ...options }: OtherHost = {}): Promise<Omit<Host, 'clock'>> {
  const app: FastifyInstance = Fastify({ pluginTimeout: 60_000, ...fastify as FastifyServerOptions })
  t.teardown(async () => { await app.close() })
  await before?.(app)
  const add = async (scope: FastifyInstance): Promise<void> => { await addSuite(scope, options) }
  if (register === undefined) await add(app)
  else await register(app, add)
  await after?.(app)
  await app.listen({ port: 0, host: address })
  const scheme = 'https' in fastify ? 'https' : 'http'
  return { app, url: `${scheme}://${address.includes(':') ? `[${address}]` : address}:${(app.server.address() as AddressInfo).port}` }
}

/** Registers fastify-realtime, in memory and with the identities of the test kit. */
export async function addSuite (app: FastifyInstance, { core, ...options }: SuiteOptions = {}): Promise<void> {
  await app.register(realtime, { database: 'sqlite::memory:', authenticate: ({ token }) => identityOf(token), ...core })
  await app.register(connections, options.connections ?? {})
  for (const plugin of [presence, typing, stats]) await app.register(plugin)
  await app.register(channels, options.channels ?? {})
}

/** Keeps the log of a host. */
export function logBook (): { logger: FastifyServerOptions['logger'], lines: Array<Record<string, unknown>> } {
  const lines: Array<Record<string, unknown>> = []
  return { lines, logger: { level: 'info', stream: { write: (line: string) => { lines.push(JSON.parse(line) as Record<string, unknown>) } } } }
}

import type { AddressInfo } from 'node:net'
import Fastify, { type FastifyInstance, type FastifyServerOptions } from 'fastify'
import type { Test } from 'tap'
import {
  channels, connections, presence, realtime, stats, typing, type ChannelsOptions, type ConnectionsOptions, type RealtimeOptions
} from '../plugins/index.js'
import { identityOf } from '../plugins/testing.js'
import type { Host } from './helper.js'

export interface OtherHost {
  /** What Fastify itself is given. */
  fastify?: FastifyServerOptions
  core?: Partial<RealtimeOptions>
  connections?: ConnectionsOptions
  channels?: ChannelsOptions
  /** What the host registers before fastify-realtime, and after it. */
  before?: (app: FastifyInstance) => unknown
  after?: (app: FastifyInstance) => unknown
}

/** A host with a Fastify of its own making, in memory; it listens, and is closed with the test. */
export async function otherHost (t: Test, { fastify = {}, core, before, after, ...options }: OtherHost = {}): Promise<Omit<Host, 'clock'>> {
  const app: FastifyInstance = Fastify({ pluginTimeout: 60_000, ...fastify })
  t.teardown(async () => { await app.close() })
  await before?.(app)
  await app.register(realtime, { database: 'sqlite::memory:', authenticate: ({ token }) => identityOf(token), ...core })
  await app.register(connections, options.connections ?? {})
  for (const plugin of [presence, typing, stats]) await app.register(plugin)
  await app.register(channels, options.channels ?? {})
  await after?.(app)
  await app.listen({ port: 0, host: '127.0.0.1' })
  return { app, url: `http://127.0.0.1:${(app.server.address() as AddressInfo).port}` }
}

/** Keeps the log of a host. */
export function logBook (): { logger: FastifyServerOptions['logger'], lines: Array<Record<string, unknown>> } {
  const lines: Array<Record<string, unknown>> = []
  return { lines, logger: { level: 'info', stream: { write: (line: string) => { lines.push(JSON.parse(line) as Record<string, unknown>) } } } }
}

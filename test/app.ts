import Fastify, { type FastifyInstance } from 'fastify'
import { channels, connections, presence, realtime, stats, typing, type Identity, type RealtimeOptions } from '../plugins/index.js'
import { createDatabase } from './servers.js'

export const plugins = { connections, presence, typing, channels, stats }
export type PluginName = keyof typeof plugins
export const pluginNames = Object.keys(plugins) as PluginName[]

/** What the teardown of a test takes. */
interface Teardown { teardown (task: () => unknown): void }

/** Where state lives: in the process and SQLite, or in Redis and MariaDB. */
export const backends: Array<{ name: string, options: (t: Teardown) => Promise<Pick<RealtimeOptions, 'database' | 'redis' | 'keyPrefix'>> }> = [
  { name: 'in process and SQLite', options: async () => ({ database: 'sqlite::memory:' }) },
  {
    name: 'on Redis and MariaDB',
    options: async (t) => {
      const database = await createDatabase(process.env.DATABASE_URL ?? '')
      t.teardown(async () => { await database.drop() })
      return { database: database.url, redis: process.env.REDIS_URL, keyPrefix: new URL(database.url).pathname.slice(1) }
    }
  }
]

/** The token of these tests is the identity itself. */
export const tokenOf = (identity: Identity): string => Buffer.from(JSON.stringify(identity)).toString('base64url')

export const authenticate: RealtimeOptions['authenticate'] = ({ token }) =>
  token === undefined ? null : JSON.parse(Buffer.from(token, 'base64url').toString()) as Identity

/** The core and these plugins on a Fastify of their own, closed with the test. */
export async function buildApp (
  t: Teardown, options: Omit<RealtimeOptions, 'authenticate'> & Partial<RealtimeOptions>, names: PluginName[] = pluginNames
): Promise<FastifyInstance> {
  const app = Fastify()
  t.teardown(async () => { await app.close() })
  await app.register(realtime, { authenticate, ...options })
  for (const name of names) await app.register(plugins[name])
  return app
}

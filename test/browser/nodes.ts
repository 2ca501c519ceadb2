import type { Test } from 'tap'
import { SECRET } from '../cluster/client.js'
import { startHost, type Host } from '../hosts.js'
import { createDatabase } from '../servers.js'

/** Example hosts with one database of their own, on the MariaDB and the Redis that all test files share; one for each environment. */
export async function startNodes<const T extends ReadonlyArray<Record<string, string>>> (t: Test, ...environments: T): Promise<{ [K in keyof T]: Host }> {
  const database = await createDatabase(process.env.DATABASE_URL ?? '')
  const hosts: Host[] = []
  t.teardown(async () => {
    await Promise.all(hosts.map(async (host) => { await host.kill() }))
    await database.drop()
  })
  const start = async (env: Record<string, string>): Promise<void> => {
    hosts.push(await startHost({
      env: { DATABASE_URL: database.url, REDIS_URL: process.env.REDIS_URL ?? '', JWT_SECRET: SECRET, FRAMES_PER_SECOND: '0', MESSAGES_PER_MINUTE: '0', RECIPIENTS_PER_MINUTE: '0', ...env }
    }))
  }
  // The first one migrates; the others find it done.
  for (const env of environments) await start(env)
  return hosts as { [K in keyof T]: Host }
}

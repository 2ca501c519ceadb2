import t from 'tap'
import { startHost, type Host } from '../hosts.js'
import { createDatabase, startRedis } from '../servers.js'

type Test = Parameters<NonNullable<Parameters<typeof t.test>[1]>>[0]

/** Where the clients of one test connect: to one host, or in turn to two that share their servers. */
export interface Topology {
  name: string
  nodes: Host[]
  /** Answers the node of the `i`th client. */
  at (i: number): string
}

/** Runs a suite against the example host on its embedded default, and against two nodes on MariaDB and Redis. */
export function overTopologies (env: Record<string, string>, suite: (t: Test, topology: Topology) => Promise<void>): void {
  const run = (name: string, start: (t: Test) => Promise<Host[]>): void => {
    t.test(name, async (t) => {
      const nodes = await start(t)
      t.teardown(async () => { await Promise.all(nodes.map(async (node) => { await node.stop() })) })
      await suite(t, { name, nodes, at: (i) => nodes[i % nodes.length]?.url ?? '' })
    })
  }
  run('On one embedded host', async () => [await startHost({ env })])
  run('On two nodes that share MariaDB and Redis', async (t) => {
    const [database, redis] = await Promise.all([createDatabase(process.env.DATABASE_URL ?? ''), startRedis()])
    t.teardown(async () => {
      await redis.stop()
      await database.drop()
    })
    const shared = { ...env, DATABASE_URL: database.url, REDIS_URL: redis.url }
    const first = await startHost({ env: shared })
    return [first, await startHost({ env: shared })]
  })
}

import t, { type Test } from 'tap'
import { startHost, type Host } from '../hosts.js'
import { createDatabase, startRedis } from '../servers.js'

/** Where the clients of one test connect: to one host, or in turn to two that share their servers. */
export interface Topology {
  name: string
  nodes: Host[]
  /** Answers the node of the `i`th client. */
  at (i: number): string
}

type TestFunction = (sentence: string, body: (t: Test) => Promise<void>) => void

/** Runs a suite against the example host on its embedded default, and against two nodes on MariaDB and Redis. */
export function overTopologies (env: Record<string, string>, suite: (test: TestFunction, topology: Topology) => void): void {
  // Side by side: most of them wait for a promise with a time in it, and each has a club of its own.
  t.jobs = 2
  const run = (name: string, start: (t: Test) => Promise<Host[]>): void => {
    void t.test(name, { buffered: true }, async (t) => {
      const nodes = await start(t)
      t.teardown(async () => { await Promise.all(nodes.map(async (node) => { await node.stop() })) })
      t.jobs = 4
      const test: TestFunction = (sentence, body) => { void t.test(sentence, { buffered: true }, body) }
      suite(test, { name, nodes, at: (i) => nodes[i % nodes.length]?.url ?? '' })
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

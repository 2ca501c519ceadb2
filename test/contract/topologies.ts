import t, { type Test } from 'tap'
import { startHost, type Host } from '../hosts.js'
import { createDatabase, startRedis } from '../servers.js'
import { hostsWithStrings } from './client.js'

/** Where the clients of one test connect: to one host, or in turn to two that share their servers. */
export interface Topology {
  name: string
  nodes: Host[]
  /** Answers the node of the `i`th client. */
  at (i: number): string
}

type TestFunction = (sentence: string, body: (t: Test) => Promise<void>) => void

/**
 * Runs a suite against the example host on its embedded default, and against two nodes on MariaDB and Redis; on each with
 * integer ids, and with string ids, for which the numbers of the tests stand.
 */
export function overTopologies (env: Record<string, string>, suite: (test: TestFunction, topology: Topology) => void): void {
  // Side by side: most of them wait for a promise with a time in it, and each has a club of its own.
  t.jobs = 4
  const run = (name: string, env: Record<string, string>, start: (t: Test, env: Record<string, string>) => Promise<Host[]>): void => {
    void t.test(name, { buffered: true }, async (t) => {
      const nodes = await start(t, env)
      if (env.IDS === 'string') for (const { url } of nodes) hostsWithStrings.add(url)
      t.teardown(async () => { await Promise.all(nodes.map(async (node) => { await node.stop() })) })
      t.jobs = 4
      const test: TestFunction = (sentence, body) => { void t.test(sentence, { buffered: true }, body) }
      suite(test, { name, nodes, at: (i) => nodes[i % nodes.length]?.url ?? '' })
    })
  }
  for (const [ids, more] of [['integer ids', {}], ['string ids', { IDS: 'string' }]] as const) {
    run(`On one embedded host, with ${ids}`, { ...env, ...more }, async (_t, env) => [await startHost({ env })])
    run(`On two nodes that share MariaDB and Redis, with ${ids}`, { ...env, ...more }, startNodes)
  }
}

async function startNodes (t: Test, env: Record<string, string>): Promise<Host[]> {
  const [database, redis] = await Promise.all([createDatabase(process.env.DATABASE_URL ?? ''), startRedis()])
  t.teardown(async () => {
    await redis.stop()
    await database.drop()
  })
  const shared = { ...env, DATABASE_URL: database.url, REDIS_URL: redis.url }
  const first = await startHost({ env: shared })
  return [first, await startHost({ env: shared })]
}

import type { AddressInfo } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { Redis } from 'ioredis'
import { createConnection, type RowDataPacket } from 'mysql2/promise'
import t, { type Test } from 'tap'
import { buildApp } from '../../example-host/app.js'
import { readSettings } from '../../example-host/settings.js'
import { SENTINEL_NAME, startRedis, startSentinel } from '../redis-servers.js'
import { createDatabase } from '../servers.js'
import { rest, SECRET, type Target } from './client.js'
import { startLoad } from './load.js'
import { suffer } from './faults.js'
import { until } from './until.js'

/** Two hosts in this process, whose own ioredis instances find the master by Sentinel. */
async function startNodes (t: Test, sentinel: number): Promise<{ nodes: [Target, Target], rows: (statement: string, values?: unknown[]) => Promise<RowDataPacket[]> }> {
  const database = await createDatabase(process.env.DATABASE_URL ?? '')
  const connection = await createConnection({ uri: database.url, dateStrings: true, timezone: 'Z' })
  const nodes: Target[] = []
  for (let i = 0; i < 2; i++) {
    const redis = new Redis({ sentinels: [{ host: '127.0.0.1', port: sentinel }], name: SENTINEL_NAME })
    redis.on('error', () => {})
    const settings = readSettings({ DATABASE_URL: database.url, JWT_SECRET: SECRET, FRAMES_PER_SECOND: '0', LOG_LEVEL: 'silent' })
    // A host may give an instance instead of a URL; the example takes URLs from its environment alone.
    const app = await buildApp({ ...settings, redis: redis as unknown as string })
    await app.listen({ port: 0, host: '127.0.0.1' })
    t.teardown(async () => {
      await app.close()
      redis.disconnect()
    })
    const url = `http://127.0.0.1:${(app.server.address() as AddressInfo).port}`
    nodes.push({ url, wsUrl: `${url.replace('http', 'ws')}/api/websocket/ws` })
  }
  t.teardown(async () => {
    await connection.end()
    await database.drop()
  })
  const rows = async (statement: string, values: unknown[] = []): Promise<RowDataPacket[]> => (await connection.query<RowDataPacket[]>(statement, values))[0]
  return { nodes: nodes as [Target, Target], rows }
}

for (const { name, strike } of [
  { name: 'is killed', strike: 'kill' },
  { name: 'freezes', strike: 'pause' }
] as const) {
  t.test(`The master ${name}, and Sentinel makes its replica the master`, async (t) => {
    const master = await startRedis()
    const replica = await startRedis({ replicaOf: master })
    const sentinel = await startSentinel({ master })
    t.teardown(async () => { await Promise.all([master, replica, sentinel].map(async (server) => { await server.kill() })) })
    const { nodes, rows } = await startNodes(t, sentinel.port)
    const load = await startLoad(t, nodes, { count: 10, pause: 100 })

    await suffer(t, {
      name: `Redis, Sentinel failover, the master ${name}`,
      cluster: { rows },
      nodes,
      load,
      begin: async () => { await master[strike]() },
      // The cause is gone once another one is master.
      end: async () => { await until('the replica is master', 30_000, async () => await sentinel.masterPort() === replica.port) }
    })
    for (const node of nodes) {
      await until('the list is right', 15_000, async () => (await rest(node, { userId: 1 }, '/online-users')).total === 20)
    }
    if (strike !== 'pause') return
    master.resume()
    await sleep(3000)
    t.equal((await fetch(`${nodes[0].url}/health`)).status, 200, 'the old master comes back, and nobody goes there')
  })
}

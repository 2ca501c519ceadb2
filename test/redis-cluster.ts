import { Redis } from 'ioredis'
import { setTimeout as sleep } from 'node:timers/promises'
import { startRedis, type Server } from './servers.js'

const SLOTS = 16_384

/** Three masters that share the slots, made from the same redis-server as everything else. */
export async function startRedisCluster (): Promise<{ nodes: Array<{ host: string, port: number }>, servers: Server[], stop (): Promise<void> }> {
  const args = ['--cluster-enabled', 'yes', '--cluster-node-timeout', '2000', '--cluster-require-full-coverage', 'no']
  const servers = await Promise.all([0, 1, 2].map(async () => await startRedis({ args })))
  const clients = servers.map(({ port }) => new Redis(port, '127.0.0.1'))
  try {
    const share = Math.ceil(SLOTS / servers.length)
    await Promise.all(clients.map(async (client, i) => {
      await client.call('CLUSTER', 'ADDSLOTSRANGE', i * share, Math.min((i + 1) * share, SLOTS) - 1)
      await client.call('CLUSTER', 'MEET', '127.0.0.1', servers[0]?.port ?? 0)
    }))
    for (const client of clients) {
      while (!/cluster_state:ok/.test(await client.cluster('INFO')) || !/cluster_size:3/.test(await client.cluster('INFO'))) await sleep(50)
    }
  } finally {
    for (const client of clients) client.disconnect()
  }
  return {
    nodes: servers.map(({ port }) => ({ host: '127.0.0.1', port })),
    servers,
    stop: async () => { await Promise.all(servers.map(async (server) => { await server.stop() })) }
  }
}

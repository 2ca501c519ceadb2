import { Redis } from 'ioredis'
import { setTimeout as sleep } from 'node:timers/promises'
import { startProxy, type Proxy } from './cluster/proxy.js'
import { freePort } from './free-port.js'
import { startRedis, type RedisServer } from './redis-servers.js'

const SLOTS = 16_384

export interface RedisCluster {
  /** Where clients find each master: its proxy. */
  nodes: Array<{ host: string, port: number }>
  servers: RedisServer[]
  /** One before each master, which announces it as itself. */
  proxies: Proxy[]
  stop (): Promise<void>
}

/** Three masters that share the slots, each behind a proxy, made from the same redis-server as everything else. */
export async function startRedisCluster (): Promise<RedisCluster> {
  const proxies = await Promise.all([0, 1, 2].map(async () => await startProxy(0)))
  // On which the servers speak to each other. By default that is the server's port and 10,000, which may be taken.
  const ports = await Promise.all(proxies.map(async () => await freePort()))
  const servers = await Promise.all(proxies.map(async (proxy, i) => {
    const server = await startRedis({
      args: [
        ...['--cluster-enabled', 'yes'],
        ...['--cluster-port', String(ports[i])],
        ...['--cluster-node-timeout', '2000'],
        ...['--cluster-require-full-coverage', 'no'],
        ...['--cluster-announce-port', String(proxy.port)]
      ]
    })
    proxy.pointTo(server.port)
    return server
  }))
  const clients = servers.map(({ port }) => new Redis(port, '127.0.0.1'))
  try {
    const share = Math.ceil(SLOTS / servers.length)
    const first = servers[0]?.port ?? 0
    await Promise.all(clients.map(async (client, i) => {
      await client.call('CLUSTER', 'ADDSLOTSRANGE', i * share, Math.min((i + 1) * share, SLOTS) - 1)
      await client.call('CLUSTER', 'MEET', '127.0.0.1', first, ports[0] ?? 0)
    }))
    for (const client of clients) {
      while (!/cluster_state:ok/.test(await client.cluster('INFO')) || !/cluster_size:3/.test(await client.cluster('INFO'))) await sleep(50)
    }
  } finally {
    for (const client of clients) client.disconnect()
  }
  return {
    nodes: proxies.map(({ port }) => ({ host: '127.0.0.1', port })),
    servers,
    proxies,
    stop: async () => {
      await Promise.all(proxies.map(async (proxy) => { await proxy.close() }))
      await Promise.all(servers.map(async (server) => { await server.kill() }))
    }
  }
}

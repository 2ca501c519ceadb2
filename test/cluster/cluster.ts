import { readFileSync } from 'node:fs'
import { Redis } from 'ioredis'
import { createPool, type Pool, type RowDataPacket } from 'mysql2/promise'
import { startHost, type Host } from '../hosts.js'
import type { RedisOptions, RedisServer } from '../redis-servers.js'
import { startMariadb, startRedis, type Server } from '../servers.js'
import { SECRET, type Who } from './client.js'
import { startProxy, type Proxy } from './proxy.js'

export interface NodeOptions {
  /** What this node reaches through a proxy of its own. */
  proxied?: 'redis' | 'database'
  env?: Record<string, string>
}

export interface ClusterOptions {
  redis?: RedisOptions
  /** Nodes use a database user without an administrator's rights, whom a read-only server refuses. */
  restricted?: boolean
}

/** A database user with all rights on the tests' tables. */
const createAppUser = async (pool: Pool): Promise<void> => {
  await pool.query("create user if not exists app identified by 'app'")
  await pool.query('grant all on test.* to app')
}

/** An example host of the cluster. */
export interface Node extends Host {
  /** Where it was started with `proxied`. */
  proxy (): Proxy
}

/** A MariaDB and a Redis of its own, and example hosts on them. */
export interface Cluster {
  readonly mariadb: Server
  readonly redis: RedisServer
  /** What this cluster's Redis keys and topics begin with. */
  readonly prefix: string
  /** In the order in which they were asked for. */
  readonly nodes: Node[]
  start (options?: NodeOptions): Promise<Node>
  /** Rows of the database, past all proxies. */
  rows (statement: string, values?: unknown[]): Promise<RowDataPacket[]>
  /** A connection of an administrator to the first MariaDB. */
  readonly admin: Pool
  /** From now on nodes that connect through a proxy reach this server, and `rows` reads it. */
  moveTo (mariadb: Server): Promise<void>
  /** A client of the Redis, past all proxies. */
  readonly keys: Redis
  stop (): Promise<void>
}

export async function startCluster (nodes: NodeOptions[], options: ClusterOptions = {}): Promise<Cluster> {
  const [mariadb, redis] = await Promise.all([startMariadb(), startRedis(options.redis)])
  const openPool = ({ url }: Server): Pool => createPool({ uri: url, jsonStrings: true, dateStrings: true, timezone: 'Z', connectionLimit: 4 })
  const pools = [openPool(mariadb)] as [Pool, ...Pool[]]
  const [admin] = pools
  if (options.restricted === true) await createAppUser(admin)
  const keys = new Redis(redis.url, { maxRetriesPerRequest: null, retryStrategy: () => 100 })
  keys.on('error', () => {}) // tests stop it
  const proxies: Proxy[] = []
  let identity = ''

  const through = async (url: string, proxied: boolean): Promise<[string, Proxy | null]> => {
    if (!proxied) return [url, null]
    const proxy = await startProxy(Number(new URL(url).port))
    proxies.push(proxy)
    const own = new URL(url)
    own.port = String(proxy.port)
    return [own.href, proxy]
  }
  const cluster: Cluster = {
    mariadb,
    redis,
    get prefix () {
      return `rt:${identity}:0:`
    },
    nodes: [],
    keys,
    admin,
    async moveTo (server) {
      const pool = openPool(server)
      pools.unshift(pool)
      if (options.restricted === true) await createAppUser(pool)
      for (const node of cluster.nodes) node.proxy().pointTo(server.port)
    },
    async start ({ proxied, env = {} } = {}) {
      const [DATABASE_URL, toDatabase] = await through(
        options.restricted === true ? `mysql://app:app@127.0.0.1:${mariadb.port}/test` : mariadb.url, proxied === 'database')
      const [REDIS_URL, toRedis] = await through(redis.url, proxied === 'redis')
      const host = await startHost({ env: { DATABASE_URL, REDIS_URL, JWT_SECRET: SECRET, FRAMES_PER_SECOND: '0', MESSAGES_PER_MINUTE: '0', RECIPIENTS_PER_MINUTE: '0', ...env } })
      const proxy = toDatabase ?? toRedis
      const node: Node = {
        ...host,
        proxy () {
          if (proxy === null) throw new Error('this node was started without a proxy')
          return proxy
        }
      }
      cluster.nodes.push(node)
      return node
    },
    async rows (statement, values = []) {
      const [rows] = await pools[0].query<RowDataPacket[]>(statement, values)
      return rows
    },
    async stop () {
      keys.disconnect()
      for (const pool of pools) pool.end().catch(() => {})
      await Promise.all(cluster.nodes.map(async (node) => { await node.kill() }))
      await Promise.all(proxies.map(async (proxy) => { await proxy.close() }))
      await Promise.all([mariadb.kill(), redis.kill()])
    }
  }
  try {
    // The first one migrates; the others find it done.
    const [first, ...others] = nodes
    const started = first === undefined ? [] : [await cluster.start(first)]
    const [meta] = first === undefined ? [] : await cluster.rows('select value from websocket_meta where name = ?', ['identity'])
    identity = String(meta?.value)
    started.push(...await Promise.all(others.map(async (options) => await cluster.start(options))))
    cluster.nodes.splice(0, Infinity, ...started)
  } catch (err) {
    await cluster.stop()
    throw err
  }
  return cluster
}

/** A cluster for one test file, stopped when `t` is through, and its nodes. */
export async function clusterFor<const T extends readonly NodeOptions[]> (
  t: { teardown (task: () => Promise<void>): void }, nodes: T, options?: ClusterOptions
): Promise<{ cluster: Cluster, nodes: { [K in keyof T]: Node } }> {
  const cluster = await startCluster([...nodes], options)
  t.teardown(async () => { await cluster.stop() })
  return { cluster, nodes: [...cluster.nodes] as { [K in keyof T]: Node } }
}

/** The boot id of the node that holds a user's socket, as the roster has it. */
export async function bootIdOf ({ keys, prefix }: Cluster, { userId, clubId = 1 }: Who): Promise<string> {
  const entries = (await keys.hvals(`${prefix}{${clubId}}:connections`)).map((text) => JSON.parse(text) as { u: string, n: string })
  const entry = entries.find(({ u }) => u === String(userId))
  if (entry === undefined) throw new Error(`user ${userId} has no connection`)
  return entry.n
}

/** Resident memory of a process, in MiB. */
export function memoryOf ({ pid }: Pick<Host, 'pid'>): number {
  const match = /VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))
  return Number(match?.[1]) / 1024
}

/** What `/health` answers. */
export async function healthOf ({ url }: Pick<Host, 'url'>): Promise<number> {
  return (await fetch(`${url}/health`)).status
}

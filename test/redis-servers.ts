import { rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Redis } from 'ioredis'
import { startChild, type Child } from './child-process.js'
import { until } from './cluster/until.js'
import { dataFolder, temporaryFolder } from './exit-hooks.js'
import { freePort } from './free-port.js'
import { locateCommands } from './install-packages.js'
import { serverOf, type Server } from './server-process.js'

export interface RedisOptions {
  /** Further redis-server arguments, such as `['--requirepass', 'secret']`; they win. */
  args?: string[]
  /** Starts as a replica of this server, and resolves when it is in sync. Replicas are read-only. */
  replicaOf?: Pick<Server, 'port'>
  /** Such as `'4mb'`; with it, `policy` is `'noeviction'` unless said otherwise. */
  maxmemory?: string
  policy?: 'noeviction' | 'allkeys-lru' | 'allkeys-random'
}

export interface RedisServer extends Server {
  /** Runs one command on a connection of its own. */
  command (name: string, ...args: Array<string | number>): Promise<unknown>
  /** Writes what it holds now to disk. Every later start begins with that, until a restart with `empty`. */
  snapshot (): Promise<void>
  /** Becomes a read-only replica of `master`. Resolves when it is in sync, and has thrown its own keys away. */
  demote (master: Pick<Server, 'port'>): Promise<void>
  /** Becomes a master with the keys it has. */
  promote (): Promise<void>
}

/** A Redis of the test's own. It writes nothing to disk by itself, so every start is empty unless `snapshot` was called. */
export async function startRedis (options: RedisOptions = {}): Promise<RedisServer> {
  const { args = [], replicaOf, maxmemory, policy = 'noeviction' } = options
  const commands = await locateCommands('redis-server')
  const folder = dataFolder('redis')
  const port = await freePort()

  async function start (): Promise<Child> {
    const child = await startChild(commands['redis-server'], [
      ...['--port', String(port)],
      ...['--bind', '127.0.0.1'],
      ...['--dir', folder],
      ...['--save', ''],
      ...['--appendonly', 'no'],
      // A replica is in sync at once instead of after five seconds.
      ...['--repl-diskless-sync-delay', '0'],
      ...(maxmemory === undefined ? [] : ['--maxmemory', maxmemory, '--maxmemory-policy', policy]),
      ...(replicaOf === undefined ? [] : ['--replicaof', '127.0.0.1', String(replicaOf.port)]),
      ...args
    ])
    await child.waitFor(/Ready to accept connections/, 20_000)
    return child
  }

  const server = await serverOf(`redis://127.0.0.1:${port}`, port, start, async () => {
    rmSync(join(folder, 'dump.rdb'), { force: true })
  })
  const command = async (name: string, ...rest: Array<string | number>): Promise<unknown> => {
    const client = new Redis(port, '127.0.0.1', { lazyConnect: true, enableReadyCheck: false, retryStrategy: null })
    client.on('error', () => {})
    return await client.call(name, ...rest).finally(() => { client.disconnect() })
  }
  const inSync = async (): Promise<void> => {
    await until('the replica is in sync', 20_000, async () => /master_link_status:up/.test(String(await command('INFO', 'replication'))))
  }
  if (replicaOf !== undefined) await inSync()
  // Not a copy: the pid is read when it is asked for.
  return Object.assign(server, {
    command,
    snapshot: async () => { await command('SAVE') },
    demote: async (master: Pick<Server, 'port'>) => {
      await command('REPLICAOF', '127.0.0.1', master.port)
      await inSync()
    },
    promote: async () => { await command('REPLICAOF', 'NO', 'ONE') }
  })
}

/** The name under which a sentinel of {@link startSentinel} knows its master. */
export const SENTINEL_NAME = 'main'

export interface Sentinel extends Server {
  /** The port of the master that it knows. */
  masterPort (): Promise<number>
  /** `SENTINEL` with these arguments. */
  command (...args: string[]): Promise<unknown>
}

/**
 * A sentinel that watches `master`, decides alone, and begins a failover once the master has not answered for `downAfter`
 * milliseconds. Resolves when it knows as many replicas as given.
 */
export async function startSentinel (
  { master, replicas = 1, downAfter = 1000 }: { master: Pick<Server, 'port'>, replicas?: number, downAfter?: number }
): Promise<Sentinel> {
  const commands = await locateCommands('redis-sentinel')
  const port = await freePort()
  const file = join(temporaryFolder('sentinel'), 'sentinel.conf')
  // It writes what it learns into this file.
  writeFileSync(file, [
    `port ${port}`,
    'bind 127.0.0.1',
    `sentinel monitor ${SENTINEL_NAME} 127.0.0.1 ${master.port} 1`,
    `sentinel down-after-milliseconds ${SENTINEL_NAME} ${downAfter}`,
    `sentinel failover-timeout ${SENTINEL_NAME} 10000`,
    ''
  ].join('\n'))
  const server = await serverOf(`redis://127.0.0.1:${port}`, port, async () => {
    const child = await startChild(commands['redis-sentinel'], [file])
    await child.waitFor(/\+monitor master/, 20_000)
    return child
  }, async () => {})
  const ask = async <T>(...args: string[]): Promise<T> => {
    const client = new Redis(port, '127.0.0.1', { lazyConnect: true, enableReadyCheck: false, retryStrategy: null })
    client.on('error', () => {})
    return await (client.call('SENTINEL', ...args) as Promise<T>).finally(() => { client.disconnect() })
  }
  await until('the sentinel knows the replicas', 30_000, async () => (await ask<unknown[]>('REPLICAS', SENTINEL_NAME)).length >= replicas)
  return Object.assign(server, {
    command: ask,
    masterPort: async () => Number((await ask<[string, string]>('GET-MASTER-ADDR-BY-NAME', SENTINEL_NAME))[1])
  })
}

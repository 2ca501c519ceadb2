import { Redis, type Cluster, type RedisOptions } from 'ioredis'
import { OptionError } from './errors.js'

/** The connections that the suite opens from the `redis` option; it closes these and only these. */
export interface RedisConnections {
  /** Short commands. Fails fast while Redis is away instead of queueing. */
  commands: Redis | Cluster
  /** Blocked by nothing but subscriptions; null on a cluster, whose client keeps one for each shard by itself. */
  subscriber: Redis | null
  /** Put before every key and topic: the host's prefix and the database's number, since topics know no databases. */
  prefix: string
  close (): void
}

/** How long one command may take before it counts as failed: a frozen Redis must not hold requests for ever. */
const COMMAND_TIMEOUT = 2000
/** Below Fastify's own limit for a plugin, whose message would not say what is missing. */
const READY_TIMEOUT = 5000

const shared = { enableOfflineQueue: false, lazyConnect: true } as const

const single: RedisOptions = {
  ...shared,
  autoResubscribe: false,
  autoResendUnfulfilledCommands: false,
  maxRetriesPerRequest: 0,
  connectTimeout: 5000,
  retryStrategy: (attempt) => Math.min(50 * 2 ** Math.min(attempt, 5), 1000)
}

/**
 * Connections of the suite's own, made after the host's URL or instance (single, Sentinel or Cluster): a host's instance
 * may queue offline, carry a key prefix or be in subscriber mode, none of which the suite could live with. Throws
 * {@link OptionError} when Redis does not answer.
 */
export async function connectRedis (redis: unknown, keyPrefix: string, onError: (err: Error) => void): Promise<RedisConnections> {
  if (typeof redis === 'string' ? !/^rediss?:\/\//.test(redis) : !isClient(redis)) {
    throw new OptionError('redis', 'must be an ioredis instance or a URL: redis://host:port/db')
  }
  const connections = isCluster(redis) ? forCluster(redis, keyPrefix) : forSingle(redis as string | Redis, keyPrefix)
  const opened = [connections.commands, ...connections.subscriber === null ? [] : [connections.subscriber]]
  // ioredis emits `error` at each failed attempt; unhandled, it would end the process.
  for (const connection of opened) connection.on('error', onError)
  try {
    await Promise.all(opened.map(ready))
  } catch (err) {
    connections.close()
    throw new OptionError('redis', `cannot be reached: ${err instanceof Error ? err.message : String(err)}`)
  }
  return connections
}

function forSingle (redis: string | Redis, keyPrefix: string): RedisConnections {
  const make = (extra: RedisOptions): Redis => {
    const options = { ...single, ...extra }
    // A key prefix of the host's would change the suite's keys, but not its topics.
    return typeof redis === 'string' ? new Redis(redis, options) : redis.duplicate({ ...options, keyPrefix: '' })
  }
  const commands = make({ commandTimeout: COMMAND_TIMEOUT })
  const subscriber = make({})
  return {
    commands,
    subscriber,
    prefix: `${keyPrefix}:${commands.options.db ?? 0}:`,
    close: () => {
      commands.disconnect()
      subscriber.disconnect()
    }
  }
}

function forCluster (cluster: Cluster, keyPrefix: string): RedisConnections {
  const commands = cluster.duplicate([], {
    ...shared,
    keyPrefix: '',
    shardedSubscribers: true,
    redisOptions: { ...cluster.options.redisOptions, keyPrefix: '', commandTimeout: COMMAND_TIMEOUT, maxRetriesPerRequest: 0 }
  })
  return { commands, subscriber: null, prefix: `${keyPrefix}:0:`, close: () => { commands.disconnect() } }
}

function isClient (value: unknown): value is Redis | Cluster {
  return typeof value === 'object' && value !== null && 'duplicate' in value && typeof value.duplicate === 'function'
}

/** By its shape, not by `instanceof`: a host may bring its own copy of ioredis. */
function isCluster (value: unknown): value is Cluster {
  return isClient(value) && 'isCluster' in value && value.isCluster === true
}

async function ready (connection: Redis | Cluster): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    let lastError: Error | undefined
    const timer = setTimeout(() => { reject(lastError ?? new Error('no answer')) }, READY_TIMEOUT)
    connection.on('error', (err: Error) => { lastError = err })
    connection.once('ready', () => {
      clearTimeout(timer)
      resolve()
    })
    connection.connect().catch((err: Error) => { lastError = err })
  })
}

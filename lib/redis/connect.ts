import type { FastifyBaseLogger } from 'fastify'
import { Command, Redis, type Cluster, type RedisOptions } from 'ioredis'
import { systemClock } from '../clock.js'
import { OptionError } from '../errors.js'
import { NO_RESPONSE } from './errors.js'
import { RedisHealth } from './health.js'

/** The log for changes of the connections' state. */
export type ConnectionLog = Pick<FastifyBaseLogger, 'debug' | 'info' | 'warn' | 'error'>

/** The connections that fastify-realtime opens from the `redis` option. It closes these, and not the host's. */
export interface RedisConnections {
  /** For short commands, which fail at once while Redis is away instead of being queued. */
  commands: Redis | Cluster
  /** For subscriptions alone; null on a cluster, whose client has one for each shard. */
  subscriber: Redis | null
  /** The beginning of every key and topic: the host's prefix, and the number of the database, because topics are not separate for each database. */
  prefix: string
  /** Whether Redis accepts writes; also replaces dead connections. */
  health: RedisHealth
  close (): void
}

/** A command that takes longer counts as failed, so that a frozen Redis does not block requests forever. */
const COMMAND_TIMEOUT_MS = 2000
/** Less than Fastify's limit for a plugin, whose message would not name the cause. */
const READY_TIMEOUT_MS = 5000
/** The longest pause between two attempts to connect. */
const MAX_PAUSE_MS = 1000
/** After a connection was ready for this long, the pauses between attempts are reset. */
const STABLE_MS = 5000
/** Time to live of the key that a probe writes. */
const PROBE_TTL_MS = 60_000

const WRITE = `return redis.call('SET', KEYS[1], ARGV[1], 'PX', ${PROBE_TTL_MS})`

/** Options that fastify-realtime relies on and that the host's instance may have set otherwise. */
const shared = {
  enableOfflineQueue: false,
  lazyConnect: true,
  enableAutoPipelining: false,
  keyPrefix: ''
} as const

const eachServer: RedisOptions = {
  connectTimeout: 2500,
  keepAlive: 5000,
  // Pause before a server that is loading its data is asked again. RedisHealth gives it up after a while.
  maxLoadingRetryTime: 500,
  enableReadyCheck: true,
  reconnectOnError: null,
  stringNumbers: false,
  maxRetriesPerRequest: 0,
  // It would treat an idle connection as dead; RedisHealth distinguishes them.
  socketTimeout: undefined
}

const single: RedisOptions = {
  ...shared,
  ...eachServer,
  autoResubscribe: false,
  autoResendUnfulfilledCommands: false,
  // A sentinel that hangs is skipped; while none responds, all are tried again and again.
  sentinelCommandTimeout: COMMAND_TIMEOUT_MS,
  sentinelRetryStrategy: pause
}

/**
 * Opens connections of its own with the host's URL or the options of the host's instance (single server, Sentinel or
 * Cluster). The instance itself may queue commands while offline, have a key prefix or be in subscriber mode. Throws
 * {@link OptionError} if Redis does not respond or rejects writes.
 */
export async function connectRedis (redis: unknown, keyPrefix: string, log: ConnectionLog): Promise<RedisConnections> {
  if (typeof redis === 'string' ? !/^rediss?:\/\//.test(redis) : !isClient(redis)) {
    throw new OptionError('redis', 'must be an ioredis instance or a URL: redis://host:port/db')
  }
  const connections = isCluster(redis) ? forCluster(redis, keyPrefix, log) : forSingle(redis as string | Redis, keyPrefix, log)
  const { commands, subscriber, health } = connections
  const opened = [commands, ...subscriber === null ? [] : [subscriber]]
  let lastError: Error | undefined
  for (const connection of opened) {
    // ioredis emits `error` for each failed attempt. Without a listener that would end the process.
    connection.on('error', (err: Error) => {
      lastError = err
      log.debug({ err: err.message }, 'Redis connection failed')
      health.error(err)
    })
  }
  commands.on('close', () => { health.lost() })
  commands.on('ready', () => { void health.probe() })
  health.start()
  try {
    await whenUsable(connections, opened, () => lastError)
  } catch (err) {
    connections.close()
    throw new OptionError('redis', `cannot be used: ${err instanceof Error ? err.message : String(err)}`)
  }
  return connections
}

function forSingle (redis: string | Redis, keyPrefix: string, log: ConnectionLog): RedisConnections {
  let closed = false
  const make = (extra: RedisOptions): Redis => {
    let attempts = 0
    let readyAt = Infinity
    // ioredis resets its own count with each connection, even if the server rejects every command.
    const retryStrategy = (): number => {
      if (performance.now() - readyAt > STABLE_MS) attempts = 0
      readyAt = Infinity
      return pause(attempts++)
    }
    const options = { ...single, ...extra, retryStrategy }
    const connection = typeof redis === 'string' ? new Redis(redis, options) : redis.duplicate(options)
    connection.on('ready', () => { readyAt = performance.now() })
    // ioredis stops trying if it cannot start an attempt.
    connection.on('end', () => {
      if (!closed) setTimeout(() => { if (!closed) connection.connect().catch(() => {}) }, retryStrategy())
    })
    return connection
  }
  const commands = make({ commandTimeout: COMMAND_TIMEOUT_MS })
  const subscriber = make({})
  const prefix = `${keyPrefix}:${commands.options.db ?? 0}:`
  const health = new RedisHealth({
    all: () => [commands, subscriber],
    write: async () => { await commands.eval(WRITE, 1, `${prefix}probe`, systemClock.now()) },
    leaveServer: () => { commands.stream.destroy() },
    followServer: () => { subscriber.stream.destroy() }
  }, log)
  return {
    commands,
    subscriber,
    prefix,
    health,
    close: () => {
      closed = true
      health.stop()
      commands.disconnect()
      subscriber.disconnect()
    }
  }
}

function forCluster (cluster: Cluster, keyPrefix: string, log: ConnectionLog): RedisConnections {
  const commands = cluster.duplicate([], {
    ...shared,
    shardedSubscribers: true,
    scaleReads: 'master',
    clusterRetryStrategy: pause,
    redisOptions: { ...cluster.options.redisOptions, ...eachServer, keyPrefix: '', commandTimeout: COMMAND_TIMEOUT_MS }
  })
  const prefix = `${keyPrefix}:0:`
  const probes = new ShardProbes(`${prefix}probe`)
  const health = new RedisHealth({
    all: () => [...commands.nodes(), ...subscribersOf(commands)],
    write: async () => {
      await Promise.all(probes.keys(commands).map(async (key) => { await commands.eval(WRITE, 1, key, systemClock.now()) }))
    },
    // A cluster redirects its clients itself.
    leaveServer: () => {},
    followServer: () => {}
  }, log)
  return {
    commands,
    subscriber: null,
    prefix,
    health,
    close: () => {
      health.stop()
      commands.disconnect()
    }
  }
}

/** Keys on every shard of a cluster. */
class ShardProbes {
  readonly #candidates: Array<{ key: string, slot: number }>

  constructor (base: string) {
    this.#candidates = Array.from({ length: 256 }, (_, i) => {
      const key = `${base}:{${i}}`
      return { key, slot: new Command('get', [key]).getSlot() }
    })
  }

  /** One key on each master that has slots; a single key if no slots are known. */
  keys (cluster: Cluster): string[] {
    const keys = new Map<string, string>()
    for (const { key, slot } of this.#candidates) {
      const master = cluster.slots[slot]?.[0] ?? ''
      if (!keys.has(master)) keys.set(master, key)
    }
    return [...keys.values()]
  }
}

/** The connections of a cluster's subscriptions, which ioredis does not expose. Without them a dead one is noticed later. */
function subscribersOf (cluster: Cluster): Redis[] {
  const group = cluster as unknown as { shardedSubscribers?: { shardedSubscribers?: Map<string, { getInstance (): Redis | null }> } }
  const subscribers = group.shardedSubscribers?.shardedSubscribers?.values() ?? []
  return [...subscribers].map((subscriber) => subscriber.getInstance()).filter((redis) => redis !== null)
}

/** Milliseconds before the next attempt: at most one second, and random, so that nodes do not connect at the same time. */
function pause (attempt: number): number {
  return Math.min(50 * 2 ** Math.min(attempt, 5), MAX_PAUSE_MS) * (0.5 + Math.random() / 2)
}

function isClient (value: unknown): value is Redis | Cluster {
  return typeof value === 'object' && value !== null && 'duplicate' in value && typeof value.duplicate === 'function'
}

/** Checks properties instead of `instanceof`, because a host may have its own copy of ioredis. */
function isCluster (value: unknown): value is Cluster {
  return isClient(value) && 'isCluster' in value && value.isCluster === true
}

/** Resolves when all connections are ready and a write has succeeded. */
async function whenUsable ({ health }: RedisConnections, opened: Array<Redis | Cluster>, lastError: () => Error | undefined): Promise<void> {
  const connected = opened.map(async (connection) => {
    await new Promise<void>((resolve) => {
      connection.once('ready', resolve)
      connection.connect().catch(() => {}) // emitted as `error`, and tried again
    })
  })
  const written = new Promise<void>((resolve) => { health.onChange((ok) => { if (ok) resolve() }) })
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => { reject(new Error(lastError()?.message ?? health.reason ?? NO_RESPONSE)) }, READY_TIMEOUT_MS)
  })
  try {
    await Promise.race([Promise.all([...connected, written]), late])
  } finally {
    clearTimeout(timer)
  }
}

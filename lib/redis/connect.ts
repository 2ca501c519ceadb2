import type { FastifyBaseLogger } from 'fastify'
import { Command, Redis, type Cluster, type RedisOptions } from 'ioredis'
import { systemClock } from '../clock.js'
import { OptionError } from '../errors.js'
import { RedisHealth } from './health.js'

/** Where changes of the connections' state are logged. */
export type ConnectionLog = Pick<FastifyBaseLogger, 'debug' | 'info' | 'warn' | 'error'>

/** The connections that the suite opens from the `redis` option; it closes these and only these. */
export interface RedisConnections {
  /** Short commands. Fails fast while Redis is away instead of queueing. */
  commands: Redis | Cluster
  /** Blocked by nothing but subscriptions; null on a cluster, whose client keeps one for each shard by itself. */
  subscriber: Redis | null
  /** Put before every key and topic: the host's prefix and the database's number, since topics know no databases. */
  prefix: string
  /** Whether Redis takes writes, and the watch over the connections. */
  health: RedisHealth
  close (): void
}

/** How long one command may take before it counts as failed: a frozen Redis must not hold requests for ever. */
const COMMAND_TIMEOUT_MS = 2000
/** Below Fastify's own limit for a plugin, whose message would not say what is missing. */
const READY_TIMEOUT_MS = 5000
/** The longest pause between two attempts to connect. */
const MAX_PAUSE = 1000
/** A connection that was ready for this long has proven itself: the next attempt comes soon again. */
const PROVEN = 5000
/** How long what a probe writes is kept. */
const PROBE_TTL = 60_000

const WRITE = `return redis.call('SET', KEYS[1], ARGV[1], 'PX', ${PROBE_TTL})`

/** What the host's own instance may have set otherwise, and the suite relies on. */
const shared = {
  enableOfflineQueue: false,
  lazyConnect: true,
  enableAutoPipelining: false,
  keyPrefix: ''
} as const

const eachServer: RedisOptions = {
  connectTimeout: 2500,
  keepAlive: 5000,
  // A server that loads is asked again this soon, and left when that goes on for long.
  maxLoadingRetryTime: 500,
  enableReadyCheck: true,
  reconnectOnError: null,
  stringNumbers: false,
  maxRetriesPerRequest: 0,
  // Would tell a dead connection from a quiet one wrongly; RedisHealth does it.
  socketTimeout: undefined
}

const single: RedisOptions = {
  ...shared,
  ...eachServer,
  autoResubscribe: false,
  autoResendUnfulfilledCommands: false,
  // A sentinel that hangs is passed over; while none answers, all are asked again and again.
  sentinelCommandTimeout: COMMAND_TIMEOUT_MS,
  sentinelRetryStrategy: pause
}

/**
 * Connections of the suite's own, made after the host's URL or instance (single, Sentinel or Cluster): a host's instance
 * may queue offline, carry a key prefix or be in subscriber mode, none of which the suite could live with. Throws
 * {@link OptionError} when Redis does not answer or cannot be written to.
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
    // ioredis emits `error` at each failed attempt; unhandled, it would end the process.
    connection.on('error', (err: Error) => {
      lastError = err
      log.debug({ err: err.message }, 'redis connection')
      health.error(err)
    })
  }
  commands.on('close', () => { health.lost() })
  commands.on('ready', () => { void health.probe() })
  health.start()
  try {
    await usable(connections, opened, () => lastError)
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
    // Counted here: ioredis begins anew once it is connected, though the server may refuse everything.
    const retryStrategy = (): number => {
      if (performance.now() - readyAt > PROVEN) attempts = 0
      readyAt = Infinity
      return pause(attempts++)
    }
    const options = { ...single, ...extra, retryStrategy }
    const connection = typeof redis === 'string' ? new Redis(redis, options) : redis.duplicate(options)
    connection.on('ready', () => { readyAt = performance.now() })
    // ioredis gives up for good where it cannot even begin an attempt.
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
    // A cluster says itself where to go.
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

/** Keys that lie on every shard of a cluster. */
class ShardProbes {
  readonly #candidates: Array<{ key: string, slot: number }>

  constructor (base: string) {
    this.#candidates = Array.from({ length: 256 }, (_, i) => {
      const key = `${base}:{${i}}`
      return { key, slot: new Command('get', [key]).getSlot() }
    })
  }

  /** One on each master that has slots; the first one alone where no slots are known. */
  keys (cluster: Cluster): string[] {
    const keys = new Map<string, string>()
    for (const { key, slot } of this.#candidates) {
      const master = cluster.slots[slot]?.[0] ?? ''
      if (!keys.has(master)) keys.set(master, key)
    }
    return [...keys.values()]
  }
}

/** ioredis shows a cluster's nodes, but not the connections by which it subscribes. Without these their silence is noticed later. */
function subscribersOf (cluster: Cluster): Redis[] {
  const group = cluster as unknown as { shardedSubscribers?: { shardedSubscribers?: Map<string, { getInstance (): Redis | null }> } }
  const subscribers = group.shardedSubscribers?.shardedSubscribers?.values() ?? []
  return [...subscribers].map((subscriber) => subscriber.getInstance()).filter((redis) => redis !== null)
}

/** Milliseconds before the next attempt, at most one second, and not the same for all nodes. */
function pause (attempt: number): number {
  return Math.min(50 * 2 ** Math.min(attempt, 5), MAX_PAUSE) * (0.5 + Math.random() / 2)
}

function isClient (value: unknown): value is Redis | Cluster {
  return typeof value === 'object' && value !== null && 'duplicate' in value && typeof value.duplicate === 'function'
}

/** By its shape, not by `instanceof`: a host may bring its own copy of ioredis. */
function isCluster (value: unknown): value is Cluster {
  return isClient(value) && 'isCluster' in value && value.isCluster === true
}

/** Resolves once all are connected and a write worked. */
async function usable ({ health }: RedisConnections, opened: Array<Redis | Cluster>, lastError: () => Error | undefined): Promise<void> {
  const connected = opened.map(async (connection) => {
    await new Promise<void>((resolve) => {
      connection.once('ready', resolve)
      connection.connect().catch(() => {}) // told as an error, and tried again
    })
  })
  const written = new Promise<void>((resolve) => { health.onChange((ok) => { if (ok) resolve() }) })
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => { reject(new Error(lastError()?.message ?? health.reason ?? 'no answer')) }, READY_TIMEOUT_MS)
  })
  try {
    await Promise.race([Promise.all([...connected, written]), late])
  } finally {
    clearTimeout(timer)
  }
}

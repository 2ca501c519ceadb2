import { Redis, type RedisOptions } from 'ioredis'
import { OptionError } from './errors.js'

/** The connections that the suite opens from the `redis` option; it closes these and only these. */
export interface RedisConnections {
  /** Short commands. Fails fast while Redis is away instead of queueing. */
  commands: Redis
  /** Blocked by nothing but subscriptions. */
  subscriber: Redis
  /** Put before every key and topic: the host's prefix and the database's number, since topics know no databases. */
  prefix: string
  close (): void
}

/** How long one command may take before it counts as failed: a frozen Redis must not hold requests for ever. */
const COMMAND_TIMEOUT = 2000
const READY_TIMEOUT = 10_000

const overrides: RedisOptions = {
  enableOfflineQueue: false,
  autoResubscribe: false,
  autoResendUnfulfilledCommands: false,
  maxRetriesPerRequest: 0,
  connectTimeout: 5000,
  retryStrategy: (attempt) => Math.min(50 * 2 ** Math.min(attempt, 5), 1000),
  lazyConnect: true
}

/**
 * Connections of the suite's own, made after the host's URL or instance: a host's instance may queue offline, carry a key
 * prefix or be in subscriber mode, none of which the suite could live with. Rejects when Redis does not answer.
 */
export async function connectRedis (
  redis: unknown, keyPrefix: string, onError: (err: Error) => void
): Promise<RedisConnections> {
  const make = (extra: RedisOptions): Redis => {
    const options = { ...overrides, ...extra }
    if (typeof redis === 'string') return new Redis(redis, options)
    // A command timeout of the host's would also end SUBSCRIBE; a key prefix would change the suite's keys.
    return (redis as Redis).duplicate({ ...options, keyPrefix: '' })
  }
  if (typeof redis === 'string' ? !/^rediss?:\/\//.test(redis) : !isRedis(redis)) {
    throw new OptionError('redis', 'must be an ioredis instance or a URL: redis://host:port/db')
  }
  const commands = make({ commandTimeout: COMMAND_TIMEOUT })
  const subscriber = make({})
  const close = (): void => {
    commands.disconnect()
    subscriber.disconnect()
  }
  // ioredis emits `error` at each failed attempt; unhandled, it would end the process.
  for (const connection of [commands, subscriber]) connection.on('error', onError)
  try {
    await Promise.all([ready(commands), ready(subscriber)])
  } catch (err) {
    close()
    throw new OptionError('redis', `cannot be reached: ${err instanceof Error ? err.message : String(err)}`)
  }
  return { commands, subscriber, prefix: `${keyPrefix}:${commands.options.db ?? 0}:`, close }
}

function isRedis (value: unknown): value is Redis {
  return typeof value === 'object' && value !== null && 'duplicate' in value && typeof value.duplicate === 'function'
}

async function ready (connection: Redis): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    const timer = setTimeout(() => { reject(lastError ?? new Error('no answer')) }, READY_TIMEOUT)
    let lastError: Error | undefined
    connection.on('error', (err: Error) => { lastError = err })
    connection.once('ready', () => {
      clearTimeout(timer)
      resolve()
    })
    connection.connect().catch((err: Error) => { lastError = err })
  })
}

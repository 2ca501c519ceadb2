import type { Cluster, Redis } from 'ioredis'
import type { RedisConnections } from '../redis/connect.js'
import { withoutCommand } from '../redis/errors.js'
import { STORED_TTL_MS, CounterAges } from './counter-ages.js'
import { MAGIC } from './envelope.js'
import type { Counter } from './sequence-tracker.js'

/** A message for a topic, numbered by a counter; null: without a number. */
export interface Publication {
  counter: string | null
  topic: string
  message: Buffer
}

export interface PubSubHandlers {
  onMessage (topic: string, message: Buffer): void
  /** All subscriptions are lost; subscribe again after `onReady`. */
  onDisconnected (): void
  onReady (): void
}

/** Publish and subscribe on one Redis server, or on a cluster with sharded topics. */
export interface RedisPubSub {
  /** `subscribe` can be called. */
  readonly ready: boolean
  listen (handlers: PubSubHandlers): void
  /** Numbers and publishes messages, atomically for each topic. The order between topics is not kept. */
  publish (publications: Publication[]): Promise<void>
  subscribe (topics: string[]): Promise<void>
  unsubscribe (topics: string[]): void
  counters (names: string[]): Promise<Counter[]>
  /** Replaces the connection of the subscriptions; with `all`, the one of the commands as well. */
  reconnect (all: boolean): void
}

/**
 * Numbers and publishes in one step, so that every node sees the same order in a topic and a gap in the numbers proves a
 * loss. `KEYS`: a counter for each topic; `ARGV`: for each a topic, a message, and '1' to renew the counter's time to live.
 * sequence-tracker.ts explains the first number of a counter.
 */
const script = (publish: 'PUBLISH' | 'SPUBLISH'): string => `
for i, key in ipairs(KEYS) do
  local number, mark = redis.call('INCR', key), '+'
  if number == 1 then
    local time = redis.call('TIME')
    number, mark = time[1] * 1000000 + time[2], '*'
    redis.call('SET', key, string.format('%.0f', number), 'PX', ${STORED_TTL_MS})
  elseif ARGV[3 * i] == '1' then
    redis.call('PEXPIRE', key, ${STORED_TTL_MS})
  end
  redis.call('${publish}', ARGV[3 * i - 2], '${MAGIC}' .. mark .. string.format('%.0f', number) .. '\\n' .. ARGV[3 * i - 1])
end
return #KEYS`

/** `KEYS`: counters. Returns the number of each, '0' if there is none, and its time to live. */
const COUNTERS = `
local found = {}
for i, key in ipairs(KEYS) do
  found[2 * i - 1] = redis.call('GET', key) or '0'
  found[2 * i] = redis.call('PTTL', key)
end
return found`

type WithScripts<T> = T & {
  rtPublish (keys: number, ...args: Array<string | Buffer>): Promise<number>
  rtCounters (keys: number, ...names: string[]): Promise<Array<string | number>>
}

/** Topics in one script call or one SUBSCRIBE, so that Redis serves other clients in between. */
const CHUNK = 500

/** One server, or a master found by Sentinel. */
export class SinglePubSub implements RedisPubSub {
  readonly #commands: WithScripts<Redis>
  readonly #counterAges = new CounterAges()
  readonly #subscriber: Redis

  constructor (commands: Redis, subscriber: Redis) {
    this.#commands = withScripts(commands, 'PUBLISH')
    this.#subscriber = subscriber
  }

  get ready (): boolean {
    return this.#subscriber.status === 'ready'
  }

  listen ({ onMessage, onDisconnected, onReady }: PubSubHandlers): void {
    this.#subscriber.on('messageBuffer', (topic: Buffer, bytes: Buffer) => { onMessage(topic.toString(), bytes) })
    this.#subscriber.on('close', onDisconnected)
    this.#subscriber.on('ready', onReady)
  }

  async publish (publications: Publication[]): Promise<void> {
    const sent: Array<Promise<unknown>> = []
    const numbered: Array<string | Buffer> = []
    const counters: string[] = []
    const flush = (): void => {
      if (counters.length > 0) sent.push(this.#commands.rtPublish(counters.length, ...counters, ...numbered))
      numbered.length = counters.length = 0
    }
    for (const { counter, topic, message } of publications) {
      if (counter === null) {
        sent.push(this.#commands.publish(topic, message))
        continue
      }
      counters.push(counter)
      numbered.push(topic, message, this.#counterAges.isDue(counter) ? '1' : '')
      if (counters.length === CHUNK) flush()
    }
    flush()
    await all(sent, this.#counterAges)
  }

  async subscribe (topics: string[]): Promise<void> {
    for (let at = 0; at < topics.length; at += CHUNK) await this.#subscriber.subscribe(...topics.slice(at, at + CHUNK))
  }

  unsubscribe (topics: string[]): void {
    for (let at = 0; at < topics.length; at += CHUNK) {
      this.#subscriber.unsubscribe(...topics.slice(at, at + CHUNK)).catch(() => {}) // the subscription ends with the connection
    }
  }

  async counters (names: string[]): Promise<Counter[]> {
    const found: Counter[] = []
    for (let at = 0; at < names.length; at += CHUNK) {
      const part = names.slice(at, at + CHUNK)
      found.push(...toCounters(await this.#commands.rtCounters(part.length, ...part)))
    }
    return found
  }

  reconnect (all: boolean): void {
    // Not disconnect(): that would wait for a dead connection to reply.
    for (const { stream } of all ? [this.#subscriber, this.#commands] : [this.#subscriber]) stream.destroy()
  }
}

/**
 * A cluster with sharded pub/sub: each topic is on one shard, with its counter, and its messages are not sent to the other
 * servers. The client has one subscriber for each shard and subscribes again when slots move.
 */
export class ClusterPubSub implements RedisPubSub {
  readonly #cluster: WithScripts<Cluster>
  readonly #counterAges = new CounterAges()

  constructor (cluster: Cluster) {
    this.#cluster = withScripts(cluster, 'SPUBLISH')
  }

  get ready (): boolean {
    return this.#cluster.status === 'ready'
  }

  listen ({ onMessage, onDisconnected, onReady }: PubSubHandlers): void {
    this.#cluster.on('smessageBuffer', (topic: Buffer, bytes: Buffer) => { onMessage(topic.toString(), bytes) })
    this.#cluster.on('-subscriber', onDisconnected)
    this.#cluster.on('subscribersReady', onReady)
    this.#cluster.on('close', onDisconnected)
    this.#cluster.on('ready', onReady)
  }

  async publish (publications: Publication[]): Promise<void> {
    await all(publications.map(async ({ counter, topic, message }) => counter === null
      ? await this.#cluster.spublish(topic, message)
      : await this.#cluster.rtPublish(1, counter, topic, message, this.#counterAges.isDue(counter) ? '1' : '')), this.#counterAges)
  }

  async subscribe (topics: string[]): Promise<void> {
    await all(topics.map(async (topic) => await this.#cluster.ssubscribe(topic)))
  }

  unsubscribe (topics: string[]): void {
    for (const topic of topics) this.#cluster.sunsubscribe(topic).catch(() => {}) // the subscription ends with the connection
  }

  async counters (names: string[]): Promise<Counter[]> {
    return (await Promise.all(names.map(async (name) => toCounters(await this.#cluster.rtCounters(1, name))))).flat()
  }

  reconnect (): void {
    this.#cluster.disconnect(true)
  }
}

/** For the connections that the host's `redis` option led to. */
export const createPubSub = ({ commands, subscriber }: RedisConnections): RedisPubSub =>
  subscriber === null ? new ClusterPubSub(commands as Cluster) : new SinglePubSub(commands as Redis, subscriber)

function withScripts<T extends Redis | Cluster> (redis: T, publish: 'PUBLISH' | 'SPUBLISH'): WithScripts<T> {
  redis.defineCommand('rtPublish', { lua: script(publish) })
  redis.defineCommand('rtCounters', { lua: COUNTERS })
  return redis as WithScripts<T>
}

function toCounters (found: Array<string | number>): Counter[] {
  const counters: Counter[] = []
  for (let i = 0; i + 1 < found.length; i += 2) counters.push({ number: Number(found[i]), ttl: Number(found[i + 1]) })
  return counters
}

/** Waits for all promises, so that no rejection is left unhandled, then rejects with the first failure. */
async function all (promises: Array<Promise<unknown>>, counterAges?: CounterAges): Promise<void> {
  const failed = (await Promise.allSettled(promises)).find(({ status }) => status === 'rejected')
  if (failed?.status !== 'rejected') return
  counterAges?.forget()
  throw withoutCommand(failed.reason)
}

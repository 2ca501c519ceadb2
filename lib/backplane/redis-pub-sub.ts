import type { Cluster, Redis } from 'ioredis'
import type { RedisConnections } from '../redis/connect.js'
import { withoutCommand } from '../redis/errors.js'
import { COUNTER_LIFE, CounterAges } from './counter-ages.js'
import { MAGIC } from './envelope.js'
import type { Counter } from './sequence-tracker.js'

/** A message for a topic, numbered by the counter beside it; null: without a number. */
export interface Publication {
  counter: string | null
  topic: string
  message: Buffer
}

export interface LinkHandlers {
  onMessage (topic: string, message: Buffer): void
  /** Subscriptions are gone, and must be made anew when it is `ready`. */
  onDisconnected (): void
  onReady (): void
}

/** How the backplane speaks to Redis: one server, or a cluster with sharded topics. */
export interface RedisLink {
  /** Subscriptions can be made. */
  readonly ready: boolean
  listen (handlers: LinkHandlers): void
  /** Numbers and publishes, atomically for each topic. The order among topics is not kept. */
  publish (publications: Publication[]): Promise<void>
  subscribe (topics: string[]): Promise<void>
  unsubscribe (topic: string): void
  counters (names: string[]): Promise<Counter[]>
  /** Gives the subscriptions' connection up for a new one; `all`: the other one too. */
  reconnect (all: boolean): void
}

/**
 * Publishes and numbers in one step, so that every node sees one order per topic and a hole in the numbers proves a
 * loss. Keys: a counter per topic; arguments: a topic, a message and '1' where the counter is prolonged, for each. What a
 * new counter begins with is explained in sequences.ts.
 */
const script = (publish: 'PUBLISH' | 'SPUBLISH'): string => `
for i, key in ipairs(KEYS) do
  local number, mark = redis.call('INCR', key), '+'
  if number == 1 then
    local time = redis.call('TIME')
    number, mark = time[1] * 1000000 + time[2], '*'
    redis.call('SET', key, string.format('%.0f', number), 'PX', ${COUNTER_LIFE})
  elseif ARGV[3 * i] == '1' then
    redis.call('PEXPIRE', key, ${COUNTER_LIFE})
  end
  redis.call('${publish}', ARGV[3 * i - 2], '${MAGIC}' .. mark .. string.format('%.0f', number) .. '\\n' .. ARGV[3 * i - 1])
end
return #KEYS`

/** Keys: counters → each one's number, '0' where there is none, and its time to live. */
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

/** Topics in one script call or one SUBSCRIBE: keeps Redis responsive to others in between. */
const CHUNK = 500

/** One server, or a master found by Sentinel. */
export class SingleLink implements RedisLink {
  readonly #commands: WithScripts<Redis>
  readonly #ages = new CounterAges()
  readonly #subscriber: Redis

  constructor (commands: Redis, subscriber: Redis) {
    this.#commands = withScripts(commands, 'PUBLISH')
    this.#subscriber = subscriber
  }

  get ready (): boolean {
    return this.#subscriber.status === 'ready'
  }

  listen ({ onMessage, onDisconnected, onReady }: LinkHandlers): void {
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
      numbered.push(topic, message, this.#ages.isDue(counter) ? '1' : '')
      if (counters.length === CHUNK) flush()
    }
    flush()
    await all(sent, this.#ages)
  }

  async subscribe (topics: string[]): Promise<void> {
    for (let at = 0; at < topics.length; at += CHUNK) await this.#subscriber.subscribe(...topics.slice(at, at + CHUNK))
  }

  unsubscribe (topic: string): void {
    this.#subscriber.unsubscribe(topic).catch(() => {}) // gone with the connection anyway
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
    // Not disconnect(): a connection that is dead says no goodbye.
    for (const { stream } of all ? [this.#subscriber, this.#commands] : [this.#subscriber]) stream.destroy()
  }
}

/**
 * A cluster: each topic lives, with its counter, on one shard, and its messages stay there (sharded pub/sub) instead of
 * going to every server. The client keeps one subscriber for each shard and subscribes again when slots move.
 */
export class ClusterLink implements RedisLink {
  readonly #cluster: WithScripts<Cluster>
  readonly #ages = new CounterAges()

  constructor (cluster: Cluster) {
    this.#cluster = withScripts(cluster, 'SPUBLISH')
  }

  get ready (): boolean {
    return this.#cluster.status === 'ready'
  }

  listen ({ onMessage, onDisconnected, onReady }: LinkHandlers): void {
    this.#cluster.on('smessageBuffer', (topic: Buffer, bytes: Buffer) => { onMessage(topic.toString(), bytes) })
    this.#cluster.on('-subscriber', onDisconnected)
    this.#cluster.on('subscribersReady', onReady)
    this.#cluster.on('close', onDisconnected)
    this.#cluster.on('ready', onReady)
  }

  async publish (publications: Publication[]): Promise<void> {
    await all(publications.map(async ({ counter, topic, message }) => counter === null
      ? await this.#cluster.spublish(topic, message)
      : await this.#cluster.rtPublish(1, counter, topic, message, this.#ages.isDue(counter) ? '1' : '')), this.#ages)
  }

  async subscribe (topics: string[]): Promise<void> {
    await all(topics.map(async (topic) => await this.#cluster.ssubscribe(topic)))
  }

  unsubscribe (topic: string): void {
    this.#cluster.sunsubscribe(topic).catch(() => {}) // gone with the connection anyway
  }

  async counters (names: string[]): Promise<Counter[]> {
    return (await Promise.all(names.map(async (name) => toCounters(await this.#cluster.rtCounters(1, name))))).flat()
  }

  reconnect (): void {
    this.#cluster.disconnect(true)
  }
}

/** The way to speak to what the host gave. */
export const linkTo = ({ commands, subscriber }: RedisConnections): RedisLink =>
  subscriber === null ? new ClusterLink(commands as Cluster) : new SingleLink(commands as Redis, subscriber)

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

/** Rejects with the first failure, but only when all are through: nobody may be surprised by a late one. */
async function all (promises: Array<Promise<unknown>>, ages?: CounterAges): Promise<void> {
  const failed = (await Promise.allSettled(promises)).find(({ status }) => status === 'rejected')
  if (failed?.status !== 'rejected') return
  ages?.forget()
  throw withoutCommand(failed.reason)
}

import type { Cluster, Redis } from 'ioredis'
import type { RedisConnections } from '../redis.js'

/** A message for a topic, numbered by the counter beside it. */
export interface Publication {
  counter: string
  topic: string
  message: Buffer
}

export interface LinkHandlers {
  message (topic: string, message: Buffer): void
  /** Subscriptions are gone, and must be made anew when it is `ready`. */
  cut (): void
  ready (): void
}

/** How the backplane speaks to Redis: one server, or a cluster with sharded topics. */
export interface RedisLink {
  readonly ready: boolean
  listen (handlers: LinkHandlers): void
  /** Numbers and publishes, atomically for each topic. */
  publish (publications: Publication[]): Promise<void>
  /** To a topic without a number. */
  send (topic: string, text: string): Promise<void>
  subscribe (topics: string[]): Promise<void>
  unsubscribe (topic: string): void
  counters (names: string[]): Promise<Array<string | null>>
  /** Gives the subscriptions' connection up for a new one. */
  reconnect (): void
}

/**
 * Publishes and numbers in one step, so that every node sees one order per topic and a hole in the numbers proves a
 * loss. Keys: a counter per topic; arguments: a topic and a message for each.
 */
const script = (publish: 'PUBLISH' | 'SPUBLISH'): string => `
for i, key in ipairs(KEYS) do
  local sequence = redis.call('INCR', key)
  if sequence == 1 then redis.call('EXPIRE', key, 604800) end
  redis.call('${publish}', ARGV[2 * i - 1], sequence .. '\\n' .. ARGV[2 * i])
end
return #KEYS`

type WithPublish<T> = T & { rtPublish (keys: number, ...args: Array<string | Buffer>): Promise<number> }

/** Topics in one script call or one SUBSCRIBE: keeps Redis responsive to others in between. */
const CHUNK = 500

/** One server, or a master found by Sentinel. */
export class SingleLink implements RedisLink {
  readonly #commands: WithPublish<Redis>
  readonly #subscriber: Redis

  constructor (commands: Redis, subscriber: Redis) {
    commands.defineCommand('rtPublish', { lua: script('PUBLISH') })
    this.#commands = commands as WithPublish<Redis>
    this.#subscriber = subscriber
  }

  get ready (): boolean {
    return this.#commands.status === 'ready' && this.#subscriber.status === 'ready'
  }

  listen ({ message, cut, ready }: LinkHandlers): void {
    this.#subscriber.on('messageBuffer', (topic: Buffer, bytes: Buffer) => { message(topic.toString(), bytes) })
    this.#subscriber.on('close', cut)
    this.#subscriber.on('ready', ready)
    this.#commands.on('ready', () => { if (this.ready) ready() })
  }

  async publish (publications: Publication[]): Promise<void> {
    const parts: Array<Promise<unknown>> = []
    for (let at = 0; at < publications.length; at += CHUNK) {
      const part = publications.slice(at, at + CHUNK)
      parts.push(this.#commands.rtPublish(part.length,
        ...part.map(({ counter }) => counter), ...part.flatMap(({ topic, message }) => [topic, message])))
    }
    await all(parts)
  }

  async send (topic: string, text: string): Promise<void> {
    await this.#commands.publish(topic, text)
  }

  async subscribe (topics: string[]): Promise<void> {
    for (let at = 0; at < topics.length; at += CHUNK) await this.#subscriber.subscribe(...topics.slice(at, at + CHUNK))
  }

  unsubscribe (topic: string): void {
    this.#subscriber.unsubscribe(topic).catch(() => {}) // gone with the connection anyway
  }

  async counters (names: string[]): Promise<Array<string | null>> {
    const found: Array<string | null> = []
    for (let at = 0; at < names.length; at += CHUNK) found.push(...await this.#commands.mget(names.slice(at, at + CHUNK)))
    return found
  }

  reconnect (): void {
    this.#subscriber.disconnect(true)
  }
}

/**
 * A cluster: each topic lives, with its counter, on one shard, and its messages stay there (sharded pub/sub) instead of
 * going to every server. The client keeps one subscriber for each shard and subscribes again when slots move.
 */
export class ClusterLink implements RedisLink {
  readonly #cluster: WithPublish<Cluster>

  constructor (cluster: Cluster) {
    cluster.defineCommand('rtPublish', { lua: script('SPUBLISH') })
    this.#cluster = cluster as WithPublish<Cluster>
  }

  get ready (): boolean {
    return this.#cluster.status === 'ready'
  }

  listen ({ message, cut, ready }: LinkHandlers): void {
    this.#cluster.on('smessageBuffer', (topic: Buffer, bytes: Buffer) => { message(topic.toString(), bytes) })
    this.#cluster.on('-subscriber', cut)
    this.#cluster.on('subscribersReady', ready)
    this.#cluster.on('close', cut)
    this.#cluster.on('ready', ready)
  }

  async publish (publications: Publication[]): Promise<void> {
    await all(publications.map(async ({ counter, topic, message }) => await this.#cluster.rtPublish(1, counter, topic, message)))
  }

  async send (topic: string, text: string): Promise<void> {
    await this.#cluster.spublish(topic, text)
  }

  async subscribe (topics: string[]): Promise<void> {
    await all(topics.map(async (topic) => await this.#cluster.ssubscribe(topic)))
  }

  unsubscribe (topic: string): void {
    this.#cluster.sunsubscribe(topic).catch(() => {}) // gone with the connection anyway
  }

  async counters (names: string[]): Promise<Array<string | null>> {
    return await Promise.all(names.map(async (name) => await this.#cluster.get(name)))
  }

  reconnect (): void {
    this.#cluster.disconnect(true)
  }
}

/** The way to speak to what the host gave. */
export const linkTo = ({ commands, subscriber }: RedisConnections): RedisLink =>
  subscriber === null ? new ClusterLink(commands as Cluster) : new SingleLink(commands as Redis, subscriber)

/** Rejects with the first failure, but only when all are through: nobody may be surprised by a late one. */
async function all (promises: Array<Promise<unknown>>): Promise<void> {
  const failed = (await Promise.allSettled(promises)).find(({ status }) => status === 'rejected')
  if (failed?.status === 'rejected') throw failed.reason
}

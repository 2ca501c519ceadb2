import type { FastifyBaseLogger } from 'fastify'
import type { Cluster, Redis } from 'ioredis'
import { RealtimeError } from '../errors.js'
import type { RedisConnections } from './connect.js'
import { isInvalid, withoutCommand } from './errors.js'
import { inOrder, type Argument, type Named, type Script } from './script.js'

type Client = (Redis | Cluster) & Record<`rt_${string}`, (keys: number, ...args: Argument[]) => Promise<unknown>>

/** The arguments of a script by name. */
export type ArgumentsOf<S> = S extends Script<infer Parameter> ? Named<Parameter> : never
/** A row of a script by column. */
export type RowOf<S> = S extends Script<string, infer Column> ? Named<Column> : never

/**
 * Commands and scripts on Redis. While Redis cannot be reached or refuses to serve, every call rejects with the result of
 * `toUnavailable`. A command that Redis would reject again, such as a script with a mistake, is logged once and rejects with
 * `RT_INTERNAL`.
 */
export class RedisCommands<Scripts extends Record<string, Script>> {
  readonly #redis: Client
  readonly #scripts: Scripts
  readonly #health: RedisConnections['health']
  readonly #toUnavailable: (cause: unknown) => RealtimeError
  readonly #log: Pick<FastifyBaseLogger, 'error'>
  readonly #logged = new Set<string>()

  constructor ({ commands, health }: RedisConnections, scripts: Scripts, toUnavailable: (cause: unknown) => RealtimeError, log: Pick<FastifyBaseLogger, 'error'>) {
    for (const [name, { lua }] of Object.entries(scripts)) commands.defineCommand(`rt_${name}`, { lua })
    this.#redis = commands as Client
    this.#scripts = scripts
    this.#health = health
    this.#toUnavailable = toUnavailable
    this.#log = log
  }

  /** Redis accepts writes. */
  get ready (): boolean {
    return this.#health.ok
  }

  get isCluster (): boolean {
    return this.#redis.isCluster
  }

  /** Calls the listener each time the connection is lost. Returns a function that removes the listener. */
  onDisconnected (listener: () => void): () => void {
    this.#redis.on('close', listener)
    return () => { this.#redis.off('close', listener) }
  }

  /** Runs a script. `lead`: the arguments before those with names, see {@link Script}; `more`: those after them. */
  async run<Name extends keyof Scripts & string> (
    name: Name, keys: string[], lead: readonly [number, Argument], args: ArgumentsOf<Scripts[Name]>, more: readonly Argument[] = []
  ): Promise<unknown> {
    const named = inOrder(this.#scripts[name]?.parameters ?? [], args)
    return await this.#attempt(this.#redis[`rt_${name}`]?.(keys.length, ...keys, ...lead, ...named, ...more))
  }

  async hget (key: string, field: string): Promise<string | null> {
    return await this.#attempt(this.#redis.hget(key, field))
  }

  async sadd (key: string, ...members: Argument[]): Promise<number> {
    return await this.#attempt(this.#redis.sadd(key, ...members))
  }

  async srem (key: string, ...members: Argument[]): Promise<number> {
    return await this.#attempt(this.#redis.srem(key, ...members))
  }

  async smembers (key: string): Promise<string[]> {
    return await this.#attempt(this.#redis.smembers(key))
  }

  async srandmember (key: string, count: number): Promise<string[]> {
    return await this.#attempt(this.#redis.srandmember(key, count))
  }

  /** Adds a member to a sorted set; keeps the score of an existing member. */
  async zaddIfAbsent (key: string, score: number, member: string): Promise<void> {
    await this.#attempt(this.#redis.zadd(key, 'NX', score, member))
  }

  async zrem (key: string, member: string): Promise<number> {
    return await this.#attempt(this.#redis.zrem(key, member))
  }

  async del (key: string): Promise<number> {
    return await this.#attempt(this.#redis.del(key))
  }

  /** Deletes the fields of a hash that match. */
  async hdelMatching (key: string, pattern: string): Promise<void> {
    let cursor = '0'
    do {
      const [next, found] = await this.#attempt(this.#redis.hscan(key, cursor, 'MATCH', pattern, 'COUNT', 1000))
      cursor = next
      const fields = found.filter((_, i) => i % 2 === 0)
      if (fields.length > 0) await this.#attempt(this.#redis.hdel(key, ...fields))
    } while (cursor !== '0')
  }

  /** All keys that match, page by page, from every server of a cluster. A key can be found more than once. */
  async * scan (pattern: string, count: number): AsyncGenerator<string[], void> {
    const servers = this.#redis.isCluster ? (this.#redis as Cluster).nodes('master') : [this.#redis as Redis]
    for (const server of servers) {
      let cursor = '0'
      do {
        const [next, keys] = await this.#attempt(server.scan(cursor, 'MATCH', pattern, 'COUNT', count))
        cursor = next
        yield keys
      } while (cursor !== '0')
    }
  }

  async #attempt<T> (reply: Promise<T> | undefined): Promise<T> {
    try {
      return await reply as T
    } catch (cause) {
      throw this.toError(cause)
    }
  }

  /** The error with which a call rejects, for an error of Redis. */
  toError (cause: unknown): RealtimeError {
    return isInvalid(cause) ? this.#internalError(cause) : this.#toUnavailable(withoutCommand(cause))
  }

  #internalError (cause: Error): RealtimeError {
    if (!this.#logged.has(cause.message)) this.#log.error({ err: cause.message }, 'Redis rejected a command as invalid')
    this.#logged.add(cause.message)
    return new RealtimeError('RT_INTERNAL', undefined, { cause })
  }
}

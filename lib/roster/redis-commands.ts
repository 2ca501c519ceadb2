import { randomUUID } from 'node:crypto'
import type { Cluster, Redis } from 'ioredis'
import type { Clock } from '../clock.js'
import { RealtimeError } from '../errors.js'
import type { RedisConnections } from '../redis.js'
import { withoutCommand } from '../redis-errors.js'
import type { Device } from '../schemas.js'
import type { Entry, JoinResult, Presence } from './contract.js'
import * as tenantScripts from './redis-scripts.js'
import * as sharedScripts from './redis-shared-scripts.js'

const scripts = { ...tenantScripts, ...sharedScripts }

type Script = keyof typeof scripts
type Argument = string | number
type WithScripts = (Redis | Cluster) & Record<`rt_${Script}`, (...args: Argument[]) => Promise<unknown>>

/** The roster's keys and scripts on one Redis, with one kind of failure. */
export class RosterCommands {
  readonly prefix: string
  readonly nodesKey: string
  readonly dueKey: string
  readonly #redis: WithScripts
  readonly #health: RedisConnections['health']
  readonly #nodeId: string
  readonly #clock: Clock

  constructor ({ commands, prefix, health }: RedisConnections, nodeId: string, clock: Clock) {
    for (const [name, lua] of Object.entries(scripts)) commands.defineCommand(`rt_${name}`, { lua, numberOfKeys: 1 })
    this.#redis = commands as WithScripts
    this.#health = health
    this.prefix = prefix
    this.nodesKey = `${prefix}nodes`
    this.dueKey = `${prefix}{due}`
    this.#nodeId = nodeId
    this.#clock = clock
  }

  /** Redis takes writes. */
  get ready (): boolean {
    return this.#health.ok
  }

  /** What the keys of one tenant begin with. */
  base (tenantId: number): string {
    return `${this.prefix}{${tenantId}}:`
  }

  /** Runs a script. Throws `RT_STORAGE_UNAVAILABLE` while Redis is away. */
  async run (script: Script, key: string, ...args: Argument[]): Promise<unknown> {
    const offset = this.#clock.now() - Date.now()
    return await this.attempt(async (redis) => await redis[`rt_${script}`](key, offset, ...args))
  }

  async attempt<T> (command: (redis: WithScripts) => Promise<T>): Promise<T> {
    try {
      return await command(this.#redis)
    } catch (err) {
      throw new RealtimeError('RT_STORAGE_UNAVAILABLE', 'Presence cannot be read or written now', { retryAfter: 1, cause: withoutCommand(err) })
    }
  }

  /** Written before the entries, so that a reaper finds every tenant in which this node may hold something. */
  async remember (tenantId: number): Promise<void> {
    await this.attempt(async (redis) => await redis.sadd(this.tenantsKey(this.#nodeId), tenantId))
  }

  /**
   * Does something that becomes due, and has the tenant looked at then. Said before, so that a crash in between leaves at
   * worst a look at nothing; and after, since a look that came in between found nothing and forgot the tenant.
   */
  async becomingDue<T> (tenantId: number, inMs: number, act: () => Promise<T>): Promise<T> {
    await this.#dueAt(tenantId, inMs)
    const outcome = await act()
    await this.#dueAt(tenantId, inMs)
    return outcome
  }

  async #dueAt (tenantId: number, inMs: number): Promise<void> {
    await this.run('dueAt', this.dueKey, inMs, tenantId)
  }

  /** Names what this Redis holds: another name than before, and it was emptied or replaced meanwhile. */
  async epoch (): Promise<string> {
    const key = `${this.prefix}epoch`
    await this.attempt(async (redis) => await redis.set(key, randomUUID(), 'NX'))
    return await this.attempt(async (redis) => await redis.get(key)) ?? ''
  }

  tenantsKey (nodeId: string): string {
    return `${this.prefix}tenants:${nodeId}`
  }
}

export function toEntry (tenantId: number, text: string): Entry {
  const { id, u, n, g, d, c } = JSON.parse(text) as { id: string, u: string, n: string, g: string, d: Device, c: string }
  return { tenantId, userId: Number(u), connectionId: id, nodeId: n === '' ? null : n, generation: g, device: d, connectedAt: Number(c) }
}

/** The answer of the join script. */
export function toJoinResult ({ tenantId, generation }: Entry, answer: unknown): JoinResult & { generation: string } {
  const [state, fresh, first, replaced, kept, ...evicted] = answer as [string, number, number, string, string, ...string[]]
  if (state === 'taken') return { taken: true, fresh: false, first: false, replaced: null, evicted: [], generation }
  return {
    taken: false,
    fresh: fresh === 1,
    first: first === 1,
    replaced: replaced === '' ? null : toEntry(tenantId, replaced),
    evicted: evicted.map((text) => toEntry(tenantId, text)),
    generation: kept
  }
}

export const encodePresence = ({ status, device, lastMessage, awaySince }: Presence): string =>
  JSON.stringify({ status, device, lastMessage, awaySince })

export function decodePresence (text: string | undefined, seen: string | undefined): Presence | null {
  if (text === undefined || text === '') return null
  return { ...JSON.parse(text) as Omit<Presence, 'seenAt'>, seenAt: Number(seen) }
}

import type { FastifyBaseLogger } from 'fastify'
import type { Cluster, Redis } from 'ioredis'
import { systemClock, type Clock } from '../../clock.js'
import { RealtimeError } from '../../errors.js'
import type { RedisConnections } from '../../redis/connect.js'
import { withoutCommand } from '../../redis/errors.js'
import type { RosterConnection } from '../contract.js'
import * as healScripts from './heal-scripts.js'
import * as repairScripts from './repair-scripts.js'
import * as sharedScripts from './shared-scripts.js'
import * as tenantScripts from './tenant-scripts.js'

const scripts = { ...tenantScripts, ...healScripts, ...repairScripts, ...sharedScripts }

type Script = keyof typeof scripts
export type Argument = string | number
type WithScripts = (Redis | Cluster) & Record<`rt_${Script}`, (keys: number, ...args: Argument[]) => Promise<unknown>>

/** Rows of one tenant for a script over several. */
export interface Part<Row> {
  tenantId: number
  rows: Row[]
}

/** What a script answered for a part, and the rows that were sent: fewer than the part has where some were not valid any more. */
export interface Answered<P extends Part<unknown>> {
  part: P
  rows: Array<P['rows'][number]>
  answer: unknown
}

/** Rows in one call of a script over several tenants, which is then done within a few milliseconds, and calls under way at once. */
export const ROWS = 200
const CALLS = 4

/** Sorted by tenant, in parts that fit one call. */
export function partsOf<Row> (rows: Iterable<Row>, tenantOf: (row: Row) => number): Array<Part<Row>> {
  const parts: Array<Part<Row>> = []
  const open = new Map<number, Part<Row>>()
  for (const row of rows) {
    const tenantId = tenantOf(row)
    let part = open.get(tenantId)
    if (part === undefined || part.rows.length === ROWS) {
      part = { tenantId, rows: [] }
      open.set(tenantId, part)
      parts.push(part)
    }
    part.rows.push(row)
  }
  return parts
}

/** The roster's keys and scripts on one Redis, with one kind of failure. */
export class RosterCommands {
  readonly prefix: string
  readonly nodesKey: string
  readonly dueKey: string
  readonly #redis: WithScripts
  readonly #health: RedisConnections['health']
  readonly #nodeId: string
  readonly #clock: Clock
  readonly #log: FastifyBaseLogger
  readonly #logged = new Set<string>()

  constructor ({ commands, prefix, health }: RedisConnections, nodeId: string, clock: Clock, log: FastifyBaseLogger) {
    for (const [name, lua] of Object.entries(scripts)) commands.defineCommand(`rt_${name}`, { lua })
    this.#redis = commands as WithScripts
    this.#health = health
    this.prefix = prefix
    this.nodesKey = `${prefix}nodes`
    this.dueKey = `${prefix}{due}`
    this.#nodeId = nodeId
    this.#clock = clock
    this.#log = log
  }

  /** Redis takes writes. */
  get ready (): boolean {
    return this.#health.ok
  }

  /** Names this state of Redis; on the shard of the nodes. */
  get stateKey (): string {
    return `${this.prefix}state:{${this.nodesKey}}`
  }

  /** What the keys of one tenant begin with. */
  base (tenantId: number): string {
    return `${this.prefix}{${tenantId}}:`
  }

  /** The base, and the name of Redis' state where a script of this tenant can read it. */
  baseAndState (tenantId: number): string[] {
    return this.#redis.isCluster ? [this.base(tenantId)] : [this.base(tenantId), this.stateKey]
  }

  /** Calls `lost` each time the connection is gone: who knows what is there when it is back. Returns what ends that. */
  onLost (lost: () => void): () => void {
    this.#redis.on('close', lost)
    return () => { this.#redis.off('close', lost) }
  }

  tenantsKey (nodeId: string): string {
    return `${this.prefix}tenants:${nodeId}`
  }

  /** The servers on which the keys stand. */
  get servers (): Redis[] {
    return this.#redis.isCluster ? (this.#redis as Cluster).nodes('master') : [this.#redis as Redis]
  }

  /** Runs a script. Throws `RT_STORAGE_UNAVAILABLE` while Redis is away. */
  async run (script: Script, keys: string | string[], ...args: Argument[]): Promise<unknown> {
    const all = typeof keys === 'string' ? [keys] : keys
    return await this.attempt(async (redis) => await redis[`rt_${script}`](all.length, ...all, this.#offset, ...args))
  }

  /**
   * Runs a script over several tenants: its common arguments, then for each tenant a count of rows and what `encode` makes
   * of them. A row is left out where `encode` returns null, which is decided right before the call is sent.
   */
  async runOver<P extends Part<unknown>> (
    script: Script, common: Argument[], parts: P[], encode: (row: P['rows'][number]) => Argument[] | null
  ): Promise<Array<Answered<P>>> {
    const calls = this.#pack(parts)
    const answered: Array<Answered<P>> = []
    for (let at = 0; at < calls.length; at += CALLS) {
      const results = await Promise.all(calls.slice(at, at + CALLS).map(async (call) => {
        const args: Argument[] = []
        const sent = call.map((part) => {
          const rows: Array<P['rows'][number]> = []
          const counted = args.push(0) - 1
          for (const row of part.rows) {
            const encoded = encode(row)
            if (encoded === null) continue
            rows.push(row)
            args.push(...encoded)
          }
          args[counted] = rows.length
          return rows
        })
        if (process.env.DBG && ['remind','restore','endTyping','keepTyping','disown'].includes(script)) console.error(this.#nodeId, script, JSON.stringify(common), JSON.stringify(call.map((c) => c.tenantId)), JSON.stringify(args))
        const answers = await this.run(script, call.map(({ tenantId }) => this.base(tenantId)), ...common, ...args) as unknown[]
        if (process.env.DBG && ['remind','restore','endTyping','keepTyping','disown'].includes(script)) console.error('   ->', this.#nodeId, script, JSON.stringify(answers))
        return call.map((part, i) => ({ part, rows: sent[i] ?? [], answer: answers[i] }))
      }))
      for (const result of results) answered.push(...result)
    }
    return answered
  }

  /** Tenants of one call stand on one server: on a cluster each has a call of its own. */
  #pack<P extends Part<unknown>> (parts: P[]): P[][] {
    const calls: P[][] = []
    let size = Infinity
    for (const part of parts) {
      if (size + part.rows.length > ROWS || this.#redis.isCluster) {
        calls.push([])
        size = 0
      }
      calls.at(-1)?.push(part)
      // A tenant without rows costs too.
      size += Math.max(part.rows.length, 1)
    }
    return calls
  }

  async attempt<T> (command: (redis: WithScripts) => Promise<T>): Promise<T> {
    try {
      return await command(this.#redis)
    } catch (cause) {
      if (isMistake(cause)) throw this.#mistake(cause)
      throw away(withoutCommand(cause))
    }
  }

  #mistake (cause: Error): RealtimeError {
    if (!this.#logged.has(cause.message)) this.#log.error({ err: cause.message }, 'Redis refuses a command of the roster')
    this.#logged.add(cause.message)
    return new RealtimeError('RT_INTERNAL', undefined, { cause })
  }

  /** Written before the entries, so that a reaper finds every tenant in which this node may hold something. */
  async rememberTenant (...tenantIds: number[]): Promise<void> {
    if (tenantIds.length === 0) return
    await this.attempt(async (redis) => await redis.sadd(this.tenantsKey(this.#nodeId), ...tenantIds))
  }

  /**
   * Does something that becomes due, and has the tenants looked at then. Said before, so that a crash in between leaves at
   * worst a look at nothing; and after, since a look that came in between found nothing and forgot the tenant.
   */
  async becomingDue<T> (tenantIds: number[], inMs: number, act: () => Promise<T>): Promise<T> {
    await this.run('dueAt', this.dueKey, inMs, ...tenantIds)
    const outcome = await act()
    await this.run('dueAt', this.dueKey, inMs, ...tenantIds)
    return outcome
  }

  /** True: it was there. `holder`: where this node holds it, whose it is; then what is left of it goes even where Redis lost it. */
  async leave (
    { tenantId, connectionId, generation }: Pick<RosterConnection, 'tenantId' | 'connectionId' | 'generation'>, grace: number,
    holder: { userId: number, nodeId: string } | null
  ): Promise<boolean> {
    return await this.becomingDue([tenantId], grace, async () => await this.run('leave', this.base(tenantId), connectionId, generation, grace,
      holder?.userId ?? '', holder?.nodeId ?? '')) === 1
  }

  /** Between the test's clock and Redis', whose time it is. */
  get #offset (): number {
    return this.#clock.now() - systemClock.now()
  }
}

/** Redis is there and refuses what it was sent, as it would again: a script or a key is not what it should be. */
const isMistake = (cause: unknown): cause is Error =>
  cause instanceof Error && cause.name === 'ReplyError' && /^(WRONGTYPE |ERR .*script)/is.test(cause.message) &&
  // Before Redis 7 what a server refuses at the time stands behind the script's own error.
  !/-(OOM|READONLY|MISCONF|MASTERDOWN|NOREPLICAS|LOADING|BUSY) /.test(cause.message)

export const away = (cause: unknown): RealtimeError =>
  new RealtimeError('RT_STORAGE_UNAVAILABLE', 'Presence cannot be read or written now', { retryAfter: 1, cause })

/** Redis is away, or its answer is. */
export const isAway = (err: unknown): boolean => err instanceof RealtimeError && err.code === 'RT_STORAGE_UNAVAILABLE'

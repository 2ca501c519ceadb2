import type { FastifyBaseLogger } from 'fastify'
import { systemClock, type Clock } from '../../clock.js'
import { RealtimeError } from '../../errors.js'
import type { Id, Ids } from '../../ids.js'
import { RedisCommands, type ArgumentsOf, type RowOf } from '../../redis/commands.js'
import type { RedisConnections } from '../../redis/connect.js'
import { inOrder, type Argument, type Named } from '../../redis/script.js'
import type { ConnectionRef } from '../contract.js'
import { ConnectionChanges } from './connection-changes.js'
import * as dueScripts from './due-scripts.js'
import * as erasureScripts from './erasure-scripts.js'
import * as healScripts from './heal-scripts.js'
import { callsOf, type Part } from './parts.js'
import { forIds } from './prelude.js'
import * as repairScripts from './repair-scripts.js'
import * as roomRepairScripts from './room-repair-scripts.js'
import * as roomScripts from './room-scripts.js'
import * as sharedScripts from './shared-scripts.js'
import * as tenantScripts from './tenant-scripts.js'
import * as typingScripts from './typing-scripts.js'
import * as watchScripts from './watch-scripts.js'

const tableScripts = { ...dueScripts, ...healScripts, ...repairScripts, ...roomRepairScripts }
const scripts = { ...tenantScripts, ...roomScripts, ...typingScripts, ...watchScripts, ...sharedScripts, ...erasureScripts, ...tableScripts }

type Scripts = typeof scripts
type TableScripts = typeof tableScripts

/** The result of a script for one part, and the rows that were sent, without rows that had become invalid. */
export interface PartResult<P extends Part<unknown>> {
  part: P
  rows: Array<P['rows'][number]>
  result: unknown
}

/** Counters of one call. */
const COUNTS = 500
/** Calls of one `runOver` that run at the same time. */
const PARALLEL_CALLS = 4

/** The roster's keys and scripts on one Redis. */
export class RosterCommands {
  readonly redis: RedisCommands<Scripts>
  readonly ids: Ids
  readonly prefix: string
  readonly nodesKey: string
  readonly dueKey: string
  /** Joins and leaves of connections and channels, which are sent together once per turn of the event loop. */
  readonly changes: ConnectionChanges
  readonly #nodeId: string
  readonly #clock: Clock
  /** `''`: presence is not used; -1: everyone is sent every change; otherwise, in tenants with at most this many users online. */
  #everyone: Argument = ''

  constructor (redis: RedisConnections, nodeId: string, ids: Ids, clock: Clock, log: Pick<FastifyBaseLogger, 'error'>) {
    this.redis = new RedisCommands(redis, forIds(scripts, ids.kind), unavailable, log)
    this.ids = ids
    this.prefix = redis.prefix
    this.nodesKey = `${redis.prefix}nodes`
    this.dueKey = `${redis.prefix}{due}`
    this.changes = new ConnectionChanges(this)
    this.#nodeId = nodeId
    this.#clock = clock
  }

  /** The key with the name of Redis' state, see `renewLease`; on the cluster's server with the nodes. */
  get stateKey (): string {
    return `${this.prefix}state:{${this.nodesKey}}`
  }

  /** The beginning of every key of a tenant. */
  base (tenantId: Id): string {
    return `${this.prefix}{${tenantId}}:`
  }

  /**
   * The keys of a script that changes one tenant: its base, the name of Redis' state, the schedule of checks, and the tenants
   * of this node. On a cluster the base alone, since the others may be on another server.
   */
  keysOf (tenantId: Id): string[] {
    return this.redis.isCluster ? [this.base(tenantId)] : [this.base(tenantId), this.stateKey, this.dueKey, this.tenantsKey(this.#nodeId)]
  }

  /** The tenants in which a node has connections. */
  tenantsKey (nodeId: string): string {
    return `${this.prefix}tenants:${nodeId}`
  }

  /** Adds to the counters of a window; resolves with their totals. */
  async addCounts (window: number, counts: ReadonlyArray<{ key: string, count: number }>, ttl: number): Promise<number[]> {
    const totals: number[] = []
    for (let at = 0; at < counts.length; at += COUNTS) {
      const some = counts.slice(at, at + COUNTS).flatMap(({ key, count }) => [key, count])
      totals.push(...await this.run('addCounts', `${this.prefix}rates:${window}`, { ttl }, some) as number[])
    }
    return totals
  }

  /** Runs a script; rejects with `RT_STORAGE_UNAVAILABLE` while Redis is away. */
  async run<Name extends keyof Scripts & string> (
    name: Name, keys: string | string[], args: ArgumentsOf<Scripts[Name]>, more?: readonly Argument[]
  ): Promise<unknown> {
    return await this.redis.run(name, typeof keys === 'string' ? [keys] : keys, [this.#offset, this.#everyone], args, more)
  }

  /** Runs a script over several tenants. A row is left out if `encode` returns null; it is called right before the row is sent. */
  async runOver<Name extends keyof TableScripts & string, P extends Part<unknown>> (
    name: Name, args: ArgumentsOf<TableScripts[Name]>, parts: P[], encode: (row: P['rows'][number]) => RowOf<TableScripts[Name]> | null
  ): Promise<Array<PartResult<P>>> {
    // Writes pending changes of this node before Redis is compared with it.
    this.changes.flush()
    const columns: readonly string[] = scripts[name].columns
    const calls = callsOf(parts, this.redis.isCluster)
    const found: Array<PartResult<P>> = []
    for (let at = 0; at < calls.length; at += PARALLEL_CALLS) {
      const results = await Promise.all(calls.slice(at, at + PARALLEL_CALLS).map(async (call) => {
        const table: Argument[] = []
        const sent = call.map((part) => {
          const rows: Array<P['rows'][number]> = []
          const sizeAt = table.push(0) - 1
          for (const row of part.rows) {
            const encoded = encode(row)
            if (encoded === null) continue
            rows.push(row)
            table.push(...inOrder(columns, encoded as Named<string>))
          }
          table[sizeAt] = rows.length
          return rows
        })
        const results = await this.run(name, call.map(({ tenantId }) => this.base(tenantId)), args, table) as unknown[]
        return call.map((part, i) => ({ part, rows: sent[i] ?? [], result: results[i] }))
      }))
      for (const result of results) found.push(...result)
    }
    return found
  }

  /** Must be called before the node registers connections in a tenant, so that a reaper finds them; `join` does it in the same step, except on a cluster. */
  async rememberTenants (tenantIds: Iterable<Id>): Promise<void> {
    const ids = [...tenantIds]
    for (const part of callsOf(ids.map((tenantId) => ({ tenantId, rows: [] })), false)) {
      await this.redis.sadd(this.tenantsKey(this.#nodeId), ...part.map(({ tenantId }) => tenantId))
    }
  }

  async livingNodes (): Promise<string[]> {
    return await this.run('livingNodes', this.nodesKey, {}) as string[]
  }

  /** Runs a script that creates a deadline in `inMs`, and schedules the check of the tenant: in the same step, except on a cluster. */
  async runScheduled<Name extends 'setPresence' | 'startTyping'> (
    name: Name, tenantId: Id, inMs: number, args: ArgumentsOf<Scripts[Name]>
  ): Promise<unknown> {
    const run = async (): Promise<unknown> => await this.run(name, this.keysOf(tenantId), args)
    return this.redis.isCluster ? await this.withScheduledCheck([tenantId], inMs, run) : await run()
  }

  /**
   * Runs `change`, which creates a deadline in `inMs`, and schedules the check of the tenants. The check is scheduled before
   * the change, so that a crash cannot leave a deadline unwatched, and again after it, because a check that ran in between
   * found nothing and removed the schedule.
   */
  async withScheduledCheck<T> (tenantIds: Id[], inMs: number, change: () => Promise<T>): Promise<T> {
    await this.run('scheduleIn', this.dueKey, { delay: inMs }, tenantIds)
    const outcome = await change()
    await this.run('scheduleIn', this.dueKey, { delay: inMs }, tenantIds)
    return outcome
  }

  /** Schedules a check of whether mode or count must be sent in these tenants. */
  async scheduleAnnouncement (...tenantIds: Id[]): Promise<void> {
    await this.run('scheduleIn', this.dueKey, { delay: 0 }, tenantIds)
  }

  /** Has the tenants checked by then. */
  async scheduleAt (deadlines: Iterable<readonly [tenantId: Id, at: Argument]>): Promise<void> {
    const args = [...deadlines].flatMap(([tenantId, at]) => [at, tenantId])
    if (args.length > 0) await this.run('scheduleAt', this.dueKey, {}, args)
  }

  /** Returns true if the connection was there. `held`: given if this node holds it. */
  async leave ({ tenantId, connectionId, generation }: ConnectionRef, offlineDelay: number, held: { userId: Id, nodeId: string } | null): Promise<boolean> {
    return await this.changes.add('leave', tenantId, {
      id: connectionId, generation, offlineDelay, heldUser: held?.userId ?? '', heldNode: held?.nodeId ?? '', tenant: tenantId
    }, offlineDelay) === 1
  }

  set everyone (limit: number) {
    this.#everyone = limit === Infinity ? -1 : limit
  }

  /** The difference between the clock of this node, which tests move, and the system clock. */
  get #offset (): number {
    return this.#clock.now() - systemClock.now()
  }
}

export const unavailable = (cause: unknown): RealtimeError =>
  new RealtimeError('RT_STORAGE_UNAVAILABLE', 'Presence cannot be read or written now', { retryAfter: 1, cause })

/** Redis, or its reply, did not arrive. */
export const isUnavailable = (err: unknown): boolean => err instanceof RealtimeError && err.code === 'RT_STORAGE_UNAVAILABLE'

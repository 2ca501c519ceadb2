import { batchLoader } from '../../async/batch-loader.js'
import type { Clock } from '../../clock.js'
import type { Id } from '../../ids.js'
import type { UserRef } from '../../keys.js'
import type { PresenceRulesOfRoster } from '../contract.js'
import { unavailable, type RosterCommands } from './commands.js'
import { partsOf } from './parts.js'

/** How long Redis keeps who is invisible in a tenant, in milliseconds. Then it is read again, so that unused tenants leave no key. */
const KEPT_MS = 24 * 60 * 60_000
/** Status updates within this time before the read of the table may be missing in the result, because clocks of nodes differ, in milliseconds. */
const MARGIN_MS = 2000

/**
 * Who is invisible, also while they are not connected: kept in the database, with a copy in Redis for the scripts. The copy of
 * a tenant says that it is complete. If it was evicted, scripts refuse to show a user of whom nothing else is known until
 * `ensure` has read the table again.
 */
export class Invisible {
  readonly #commands: RosterCommands
  readonly #clock: Clock
  #load: PresenceRulesOfRoster['loadInvisible'] | null = null
  #isDue = false
  /** Tenants of one turn of the event loop are read with one statement. */
  readonly #ensure: (tenantId: Id) => Promise<unknown>

  constructor (commands: RosterCommands, clock: Clock) {
    this.#commands = commands
    this.#clock = clock
    this.#ensure = batchLoader<Id, never>(async (tenantIds) => {
      const readAt = this.#clock.now()
      await this.#write(await this.#load?.(tenantIds) ?? [], readAt, tenantIds)
      return new Map<Id, never>()
    })
  }

  async use (load: PresenceRulesOfRoster['loadInvisible']): Promise<void> {
    this.#load = load
    const readAt = this.#clock.now()
    await this.#write(await load(), readAt)
  }

  /** Redis knows all invisible users of these tenants when this resolves. Rejects with `RT_STORAGE_UNAVAILABLE`. */
  async ensure (tenantIds: readonly Id[]): Promise<void> {
    if (this.#load !== null) await Promise.all(tenantIds.map(this.#ensure))
  }

  /** Runs a script that returns null if the user may be invisible, and runs it again when that is known. */
  async known<T> (tenantId: Id, run: () => Promise<T | null>): Promise<T> {
    for (let attempt = 0; attempt < 3; attempt++) {
      const result = await run()
      if (result !== null) return result
      await this.ensure([tenantId])
    }
    throw unavailable('Redis loses who is invisible')
  }

  /**
   * Makes Redis agree with the database, if Redis may have lost data: before users are written to it. If the database does not
   * respond, the next call tries again. `tenantIds`: in which this node has users.
   */
  async restore (hasLost: boolean, tenantIds: Iterable<Id>): Promise<void> {
    this.#isDue ||= hasLost
    if (this.#load === null || !this.#isDue) return
    // First, so that changes from now on are kept. An older copy may have users who are no longer invisible.
    for await (const keys of this.#commands.redis.scan(`${escaped(this.#commands.prefix)}{*}:invisible`, 1000)) {
      for (const key of keys) await this.#commands.redis.del(key)
    }
    const readAt = this.#clock.now()
    const users = await this.#load().catch(() => null)
    if (users === null) return
    await this.#write(users, readAt, tenantIds)
    this.#isDue = false
  }

  /** `users`: all of their tenants. `tenantIds`: further tenants that have no others. */
  async #write (users: Array<UserRef & { since: number }>, readAt: number, tenantIds: Iterable<Id> = []): Promise<void> {
    const all = new Set([...users.map(({ tenantId }) => tenantId), ...tenantIds])
    await this.#commands.runOver('restoreInvisible', { readAt: readAt - MARGIN_MS }, partsOf(users, ({ tenantId }) => tenantId), ({ userId, since }) => ({ user: userId, since }))
    await this.#commands.runOver('markInvisibleKnown', { ttl: KEPT_MS }, [...all].map((tenantId) => ({ tenantId, rows: [] })), () => null)
  }
}

/** For a pattern of SCAN. */
export const escaped = (prefix: string): string => prefix.replace(/[\\*?[\]]/g, '\\$&')

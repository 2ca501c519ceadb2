import type { Id } from '../../ids.js'
import type { UserRef } from '../../keys.js'
import type { PresenceRulesOfRoster } from '../contract.js'
import type { RosterCommands } from './commands.js'
import { partsOf } from './parts.js'

/** Who is invisible, also while they are not connected: kept in the database, with a copy in Redis for the scripts. */
export class Invisible {
  readonly #commands: RosterCommands
  #load: PresenceRulesOfRoster['loadInvisible'] | null = null
  #isDue = false

  constructor (commands: RosterCommands) {
    this.#commands = commands
  }

  async use (load: PresenceRulesOfRoster['loadInvisible']): Promise<void> {
    this.#load = load
    await this.#write(await load())
  }

  /**
   * Makes Redis agree with the database, if Redis may have lost data: before users are written to it. If the database does not
   * answer, the next call tries again: users who are connected are known to their nodes.
   */
  async restore (hasLost: boolean): Promise<void> {
    this.#isDue ||= hasLost
    if (this.#load === null || !this.#isDue) return
    const users = await this.#load().catch(() => null)
    if (users === null) return
    const known = new Set(users.map(({ tenantId }) => this.#keyOf(tenantId)))
    for await (const keys of this.#commands.redis.scan(`${escaped(this.#commands.prefix)}{*}:invisible`, 1000)) {
      for (const key of keys) if (!known.has(key)) await this.#commands.redis.del(key)
    }
    await this.#write(users)
    this.#isDue = false
  }

  async #write (users: Array<UserRef & { since: number }>): Promise<void> {
    await this.#commands.runOver('restoreInvisible', {}, partsOf(users, ({ tenantId }) => tenantId), ({ userId, since }) => ({ user: userId, since }))
  }

  #keyOf (tenantId: Id): string {
    return `${this.#commands.base(tenantId)}invisible`
  }
}

/** For a pattern of SCAN. */
export const escaped = (prefix: string): string => prefix.replace(/[\\*?[\]]/g, '\\$&')

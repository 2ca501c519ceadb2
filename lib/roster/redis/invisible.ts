import type { Id } from '../../ids.js'
import type { PresenceRulesOfRoster } from '../contract.js'
import type { RosterCommands } from './commands.js'
import { partsOf } from './parts.js'

/** Who is invisible, also while they are not connected: kept in the database, with a copy in Redis for the scripts. */
export class Invisible {
  readonly #commands: RosterCommands
  #load: PresenceRulesOfRoster['loadInvisible'] | null = null

  constructor (commands: RosterCommands) {
    this.#commands = commands
  }

  async use (load: PresenceRulesOfRoster['loadInvisible']): Promise<void> {
    this.#load = load
    await this.restore()
  }

  /** Makes Redis agree with the database. To be called before connections join a Redis that may have lost data. */
  async restore (): Promise<void> {
    if (this.#load === null) return
    const users = await this.#load()
    const tenants = new Set(users.map(({ tenantId }) => this.#keyOf(tenantId)))
    for await (const keys of this.#commands.redis.scan(`${escaped(this.#commands.prefix)}{*}:invisible`, 1000)) {
      for (const key of keys) if (!tenants.has(key)) await this.#commands.redis.del(key)
    }
    await this.#commands.runOver('restoreInvisible', {}, partsOf(users, ({ tenantId }) => tenantId), ({ userId, since }) => ({ user: userId, since }))
  }

  #keyOf (tenantId: Id): string {
    return `${this.#commands.base(tenantId)}invisible`
  }
}

const escaped = (prefix: string): string => prefix.replace(/[\\*?[\]]/g, '\\$&')

import type { Clock } from '../../clock.js'
import type { Ids } from '../../ids.js'
import type { RateCount, RosterLocks, RosterTimes } from '../contract.js'
import { MemoryRoster } from '../memory/roster.js'
import { isUnavailable, type RosterCommands } from './commands.js'

/** Counted requests and named locks. */
export class RedisLocks implements RosterLocks {
  readonly #nodeId: string
  readonly #commands: RosterCommands
  /** Counts requests on this node while Redis is away. */
  readonly #fallback: MemoryRoster

  constructor (nodeId: string, commands: RosterCommands, ids: Ids, clock: Clock, times: RosterTimes) {
    this.#nodeId = nodeId
    this.#commands = commands
    this.#fallback = new MemoryRoster(nodeId, ids, clock, times)
  }

  async countRequest (key: string, window: number): Promise<RateCount> {
    try {
      const [count, ttl] = await this.#commands.run('countRequest', `${this.#commands.prefix}hits:${key}`, { window }) as [number, number]
      return { count, ttl }
    } catch (err) {
      if (!isUnavailable(err)) throw err
      return this.#fallback.countRequest(key, window)
    }
  }

  readonly addCounts: RosterLocks['addCounts'] = async (...args) => await this.#commands.addCounts(...args)

  async lock (name: string, ttl: number): Promise<boolean> {
    return await this.#commands.run('lock', `${this.#commands.prefix}lock:${name}`, { owner: this.#nodeId, ttl }) === 1
  }
}

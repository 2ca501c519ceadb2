import { randomUUID } from 'node:crypto'
import type { Clock } from '../../clock.js'
import type { RosterTimes } from '../contract.js'
import type { RosterCommands } from './commands.js'

/**
 * What a renewal shows of Redis. `kept`: it is as this node left it. `taken`: others took this node for dead, and may have
 * removed what it holds. `lost`: Redis was emptied or went back to an older state; or the connection is a new one, and it
 * may have gone back by less than the time between two renewals.
 */
export type RedisState = 'kept' | 'taken' | 'lost'

/** The lease of this node, and what it shows: each renewal checks that Redis still has the one before. */
export class Lease {
  readonly #nodeId: string
  readonly #commands: RosterCommands
  readonly #clock: Clock
  readonly #times: RosterTimes
  #end = ''
  #state = ''
  /** From this node's clock to Redis'. */
  #ahead = 0
  #goodAt = 0
  #sureAt = 0
  #takenAt = -Infinity
  #lostAt = -Infinity
  #isSuspect = false
  readonly #unwatch: () => void

  constructor (nodeId: string, commands: RosterCommands, clock: Clock, times: RosterTimes) {
    this.#nodeId = nodeId
    this.#commands = commands
    this.#clock = clock
    this.#times = times
    this.#unwatch = commands.onLost(() => { this.#isSuspect = true })
  }

  async renew (): Promise<RedisState> {
    const { nodesKey, stateKey } = this.#commands
    const [before, name, end, now] = await this.#commands.run('renew', [nodesKey, stateKey], this.#nodeId, this.#times.nodeTimeout, this.#end,
      randomUUID()) as [string, string, string, string]
    const first = this.#end === ''
    const state = first ? 'kept' : name !== this.#state ? 'lost' : before !== this.#end ? 'taken' : this.#isSuspect ? 'lost' : 'kept'
    this.#end = end
    this.#state = name
    this.#isSuspect = false
    this.#ahead = Number(now) - this.#clock.now()
    if (state === 'taken') this.#takenAt = Number(now)
    if (state === 'lost') {
      if (!this.isRecovering) this.#sureAt = this.#goodAt
      this.#lostAt = Number(now)
    }
    return state
  }

  /** Gives the lease back. */
  async end (): Promise<void> {
    this.#unwatch()
    await this.#commands.attempt(async (redis) => await redis.zrem(this.#commands.nodesKey, this.#nodeId))
  }

  /** The name of Redis' state as this node knows it; '' while the connection is new and Redis may have lost everything. */
  get state (): string {
    return this.#isSuspect ? '' : this.#state
  }

  /** Redis has what this node holds. */
  good (): void {
    this.#goodAt = this.now
  }

  /** The time by Redis' clock. */
  get now (): number {
    return this.#clock.now() + this.#ahead
  }

  /** Until then Redis is known to have had everything. */
  get goodAt (): number {
    return this.#goodAt
  }

  /** Until then everything also took its usual course: after a loss what ends by itself waits. */
  get sureAt (): number {
    return this.isRecovering ? this.#sureAt : this.#goodAt
  }

  /** Within this time every living node has compared what it holds with Redis once. */
  get round (): number {
    return this.#times.nodeTimeout / 3
  }

  /** How long what ends by itself waits for the node that knows better, in milliseconds. */
  get patience (): number {
    return Math.max(this.#times.offlineDelay, this.round + 1000)
  }

  /** Others may still be removing what this node holds. */
  get isTaken (): boolean {
    return this.now - this.#takenAt < this.round + 1000
  }

  /** Other nodes may not have written yet what they hold: what Redis says of who is gone is not to be trusted. */
  get isUnsettled (): boolean {
    return this.now - this.#lostAt < this.round
  }

  /** Redis lost something a short time ago: the living and the dead are still being told apart. */
  get isRecovering (): boolean {
    return this.now - this.#lostAt < 2.5 * this.#times.nodeTimeout
  }

  /** How long ago Redis was found to have lost something. */
  get lostFor (): number {
    return this.now - this.#lostAt
  }
}

import { randomUUID } from 'node:crypto'
import type { Clock } from '../../clock.js'
import type { RosterTimes } from '../contract.js'
import type { RosterCommands } from './commands.js'

/**
 * The state that a renewal finds in Redis. `kept`: as this node left it. `presumed-dead`: other nodes took this node for dead and
 * may have removed its connections. `lost`: Redis was emptied or went back to an older copy; or this is a new connection, and
 * Redis may have gone back by less than the time between two renewals.
 */
export type RedisState = 'kept' | 'presumed-dead' | 'lost'

/** The lease of this node. Each renewal checks that Redis still has the one before. */
export class Lease {
  readonly #nodeId: string
  readonly #commands: RosterCommands
  readonly #clock: Clock
  readonly #times: RosterTimes
  #end = ''
  #state = ''
  /** Redis' clock less this node's, in milliseconds. */
  #clockDifference = 0
  #completeAt = 0
  #reliableAt = 0
  #presumedDeadAt = -Infinity
  #lostAt = -Infinity
  /** The connection to Redis was lost since the last renewal. */
  #wasDisconnected = false
  readonly #stopWatching: () => void

  constructor (nodeId: string, commands: RosterCommands, clock: Clock, times: RosterTimes) {
    this.#nodeId = nodeId
    this.#commands = commands
    this.#clock = clock
    this.#times = times
    this.#stopWatching = commands.redis.onDisconnected(() => { this.#wasDisconnected = true })
  }

  async renew (): Promise<RedisState> {
    const { nodesKey, stateKey } = this.#commands
    const [foundEnd, foundState, end, now] = await this.#commands.run('renewLease', [nodesKey, stateKey], {
      node: this.#nodeId, ttl: this.#times.nodeTimeout, lastEnd: this.#end, newState: randomUUID()
    }) as [string, string, string, string]
    const outcome = this.#outcome(foundEnd, foundState)
    this.#end = end
    this.#state = foundState
    this.#wasDisconnected = false
    this.#clockDifference = Number(now) - this.#clock.now()
    if (outcome === 'presumed-dead') this.#presumedDeadAt = Number(now)
    if (outcome === 'lost') {
      if (!this.isRecovering) this.#reliableAt = this.#completeAt
      this.#lostAt = Number(now)
    }
    return outcome
  }

  #outcome (foundEnd: string, foundState: string): RedisState {
    const isFirst = this.#end === ''
    if (isFirst) return 'kept'
    if (foundState !== this.#state) return 'lost'
    if (foundEnd !== this.#end) return 'presumed-dead'
    return this.#wasDisconnected ? 'lost' : 'kept'
  }

  /** Gives up the lease. */
  async end (): Promise<void> {
    this.#stopWatching()
    await this.#commands.redis.zrem(this.#commands.nodesKey, this.#nodeId)
  }

  /** The name of Redis' state as this node knows it; '' after the connection was lost, because Redis may have lost everything. */
  get state (): string {
    return this.#wasDisconnected ? '' : this.#state
  }

  /** To be called when Redis has everything of this node. */
  markComplete (): void {
    this.#completeAt = this.now
  }

  /** The time by Redis' clock. */
  get now (): number {
    return this.#clock.now() + this.#clockDifference
  }

  /** Until then Redis is known to have had everything of this node. */
  get completeAt (): number {
    return this.#completeAt
  }

  /** Until then also deadlines had their effect; after a loss they wait. */
  get reliableAt (): number {
    return this.isRecovering ? this.#reliableAt : this.#completeAt
  }

  /** Milliseconds within which each living node compares everything it holds with Redis. */
  get comparisonInterval (): number {
    return this.#times.nodeTimeout / 3
  }

  /** The delay before users go offline whom another node may know to be online, in milliseconds. */
  get cautiousOfflineDelay (): number {
    return Math.max(this.#times.offlineDelay, this.comparisonInterval + 1000)
  }

  /** Other nodes may still be removing connections of this node. */
  get isPresumedDead (): boolean {
    return this.now - this.#presumedDeadAt < this.comparisonInterval + 1000
  }

  /** Redis lost data, and other nodes may not have written theirs back yet: a user missing in Redis may be online. */
  get isIncomplete (): boolean {
    return this.now - this.#lostAt < this.comparisonInterval
  }

  /** Redis lost data recently, and nodes that died at that time may not have been detected yet. */
  get isRecovering (): boolean {
    return this.now - this.#lostAt < 2.5 * this.#times.nodeTimeout
  }

  /** Milliseconds since this node found that Redis lost data. */
  get timeSinceLoss (): number {
    return this.now - this.#lostAt
  }
}

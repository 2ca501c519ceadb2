import { RealtimeError } from '../../lib/errors.js'

/** Milliseconds between two checks of whether the node keeps up while sockets arrive. */
const TICK_MS = 10
/** Upgrades admitted per tick: minimum, initial value, maximum. */
const [FEWEST, FIRST, MOST] = [5, 50, 500]
/** Upgrades that would wait longer are refused with a `retryAfter`. In milliseconds, well below the time that clients wait for a socket. */
const MAX_WAIT_MS = 6000
/** Ticks without an arrival after which the checks stop. */
const QUIET_TICKS = 100
/** Milliseconds over which the rate is averaged that estimates waits. */
const RATE_MS = 2000
const MAX_RETRY_SECONDS = 30

export interface ArrivalsOptions {
  /** Lag of the event loop above which fewer sockets are admitted, in milliseconds; 0: all are admitted at once. */
  maxLag: number
  /** Whether the database has fallen behind its queue. */
  isBehind: () => boolean
  now?: () => number
}

/**
 * Admits upgrades as fast as this node can serve them. After a deploy or an outage thousands of sockets arrive at once, and each
 * costs more when it resumes than when it opens. So the node measures the lag of its event loop, and admits more per tick while
 * it keeps up, fewer when it does not. The others wait in the order of their arrival. While the node keeps up, no upgrade waits.
 */
export class Arrivals {
  readonly #maxLag: number
  readonly #isBehind: () => boolean
  readonly #now: () => number
  #waiting: Array<() => void> = []
  #timer: NodeJS.Timeout | null = null
  #tickAt = 0
  #quietTicks = 0
  #hasArrived = false
  /** Upgrades admitted per tick, and the remaining number of this tick. */
  #budget = FIRST
  #left = FIRST
  /** Upgrades per millisecond. */
  #rate = FIRST / TICK_MS

  constructor ({ maxLag, isBehind, now = () => performance.now() }: ArrivalsOptions) {
    this.#maxLag = maxLag
    this.#isBehind = isBehind
    this.#now = now
  }

  get waiting (): number {
    return this.#waiting.length
  }

  /** Calls `enter` now or when it is this upgrade's turn, and returns null; or returns the seconds after which the client should try again. */
  arrive (enter: () => void): number | null {
    if (this.#maxLag === 0) {
      enter()
      return null
    }
    this.#hasArrived = true
    if (this.#timer === null) this.#schedule()
    if (this.#waiting.length === 0 && this.#left > 0) {
      this.#left--
      enter()
      return null
    }
    const wait = this.#waiting.length / this.#rate
    // Random, so that clients do not all return at once.
    if (wait > MAX_WAIT_MS) return Math.min(1 + Math.floor((1 + Math.random()) * wait / 1000), MAX_RETRY_SECONDS)
    this.#waiting.push(enter)
    return null
  }

  /** Admits all waiting upgrades: the node closes, and refuses them itself. */
  end (): void {
    if (this.#timer !== null) clearTimeout(this.#timer)
    for (const enter of this.#waiting.splice(0)) enter()
  }

  #schedule (): void {
    this.#tickAt = this.#now()
    this.#timer = setTimeout(() => { this.#tick() }, TICK_MS).unref()
  }

  #tick (): void {
    const elapsed = this.#now() - this.#tickAt
    const isUsed = this.#left === 0
    const lag = elapsed - TICK_MS
    // In proportion, because a single pause of the garbage collector is a poor measure of the node's capacity.
    const share = this.#isBehind() ? 0.5 : Math.max(this.#maxLag / lag, 0.5)
    if (lag > this.#maxLag || share === 0.5) this.#budget = Math.max(FEWEST, Math.floor(this.#budget * share))
    else if (isUsed) this.#budget = Math.min(MOST, Math.ceil(this.#budget * 1.25))
    this.#quietTicks = this.#hasArrived ? 0 : this.#quietTicks + 1
    this.#hasArrived = this.#waiting.length > 0
    const next = this.#waiting.splice(0, this.#budget)
    if (this.#waiting.length > 0) this.#rate += (next.length / elapsed - this.#rate) * Math.min(elapsed / RATE_MS, 1)
    this.#left = this.#budget - next.length
    this.#timer = null
    // Measured before the next upgrades enter, because their cost belongs to the next tick.
    if (this.#quietTicks < QUIET_TICKS) this.#schedule()
    for (const enter of next) enter()
  }
}

/** The refusal of an upgrade or a stream that would wait too long. `retryAfter` in seconds, see {@link Arrivals.arrive}. */
export const overloaded = (retryAfter: number): RealtimeError =>
  new RealtimeError('RT_UNAVAILABLE', 'This node is overloaded: try again later', { retryAfter })

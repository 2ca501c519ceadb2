/** How often a node looks whether it keeps up while sockets arrive, in milliseconds. */
const TICK_MS = 10
/** Upgrades per tick: at least, at first, at most. */
const [FEWEST, FIRST, MOST] = [5, 50, 500]
/** Whoever would wait for longer is told to come back later. In milliseconds, well below the time that clients wait for a socket. */
const MAX_WAIT_MS = 6000
/** Ticks without an arrival after which the node stops looking. */
const QUIET_TICKS = 100
/** Time over which the rate is averaged by which waits are estimated, in milliseconds. */
const RATE_MS = 2000
const MAX_RETRY_SECONDS = 30

export interface ArrivalsOptions {
  /** Lag of the event loop above which fewer sockets are let in, in milliseconds; 0: all are let in at once. */
  maxLag: number
  /** Whether more is queued for the database than it should be. */
  isBehind: () => boolean
  now?: () => number
}

/**
 * Lets in as many upgrades as this node can take. After a deploy or an outage thousands of sockets arrive at once, and each of
 * them costs more when it resumes than when it opens. So the node measures how far its event loop is behind: it lets in more
 * per tick while it keeps up, fewer when it does not. The others wait in the order in which they came. While the node
 * keeps up, an upgrade does not wait at all.
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
  /** Upgrades that each tick lets in, and how many of them are left in this one. */
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
    // Not all at once again.
    if (wait > MAX_WAIT_MS) return Math.min(1 + Math.floor((1 + Math.random()) * wait / 1000), MAX_RETRY_SECONDS)
    this.#waiting.push(enter)
    return null
  }

  /** Lets everybody in: the node closes, and refuses them itself. */
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
    // In proportion, because a single pause of the garbage collector says little about what the node can take.
    const share = this.#isBehind() ? 0.5 : Math.max(this.#maxLag / lag, 0.5)
    if (lag > this.#maxLag || share === 0.5) this.#budget = Math.max(FEWEST, Math.floor(this.#budget * share))
    else if (isUsed) this.#budget = Math.min(MOST, Math.ceil(this.#budget * 1.25))
    this.#quietTicks = this.#hasArrived ? 0 : this.#quietTicks + 1
    this.#hasArrived = this.#waiting.length > 0
    const next = this.#waiting.splice(0, this.#budget)
    if (this.#waiting.length > 0) this.#rate += (next.length / elapsed - this.#rate) * Math.min(elapsed / RATE_MS, 1)
    this.#left = this.#budget - next.length
    this.#timer = null
    // Before those who enter: what they cost is part of the next tick.
    if (this.#quietTicks < QUIET_TICKS) this.#schedule()
    for (const enter of next) enter()
  }
}

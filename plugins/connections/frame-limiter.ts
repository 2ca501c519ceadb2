import type { Clock } from '../../lib/clock.js'

export interface FrameLimits {
  /** Frames per second and connection; 0: no limit. */
  framesPerSecond: number
  /** Frames that may be sent at once after a pause. */
  frameBurst: number
}

/** Invalid frames within the window that close a socket. */
const MAX_INVALID = 20
/** Frames beyond the rate within the window, each refused with `RT_RATE_LIMITED`, that close a socket as flooding. */
const MAX_REFUSED = 200
/** Frames after the close after which the connection is destroyed. */
const MAX_AFTER_CLOSE = 1000
const WINDOW_MS = 10_000

interface Counter { count: number, since: number }

/** Limits the frames of one connection: a token bucket for all frames, and windows for invalid and refused ones. */
export class FrameLimiter {
  readonly #clock: Clock
  readonly #limits: FrameLimits
  #tokens: number
  #filledAt: number
  #invalid: Counter | null = null
  #refused: Counter | null = null

  constructor (clock: Clock, limits: FrameLimits) {
    this.#clock = clock
    this.#limits = limits
    this.#tokens = limits.frameBurst
    this.#filledAt = clock.now()
  }

  /** Milliseconds to wait before the next frame; 0: this one is within the rate. */
  msUntilAllowed (): number {
    const { framesPerSecond, frameBurst } = this.#limits
    if (framesPerSecond === 0) return 0
    const now = this.#clock.now()
    this.#tokens = Math.min(frameBurst, this.#tokens + (now - this.#filledAt) * framesPerSecond / 1000)
    this.#filledAt = now
    if (this.#tokens < 1) return Math.ceil((1 - this.#tokens) * 1000 / framesPerSecond)
    this.#tokens--
    return 0
  }

  /** Counts a refused frame. True if the client is flooding. */
  isFlooding (): boolean {
    return this.#over(this.#refused ??= { count: 0, since: 0 }, MAX_REFUSED)
  }

  /** Counts a frame after the close. True if the connection must be destroyed. */
  isFloodingOn (): boolean {
    return this.#over(this.#refused ??= { count: 0, since: 0 }, MAX_REFUSED + MAX_AFTER_CLOSE)
  }

  /** Counts an invalid frame. True if there were too many. */
  tooManyInvalid (): boolean {
    return this.#over(this.#invalid ??= { count: 0, since: 0 }, MAX_INVALID)
  }

  #over (counter: Counter, max: number): boolean {
    const now = this.#clock.now()
    if (now - counter.since >= WINDOW_MS) {
      counter.since = now
      counter.count = 0
    }
    return ++counter.count >= max
  }
}

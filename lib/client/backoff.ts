import type { ClientClock } from './clock.js'

/** A connection that lived for this long was good: the next failure starts from the shortest delay again. */
const STABLE = 30_000
/** At least this long stays away who was told to come later. */
const LATER = 5000

/** How long to wait before the next attempt: full jitter, so that not all clients come back on the same tick. */
export class BackOff {
  readonly #clock: ClientClock
  readonly #first: number
  readonly #longest: number
  /** Reconnects since the last stable connection. */
  attempts = 0
  #openedAt = Infinity

  /** Milliseconds: the mean delay doubles from half of `first` up to half of `longest`. */
  constructor (clock: ClientClock, first: number, longest: number) {
    this.#clock = clock
    this.#first = first
    this.#longest = longest
  }

  opened (): void {
    this.#openedAt = this.#clock.now()
  }

  /** Only time makes a connection good: one that is closed right after it opened would otherwise be retried without end or delay. */
  closed (): void {
    if (this.#clock.now() - this.#openedAt >= STABLE) this.attempts = 0
    this.#openedAt = Infinity
  }

  /** Counts one more attempt. `retryAfter`: seconds that the server asked for. */
  next ({ later = false, retryAfter = 0 }: { later?: boolean, retryAfter?: number | undefined } = {}): number {
    const most = Math.min(this.#longest, this.#first * 2 ** Math.min(this.attempts++, 30))
    const least = Math.max(later ? LATER : 0, retryAfter * 1000)
    return least + this.#clock.random() * (least > 0 ? Math.max(most, 1000) : most)
  }
}

import type { ClientClock } from './clock.js'

/** A connection that lived for this long was good: the next failure starts from the shortest delay again. */
const STABLE = 30_000
/** At least this long stays away who was told to come later. */
const LATER = 5000

/** How long to wait before the next attempt: full jitter, so that not all clients come back on the same tick. */
export interface BackOff {
  /** Reconnects since the last stable connection. */
  attempts: number
  /**
   * The connection ended that began at `openedAt`. Only time makes one good: a connection that is closed right after it
   * opened would otherwise be retried without end or delay.
   */
  closed (openedAt: number): void
  /** Counts one more attempt. `later`: after a longer pause. `retryAfter`: seconds that the server asked for. */
  next (later?: boolean, retryAfter?: number): number
}

/** Milliseconds: the mean delay doubles from half of `first` up to half of `longest`. */
export function createBackOff (clock: ClientClock, first: number, longest: number): BackOff {
  const backOff: BackOff = {
    attempts: 0,
    closed: (openedAt) => { if (clock.now() - openedAt >= STABLE) backOff.attempts = 0 },
    next: (later, retryAfter = 0) => {
      const most = Math.min(longest, first * 2 ** backOff.attempts++)
      const least = Math.max(later ? LATER : 0, retryAfter * 1000)
      return least + clock.random() * Math.max(most, least)
    }
  }
  return backOff
}

import type { ClientClock } from './clock.js'

/** A connection that lived for this long was good: the next failure starts from the shortest delay again. */
const STABLE = 30_000

/** How long to wait before the next attempt: full jitter, so that not all clients come back on the same tick. */
export interface BackOff {
  /** Reconnects since the last stable connection. */
  attempts: number
  /**
   * The connection ended that began at `openedAt`. Only time makes one good: a connection that is closed right after it
   * opened would otherwise be retried without end or delay.
   */
  closed (openedAt: number): void
  /** Counts one more attempt. `least`: the milliseconds that the server asked for. */
  next (least?: number): number
}

/** Milliseconds: the mean delay doubles from half of `first` up to half of `longest`. */
export function createBackOff (clock: ClientClock, first: number, longest: number): BackOff {
  const backOff: BackOff = {
    attempts: 0,
    closed: (openedAt) => { if (clock.now() - openedAt >= STABLE) backOff.attempts = 0 },
    next: (least = 0) => least + clock.random() * Math.max(Math.min(longest, first * 2 ** backOff.attempts++), least)
  }
  return backOff
}

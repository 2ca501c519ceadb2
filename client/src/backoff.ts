import type { ClientClock } from './clock.js'
import { STABLE } from './limits.js'

/** The delay before the next attempt, with full jitter, so that clients do not reconnect at the same time. */
export interface BackOff {
  /** Reconnects since the last stable connection. */
  attempts: number
  /**
   * The connection that opened at `openedAt` ended. Only its length makes it stable: otherwise a connection that is closed right
   * after it opened would be retried forever without delay.
   */
  closed (openedAt: number): void
  /** Counts another attempt. `least`: the delay in milliseconds that the server requested. */
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

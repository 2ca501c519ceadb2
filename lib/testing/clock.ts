import { systemClock, type Clock } from '../clock.js'

/** The system's time, which a test can move ahead. */
export class MovableClock implements Clock {
  #ahead = 0

  now (): number {
    return systemClock.now() + this.#ahead
  }

  /** Moves the time ahead by `ms` milliseconds. Events that become due are emitted within half a second. */
  advance (ms: number): void {
    this.#ahead += ms
  }
}

import { systemClock, type Clock } from '../clock.js'

/** The system's time, which a test can move ahead. */
export class MovableClock implements Clock {
  #ahead = 0

  now (): number {
    return systemClock.now() + this.#ahead
  }

  /** Moves it ahead, in milliseconds. What became due is emitted within half a second. */
  advance (ms: number): void {
    this.#ahead += ms
  }
}

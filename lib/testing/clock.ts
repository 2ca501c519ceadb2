import type { Clock } from '../clock.js'

/** Time that goes on as usual and can be moved. */
export class MovableClock implements Clock {
  #ahead = 0

  now (): number {
    return Date.now() + this.#ahead
  }

  /** Moves it on, in milliseconds. What became due is told within half a second. */
  advance (ms: number): void {
    this.#ahead += ms
  }
}

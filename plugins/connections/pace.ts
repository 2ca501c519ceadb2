/** How long a reader may take nothing while something waits for it, in milliseconds. */
const STUCK = 30_000

/** How fast a reader takes what it is sent. Made when something waits for it: mostly nothing does. */
export class Pace {
  /** Bytes that are kept for it besides those in its socket: live frames behind a replay, a page that was read. */
  aside = 0
  /** The size of a frame that was larger than all that may wait, and was given to a reader that had taken everything. */
  oversize = 0
  #progress = NaN
  #since = 0

  /** Nothing waits. */
  isDone (): void {
    this.#progress = NaN
  }

  /** True where it has taken nothing for too long. `progress` changes with each byte that is taken. */
  isStuck (progress: number, now: number): boolean {
    if (progress !== this.#progress) {
      this.#progress = progress
      this.#since = now
    }
    return now - this.#since >= STUCK
  }
}

/** How long a reader may take nothing while something waits for it, in milliseconds. */
const STUCK = 30_000
/** The longest pause between two looks whether a reader has taken enough, in milliseconds. */
const MAX_PAUSE = 100

/** A socket as its pace sees it. */
export interface Paced {
  /** Bytes that were written and not taken yet. */
  readonly waiting: number
  readonly closed: boolean
}

/** A page of a replay may be written: half of the buffer and more is left to live frames. One that is larger goes alone. */
export const hasRoom = (bytes: number, waiting: number, maxBuffered: number): boolean =>
  waiting === 0 || waiting + bytes <= maxBuffered / 4

/** How fast a reader takes what it is sent, and what is kept for it meanwhile. Made when something waits: mostly nothing does. */
export class Pace {
  /** Bytes that are kept for it besides those in its socket: live frames behind a replay, a page that was read. */
  aside = 0
  readonly #maxBuffered: number
  /** The size of a frame larger than all that may wait, which was given to a reader that had taken everything. */
  #oversize = 0
  #progress = NaN
  #since = 0

  constructor (maxBuffered: number) {
    this.#maxBuffered = maxBuffered
  }

  /** Sets room aside. False: there is none. */
  hold (bytes: number, waiting: number): boolean {
    const aside = this.aside + bytes
    if (aside > this.#maxBuffered / 4 || waiting + aside > this.#maxBuffered) return false
    this.aside = aside
    return true
  }

  /** Waits until so many bytes may be written. They count as waiting meanwhile, as far as they are one page. */
  async room (bytes: number, socket: Paced): Promise<void> {
    const aside = Math.min(bytes, this.#maxBuffered / 8)
    this.aside += aside
    for (let pause = 5; !socket.closed && !hasRoom(bytes, socket.waiting, this.#maxBuffered); pause = Math.min(2 * pause, MAX_PAUSE)) {
      await new Promise((resolve) => setTimeout(resolve, pause))
    }
    this.aside -= aside
  }

  /** So much may be written on top of what waits. Whoever has taken everything is not slow, however large the next frame is. */
  mayWrite (bytes: number, waiting: number, isOneFrame: boolean): boolean {
    if (waiting === 0 && isOneFrame) {
      this.#oversize = bytes > this.#maxBuffered ? bytes : 0
      return true
    }
    return this.aside + waiting + bytes <= this.#maxBuffered + this.#oversize
  }

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

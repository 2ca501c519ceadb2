import { sleep } from '../../lib/async/timers.js'

/** Time without progress, while bytes are waiting, after which a reader is stuck. */
const STUCK_MS = 30_000
/** The longest pause between two checks of the buffer. */
const MAX_PAUSE_MS = 100

/** The part of a socket that determines its pace. */
export interface Paced {
  /** Bytes that were written and not taken by the client yet. */
  readonly waiting: number
  readonly closed: boolean
}

/** Whether a page of a replay may be written: it leaves most of the buffer to live frames. A larger page must be the only one in the buffer. */
export const hasRoom = (bytes: number, waiting: number, maxBuffered: number): boolean =>
  waiting === 0 || waiting + bytes <= maxBuffered / 4

/** How fast a reader takes its data, and how much memory is reserved for it. Created when data wait, which is rare. */
export class Pace {
  /** Bytes reserved besides those in the socket: live frames behind a replay, a page that was read. */
  aside = 0
  readonly #maxBuffered: number
  /** The size of a frame larger than the buffer, written when nothing else was waiting. */
  #oversize = 0
  #progress = NaN
  #since = 0

  constructor (maxBuffered: number) {
    this.#maxBuffered = maxBuffered
  }

  /** Reserves bytes. False if there is not enough space. */
  hold (bytes: number, waiting: number): boolean {
    const aside = this.aside + bytes
    if (aside > this.#maxBuffered / 4 || waiting + aside > this.#maxBuffered) return false
    this.aside = aside
    return true
  }

  /** Waits until `bytes` may be written. Until then they are reserved, at most one page of them. */
  async room (bytes: number, socket: Paced): Promise<void> {
    const aside = Math.min(bytes, this.#maxBuffered / 8)
    this.aside += aside
    for (let pause = 5; !socket.closed && !hasRoom(bytes, socket.waiting, this.#maxBuffered); pause = Math.min(2 * pause, MAX_PAUSE_MS)) {
      await sleep(pause)
    }
    this.aside -= aside
  }

  /** Whether `bytes` may be written on top of what is waiting. A reader that has taken everything is not slow, however large the next frame is. */
  mayWrite (bytes: number, waiting: number, isOneFrame: boolean): boolean {
    if (waiting === 0 && isOneFrame) {
      this.#oversize = bytes > this.#maxBuffered ? bytes : 0
      return true
    }
    return this.aside + waiting + bytes <= this.#maxBuffered + this.#oversize
  }

  /** No bytes are waiting. */
  isDone (): void {
    this.#progress = NaN
  }

  /** Whether the reader has taken nothing for too long. `progress` changes with each byte that it takes. */
  isStuck (progress: number, now: number): boolean {
    if (progress !== this.#progress) {
      this.#progress = progress
      this.#since = now
    }
    return now - this.#since >= STUCK_MS
  }
}

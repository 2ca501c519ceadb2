import type { FastifyBaseLogger } from 'fastify'
import type { Rejection } from './envelope.js'

/** Milliseconds between two log lines. */
const QUIET = 60_000

/** Counts the messages that were dropped, and logs them at most once a minute: anybody on Redis can send any number of them. */
export class Rejections {
  readonly #log: FastifyBaseLogger
  readonly #count: (reason: Rejection) => void
  #counts: Partial<Record<Rejection, number>> = {}
  #timer: NodeJS.Timeout | null = null

  constructor (log: FastifyBaseLogger, count: (reason: Rejection) => void) {
    this.#log = log
    this.#count = count
  }

  /** `err` is what was thrown, where that is why the message was dropped. */
  add (reason: Rejection, err?: unknown): void {
    this.#count(reason)
    this.#counts[reason] = (this.#counts[reason] ?? 0) + 1
    if (this.#timer === null) this.#write(err)
  }

  close (): void {
    if (this.#timer !== null) clearTimeout(this.#timer)
    this.#timer = null
  }

  #write (err?: unknown): void {
    this.#log.warn({ ...this.#counts, ...(err === undefined ? {} : { err }) }, 'backplane dropped messages that no node of this version sends')
    this.#counts = {}
    this.#timer = setTimeout(() => {
      this.#timer = null
      if (Object.keys(this.#counts).length > 0) this.#write()
    }, QUIET)
    this.#timer.unref()
  }
}

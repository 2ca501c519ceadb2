import type { FastifyBaseLogger } from 'fastify'
import type { Rejection } from './envelope.js'

/** Milliseconds between two log lines. */
const LOG_INTERVAL_MS = 60_000

/** Counts dropped messages, and logs them at most once a minute: anyone with access to Redis can send any number of them. */
export class Rejections {
  readonly #log: FastifyBaseLogger
  readonly #count: (reason: Rejection) => void
  #counts: Partial<Record<Rejection, number>> = {}
  #timer: NodeJS.Timeout | null = null

  constructor (log: FastifyBaseLogger, count: (reason: Rejection) => void) {
    this.#log = log
    this.#count = count
  }

  /** `err`: the error that caused the message to be dropped, if any. */
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
    this.#log.warn({ ...this.#counts, ...(err === undefined ? {} : { err }) }, 'Backplane dropped messages that were not sent by a node of this version')
    this.#counts = {}
    this.#timer = setTimeout(() => {
      this.#timer = null
      if (Object.keys(this.#counts).length > 0) this.#write()
    }, LOG_INTERVAL_MS)
    this.#timer.unref()
  }
}

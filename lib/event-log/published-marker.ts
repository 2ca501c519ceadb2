import type { FastifyBaseLogger } from 'fastify'
import type { Clock } from '../clock.js'
import type { EventStore } from './store.js'

/** Milliseconds for which ids are collected: much less than the delay after which the sweeper publishes unmarked rows. */
const INTERVAL_MS = 1000
/** Ids that are collected at most; the sweeper finds the rows of the others. */
const MAX_WAITING = 100_000

export interface PublishedMarkerOptions {
  store: Pick<EventStore, 'markPublished'>
  clock: Clock
  log: FastifyBaseLogger
  /** The events are delivered; otherwise they still have to be confirmed. */
  done: boolean
}

/** Marks published events in the table a little later, many with a few statements. */
export class PublishedMarker {
  readonly #options: PublishedMarkerOptions
  #ids: number[] = []
  #timer: NodeJS.Timeout | null = null

  constructor (options: PublishedMarkerOptions) {
    this.#options = options
  }

  add (id: number): void {
    if (this.#ids.length < MAX_WAITING) this.#ids.push(id)
    this.#timer ??= setTimeout(() => {
      this.#timer = null
      void this.#write()
    }, INTERVAL_MS)
  }

  /** Writes all collected marks. */
  async drain (): Promise<void> {
    if (this.#timer !== null) clearTimeout(this.#timer)
    this.#timer = null
    await this.#write()
  }

  async #write (): Promise<void> {
    const { store, clock, log, done } = this.#options
    const ids = this.#ids
    this.#ids = []
    try {
      await store.markPublished(ids, clock.now(), done)
    } catch (err) {
      // The sweeper publishes them again, and duplicates are dropped by their id.
      log.warn({ err, rows: ids.length }, 'Could not mark events as published')
    }
  }
}

import type { FastifyBaseLogger } from 'fastify'
import type { Clock } from '../clock.js'
import type { EventStore } from './store.js'

/** How long ids gather, in milliseconds: well before the sweeper looks for rows that are not marked. */
const INTERVAL_MS = 1000
/** Ids that may wait; past it the sweeper finds the rows instead. */
const MAX_WAITING = 100_000

export interface PublishedMarkerOptions {
  store: Pick<EventStore, 'markPublished'>
  clock: Clock
  log: FastifyBaseLogger
  /** Those events are done; otherwise they still wait for their recipient. */
  done: boolean
}

/** Events that were handed to every node: their rows are told so a little later, many by a few statements. */
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

  /** Writes what waits now. */
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
      // Left as they are: the sweeper hands them on once more, and repeats are dropped by id.
      log.warn({ err, rows: ids.length }, 'handed events are not marked yet')
    }
  }
}

import type { Clock } from '../../lib/clock.js'
import type { Database } from '../../lib/database/dialect.js'
import { countByStatus, type StatusCounts } from '../../lib/event-log/count-by-status.js'

/** Milliseconds for which a count is cached, so that scrapes do not load the database. */
const KEPT_MS = 5000
/** A count is cached for at least this multiple of its duration, so that the database spends at most one percent of its time on it. */
const SHARE = 100

/** The numbers of pending and failed events of all tenants. */
export class EventStatusStore {
  readonly #db: Database
  readonly #clock: Clock
  #counts: Promise<StatusCounts> | null = null
  #keptUntil = 0

  constructor (db: Database, clock: Clock) {
    this.#db = db
    this.#clock = clock
  }

  /** Calls during a count, and while it is cached, share its result. */
  async counts (): Promise<StatusCounts> {
    if (this.#counts === null || this.#clock.now() >= this.#keptUntil) {
      const began = performance.now()
      this.#keptUntil = Infinity
      this.#counts = countByStatus(this.#db).finally(() => {
        this.#keptUntil = this.#clock.now() + Math.max(KEPT_MS, SHARE * (performance.now() - began))
      })
    }
    return await this.#counts
  }
}

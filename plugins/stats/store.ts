import type { Clock } from '../../lib/clock.js'
import type { Database } from '../../lib/database/dialect.js'

/** Milliseconds that a count is kept, so that scrapes cannot hammer the database. */
const KEPT_MS = 5000
/** A count that takes long is kept for this many times as long: the database spends no more than a hundredth on them. */
const SHARE = 100

const STATUSES = ['pending', 'failed'] as const
type Counts = Record<typeof STATUSES[number], number>

/** websocket_events: how many, of all tenants, are pending and failed. The index by status holds all that this reads. */
export class EventStatusStore {
  readonly #db: Database
  readonly #clock: Clock
  #counts: Promise<Counts> | null = null
  #keptUntil = 0

  constructor (db: Database, clock: Clock) {
    this.#db = db
    this.#clock = clock
  }

  /** All who ask while it is counted, and for a while after that, share one answer. */
  async counts (): Promise<Counts> {
    if (this.#counts === null || this.#clock.now() >= this.#keptUntil) {
      const began = performance.now()
      this.#keptUntil = Infinity
      this.#counts = this.#count().finally(() => {
        this.#keptUntil = this.#clock.now() + Math.max(KEPT_MS, SHARE * (performance.now() - began))
      })
    }
    return await this.#counts
  }

  async #count (): Promise<Counts> {
    const rows = await this.#db.selectFrom('websocket_events').select(['status', (eb) => eb.fn.countAll<number>().as('count')])
      .where('status', 'in', STATUSES).groupBy('status').execute()
    const of = (status: string): number => Number(rows.find((row) => row.status === status)?.count ?? 0)
    return { pending: of('pending'), failed: of('failed') }
  }
}

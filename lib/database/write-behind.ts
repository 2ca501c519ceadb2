import type { FastifyBaseLogger } from 'fastify'
import { isRowFault, withoutValues } from './failures.js'

export interface WriteBehindOptions<Row> {
  name: string
  log: FastifyBaseLogger
  /** Rows of one key replace each other while they wait; without it every row is written. */
  key?: (row: Row) => string
  /** Writes rows, all or none. */
  write (rows: Row[]): Promise<void>
  /** Rows of one call of `write`, any number. */
  most?: number
  /** Milliseconds that a row waits for others, 500. */
  interval?: number
  /** So many wait for no others: under load they would pile up past the limit, and live too long to be cheap garbage. */
  flushAt?: number
  /** Rows that may wait while the database is away, 10 000; past it the oldest go: they are history, not truth. */
  limit?: number
}

/**
 * Rows that may be written a little later: coalesced by key, in batches, kept over a short absence of the database. A batch
 * that is refused for the sake of one row is halved until that row is found; it is dropped, and the others are written.
 */
export class WriteBehind<Row> {
  readonly #options: Required<Omit<WriteBehindOptions<Row>, 'key'>> & Pick<WriteBehindOptions<Row>, 'key'>
  #waiting = new Map<string | number, Row>()
  #serial = 0
  #timer: NodeJS.Timeout | null = null
  #writing: Promise<void> | null = null
  #failed = false
  /** Why rows of this flush were dropped. */
  #dropped: unknown[] = []
  #closed = false

  constructor (options: WriteBehindOptions<Row>) {
    this.#options = { interval: 500, flushAt: Infinity, limit: 10_000, most: Infinity, ...options }
  }

  /** The row of this key that is not written yet. */
  peek (key: string): Row | undefined {
    return this.#waiting.get(key)
  }

  put (row: Row): void {
    if (this.#closed) return
    const key = this.#options.key?.(row) ?? this.#serial++
    this.#waiting.delete(key)
    this.#waiting.set(key, row)
    if (this.#waiting.size > this.#options.limit) {
      const oldest = this.#waiting.keys().next()
      if (oldest.done !== true) this.#waiting.delete(oldest.value)
    }
    if (this.#isFull) this.#begin()
    else this.#schedule()
  }

  /** Writes what waits, in one attempt, and takes nothing any more: a row that nobody can write must not keep the process. */
  async close (): Promise<void> {
    await this.drain()
    this.#closed = true
    if (this.#timer !== null) clearTimeout(this.#timer)
    this.#timer = null
  }

  /** Writes everything that waits now. One attempt. */
  async drain (): Promise<void> {
    if (this.#timer !== null) clearTimeout(this.#timer)
    this.#timer = null
    // The end of one may be the beginning of the next.
    while (this.#writing !== null) await this.#writing
    await this.#flush()
  }

  /** While the database is away, rows wait for the timer, however many they are. */
  get #isFull (): boolean {
    return this.#waiting.size >= this.#options.flushAt && !this.#failed
  }

  #begin (): void {
    this.#writing ??= this.#flush().finally(() => {
      this.#writing = null
      if (this.#isFull) this.#begin()
      else if (this.#waiting.size > 0) this.#schedule()
    })
  }

  #schedule (): void {
    // What comes after the end, or could not be written by then, must not keep the process alive.
    if (this.#closed) return
    this.#timer ??= setTimeout(() => {
      this.#timer = null
      this.#begin()
    }, this.#options.interval)
  }

  async #flush (): Promise<void> {
    if (this.#waiting.size === 0) return
    const { name, log, limit, most } = this.#options
    const batch = this.#waiting
    this.#waiting = new Map()
    const rows = [...batch]
    this.#dropped = []
    try {
      while (rows.length > 0) {
        const some = rows.slice(0, most)
        await this.#write(some)
        rows.splice(0, some.length)
      }
      this.#failed = false
    } catch (err) {
      // Newer rows of the same key win over those that failed.
      const newer = this.#waiting
      const kept = new Map(rows)
      for (const key of newer.keys()) kept.delete(key)
      this.#waiting = new Map([...kept, ...newer].slice(-limit))
      if (!this.#failed) log.warn({ err: withoutValues(err), rows: kept.size }, `${name} rows wait for the database`)
      this.#failed = true
    }
    const [refused] = this.#dropped
    if (refused !== undefined) log.warn({ err: withoutValues(refused), rows: this.#dropped.length }, `${name} rows are refused by the database and dropped`)
  }

  async #write (rows: Array<[string | number, Row]>): Promise<void> {
    try {
      await this.#options.write(rows.map(([, row]) => row))
    } catch (err) {
      if (!isRowFault(err)) throw err
      if (rows.length === 1) {
        this.#dropped.push(err)
        return
      }
      const middle = rows.length >> 1
      await this.#write(rows.slice(0, middle))
      await this.#write(rows.slice(middle))
    }
  }
}

import type { FastifyBaseLogger } from 'fastify'
import { BoundedMap } from '../async/bounded-map.js'
import { isRowFault, withoutValues } from './failures.js'

export interface WriteBehindOptions<Row> {
  name: string
  log: FastifyBaseLogger
  /** Of rows with the same key only the newest is written. Absent: every row is written. */
  key?: (row: Row) => string
  /** Writes rows, all or none. */
  write (rows: Row[]): Promise<void>
  /** Maximum number of rows of one call of `write`; no limit by default. */
  most?: number
  /** How long a row waits for others, in milliseconds; 500 by default. */
  interval?: number
  /**
   * This many waiting rows are written at once. Under load they would otherwise exceed the limit, and live long enough to make
   * garbage collection expensive.
   */
  flushAt?: number
  /** Rows that may wait while the database is unavailable, 10 000 by default; beyond it the oldest are dropped: they are history, not live state. */
  limit?: number
}

/**
 * Writes rows a little later: coalesced by key, in batches, kept while the database is briefly unavailable. A batch that the
 * database rejects because of one row is halved until that row is found; it is dropped, and the others are written.
 */
export class WriteBehind<Row> {
  readonly #options: Required<Omit<WriteBehindOptions<Row>, 'key'>> & Pick<WriteBehindOptions<Row>, 'key'>
  #waiting: BoundedMap<string | number, Row>
  #serial = 0
  #timer: NodeJS.Timeout | null = null
  #writing: Promise<void> | null = null
  #failed = false
  /** Why rows of this flush were dropped. */
  #dropped: unknown[] = []
  #closed = false

  constructor (options: WriteBehindOptions<Row>) {
    this.#options = { interval: 500, flushAt: Infinity, limit: 10_000, most: Infinity, ...options }
    this.#waiting = new BoundedMap(this.#options.limit)
  }

  /** The unwritten row with this key. */
  peek (key: string): Row | undefined {
    return this.#waiting.get(key)
  }

  put (row: Row): void {
    if (this.#closed) return
    const key = this.#options.key?.(row) ?? this.#serial++
    this.#waiting.set(key, row)
    if (this.#isFull) this.#begin()
    else this.#schedule()
  }

  /** Writes waiting rows, in one attempt, and accepts no more: a row that cannot be written must not keep the process alive. */
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
    // When one flush ends, the next may already have begun.
    while (this.#writing !== null) await this.#writing
    await this.#flush()
  }

  /** While the database is unavailable, rows wait for the timer, however many they are. */
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
    // Rows put after `close`, or not written by then, must not keep the process alive.
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
    this.#waiting = new BoundedMap(limit)
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
      this.#waiting = new BoundedMap(limit)
      for (const [key, row] of [...kept, ...newer]) this.#waiting.set(key, row)
      if (!this.#failed) log.warn({ err: withoutValues(err), rows: kept.size }, `Could not write ${name} rows, retrying`)
      this.#failed = true
    }
    const [refused] = this.#dropped
    if (refused !== undefined) log.warn({ err: withoutValues(refused), rows: this.#dropped.length }, `The database rejected ${name} rows, dropped them`)
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

import type { FastifyBaseLogger } from 'fastify'

export interface WriteBehindOptions<Row> {
  name: string
  log: FastifyBaseLogger
  /** Rows of one key replace each other while they wait; without it every row is written. */
  key?: (row: Row) => string
  write (rows: Row[]): Promise<void>
  /** Milliseconds that a row waits for others, 500. */
  interval?: number
  /** So many wait for no others: under load they would pile up past the limit, and live too long to be cheap garbage. */
  enough?: number
  /** Rows that may wait while the database is away, 10 000; past it the oldest go: they are history, not truth. */
  limit?: number
}

/** Rows that may be written a little later: coalesced by key, in batches, kept over a short absence of the database. */
export class WriteBehind<Row> {
  readonly #options: Required<Omit<WriteBehindOptions<Row>, 'key'>> & Pick<WriteBehindOptions<Row>, 'key'>
  #waiting = new Map<string | number, Row>()
  #serial = 0
  #timer: NodeJS.Timeout | null = null
  #writing: Promise<void> | null = null
  #failed = false
  #closed = false

  constructor (options: WriteBehindOptions<Row>) {
    this.#options = { interval: 500, enough: Infinity, limit: 10_000, ...options }
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
    if (this.#isEnough) this.#begin()
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
  get #isEnough (): boolean {
    return this.#waiting.size >= this.#options.enough && !this.#failed
  }

  #begin (): void {
    this.#writing ??= this.#flush().finally(() => {
      this.#writing = null
      if (this.#isEnough) this.#begin()
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
    const batch = this.#waiting
    this.#waiting = new Map()
    try {
      await this.#options.write([...batch.values()])
      this.#failed = false
    } catch (err) {
      // Newer rows of the same key win over those that failed.
      const newer = this.#waiting
      for (const key of newer.keys()) batch.delete(key)
      this.#waiting = new Map([...batch, ...newer].slice(-this.#options.limit))
      if (!this.#failed) this.#options.log.warn({ err, rows: batch.size }, `${this.#options.name} rows wait for the database`)
      this.#failed = true
    }
  }
}

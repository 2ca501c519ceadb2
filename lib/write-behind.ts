import type { FastifyBaseLogger } from 'fastify'

export interface WriteBehindOptions<Row> {
  name: string
  log: FastifyBaseLogger
  /** Rows of one key replace each other while they wait; without it every row is written. */
  key?: (row: Row) => string
  write (rows: Row[]): Promise<void>
  /** Milliseconds that a row waits for others, 500. */
  interval?: number
  /** Rows that may wait while the database is away, 10 000; past it the oldest go: they are history, not truth. */
  limit?: number
}

/** Rows that may be written a little later: coalesced by key, in batches, kept over a short absence of the database. */
export class WriteBehind<Row> {
  readonly #options: Required<Omit<WriteBehindOptions<Row>, 'key'>> & Pick<WriteBehindOptions<Row>, 'key'>
  readonly #waiting = new Map<string, Row>()
  #serial = 0
  #timer: NodeJS.Timeout | null = null
  #writing: Promise<void> | null = null
  #failed = false
  #closed = false

  constructor (options: WriteBehindOptions<Row>) {
    this.#options = { interval: 500, limit: 10_000, ...options }
  }

  /** The row of this key that is not written yet. */
  peek (key: string): Row | undefined {
    return this.#waiting.get(key)
  }

  put (row: Row): void {
    if (this.#closed) return
    const key = this.#options.key?.(row) ?? String(this.#serial++)
    this.#waiting.delete(key)
    this.#waiting.set(key, row)
    if (this.#waiting.size > this.#options.limit) {
      const oldest = this.#waiting.keys().next()
      if (oldest.done !== true) this.#waiting.delete(oldest.value)
    }
    this.#schedule()
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
    await this.#writing
    await this.#flush()
  }

  #schedule (): void {
    // What comes after the end, or could not be written by then, must not keep the process alive.
    if (this.#closed) return
    this.#timer ??= setTimeout(() => {
      this.#timer = null
      this.#writing ??= this.#flush().finally(() => {
        this.#writing = null
        if (this.#waiting.size > 0) this.#schedule()
      })
    }, this.#options.interval)
  }

  async #flush (): Promise<void> {
    if (this.#waiting.size === 0) return
    const batch = [...this.#waiting]
    this.#waiting.clear()
    try {
      await this.#options.write(batch.map(([, row]) => row))
      this.#failed = false
    } catch (err) {
      // Newer rows of the same key win over those that failed.
      const newer = [...this.#waiting]
      this.#waiting.clear()
      for (const [key, row] of [...batch, ...newer].slice(-this.#options.limit)) this.#waiting.set(key, row)
      if (!this.#failed) this.#options.log.warn({ err, rows: batch.length }, `${this.#options.name} rows wait for the database`)
      this.#failed = true
    }
  }
}

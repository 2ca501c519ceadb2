import type { FastifyBaseLogger } from 'fastify'
import type { Clock } from '../clock.js'
import { RealtimeError } from '../errors.js'

const WINDOW = 60_000
const EXCHANGE_INTERVAL = 1000

/**
 * Adds to counters of a window that all nodes share; resolves with their totals, in order. `window` is the number of the
 * window, whose counters end after `ttl` milliseconds.
 */
export type AddCounts = (window: number, counts: ReadonlyArray<{ key: string, count: number }>, ttl: number) => Promise<number[]>

interface Count {
  /** The count of this node in the window. */
  own: number
  /** The part of it that was sent to the others. */
  shared: number
  /** The count of the other nodes at the last exchange. */
  others: number
}

/**
 * Rates of users over all nodes, per minute, without a request to Redis per event: each node counts separately, and the nodes
 * exchange their counts once per second. A user on several nodes may exceed a rate by the events of that second.
 */
export class SharedRates {
  readonly #clock: Clock
  readonly #addCounts: AddCounts | null
  readonly #log: FastifyBaseLogger
  #counts = new Map<string, Count>()
  #changed = new Set<string>()
  #minute = 0
  #timer: NodeJS.Timeout | null = null
  #exchanging: Promise<void> | null = null

  /** Without `addCounts` there are no other nodes. */
  constructor (clock: Clock, addCounts: AddCounts | null, log: FastifyBaseLogger) {
    this.#clock = clock
    this.#addCounts = addCounts
    this.#log = log
  }

  /** Counts `cost` under a key. Throws `RT_RATE_LIMITED`, and counts nothing, if it exceeds `max` per minute; 0: no limit. */
  take (key: string, cost: number, max: number): void {
    if (max === 0) return
    const now = this.#clock.now()
    this.#turn(Math.floor(now / WINDOW))
    const count = this.#counts.get(key)
    if ((count === undefined ? 0 : count.own + count.others) + cost > max) {
      throw new RealtimeError('RT_RATE_LIMITED', undefined, { retryAfter: Math.max(1, Math.ceil(((this.#minute + 1) * WINDOW - now) / 1000)) })
    }
    if (count === undefined) this.#counts.set(key, { own: cost, shared: 0, others: 0 })
    else count.own += cost
    if (this.#addCounts === null) return
    this.#changed.add(key)
    this.#timer ??= setTimeout(() => {
      this.#timer = null
      this.#exchanging = this.#exchange().finally(() => { this.#exchanging = null })
    }, EXCHANGE_INTERVAL).unref()
  }

  async close (): Promise<void> {
    if (this.#timer !== null) clearTimeout(this.#timer)
    this.#timer = null
    await this.#exchanging
  }

  /** A new minute begins with a count of zero. */
  #turn (minute: number): void {
    if (minute === this.#minute) return
    this.#minute = minute
    this.#counts = new Map()
    this.#changed = new Set()
  }

  async #exchange (): Promise<void> {
    const counts = this.#counts
    const minute = this.#minute
    const changes = [...this.#changed].flatMap((key) => {
      const of = counts.get(key)
      if (of === undefined) return []
      const count = of.own - of.shared
      of.shared = of.own
      return [{ key, count, of }]
    })
    this.#changed = new Set()
    try {
      const totals = await this.#addCounts?.(minute, changes.map(({ key, count }) => ({ key, count })), 2 * WINDOW) ?? []
      changes.forEach(({ of }, i) => { of.others = Math.max(0, (totals[i] ?? 0) - of.shared) })
    } catch (err) {
      // Redis is unavailable: each node limits separately, and sends its count if Redis is back within the minute.
      for (const { of, count } of changes) of.shared -= count
      this.#log.debug({ err }, 'Cannot exchange rates with other nodes')
    }
  }
}

import { COUNTER_TTL_MS } from './sequence-tracker.js'

/** Milliseconds between two renewals of a counter's time to live by one node. With every message it would cost as much as the counting. */
const RENEWAL_INTERVAL_MS = 10_000
/** Upper bound for the time that a command takes, in milliseconds. */
const COMMAND_TIME_MS = 5000

/** The time to live that a counter gets in Redis, so that at least COUNTER_TTL_MS is left after each number. */
export const STORED_TTL_MS = COUNTER_TTL_MS + RENEWAL_INTERVAL_MS + COMMAND_TIME_MS

/** The counters whose time to live this node renewed recently. */
export class CounterAges {
  readonly #renewed = new Set<string>()
  readonly #now: () => number
  #since = 0

  constructor (now = (): number => performance.now()) {
    this.#now = now
  }

  /** Returns true if the next number must renew the counter, and records the renewal. */
  isDue (counter: string): boolean {
    const now = this.#now()
    if (now - this.#since >= RENEWAL_INTERVAL_MS) {
      this.#renewed.clear()
      this.#since = now
    }
    if (this.#renewed.has(counter)) return false
    this.#renewed.add(counter)
    return true
  }

  /** After a failed command it is not known which counters were renewed. */
  forget (): void {
    this.#renewed.clear()
  }
}

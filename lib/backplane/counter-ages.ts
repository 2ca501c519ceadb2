import { COUNTER_TTL } from './sequence-tracker.js'

/** A counter's life is prolonged at most this often by each node, not with each message: that would cost as much as counting. */
const PROLONG_EVERY = 10_000
/** What a command may be under way. */
const UNDER_WAY = 5000

/** For which counters are prolonged, in Redis: whenever a number is given, COUNTER_TTL of it is left. */
export const COUNTER_LIFE = COUNTER_TTL + PROLONG_EVERY + UNDER_WAY

/** Which counters this node has prolonged lately. */
export class CounterAges {
  readonly #young = new Set<string>()
  readonly #now: () => number
  #since = 0

  constructor (now = (): number => performance.now()) {
    this.#now = now
  }

  /** True where the counter must be prolonged with its next number; from then on it counts as prolonged. */
  isDue (counter: string): boolean {
    const now = this.#now()
    if (now - this.#since >= PROLONG_EVERY) {
      this.#young.clear()
      this.#since = now
    }
    if (this.#young.has(counter)) return false
    this.#young.add(counter)
    return true
  }

  /** Something failed: whether any of them was prolonged is not known. */
  forget (): void {
    this.#young.clear()
  }
}

import { RealtimeError } from './errors.js'
import { isPromise, type Maybe } from './maybe.js'
import type { Hit, Roster } from './roster/contract.js'

/** At most `max` signs within `window` milliseconds; 0: no limit. */
export interface Rate {
  max: number
  window: number
}

/** Counts what a client repeats, in the roster: over all nodes where Redis is there, and REST and frames together. */
export class RateCounters {
  readonly #roster: Pick<Roster, 'hit'>

  constructor (roster: Pick<Roster, 'hit'>) {
    this.#roster = roster
  }

  /** One more sign under this key; at once where the roster is this process's own. */
  hit (key: string, window: number): Maybe<Hit> {
    return this.#roster.hit(key, window)
  }

  /** One more sign under this key. Throws `RT_RATE_LIMITED`, with `retryAfter`, past the rate. */
  take (key: string, { max, window }: Rate): Maybe<void> {
    if (max === 0) return
    const check = ({ count, ttl }: Hit): void => { if (count > max) throw rateLimited(ttl) }
    const hit = this.#roster.hit(key, window)
    if (isPromise(hit)) return hit.then(check)
    check(hit)
  }
}

export const rateLimited = (ttl: number): RealtimeError =>
  new RealtimeError('RT_RATE_LIMITED', undefined, { retryAfter: Math.max(1, Math.ceil(ttl / 1000)) })

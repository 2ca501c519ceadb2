import type { FastifyRateLimitOptions, FastifyRateLimitStore } from '@fastify/rate-limit'
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

  /** One more sign under this key. Throws `RT_RATE_LIMITED`, with `retryAfter`, past the rate. */
  take (key: string, { max, window }: Rate): Maybe<void> {
    if (max === 0) return
    const check = ({ count, ttl }: Hit): void => { if (count > max) throw rateLimited(ttl) }
    const hit = this.#roster.hit(key, window)
    if (isPromise(hit)) return hit.then(check)
    check(hit)
  }

  /** The same counters as a store of @fastify/rate-limit; it answers at once where the roster is this process's own. */
  get store (): new (options: FastifyRateLimitOptions) => FastifyRateLimitStore {
    const roster = this.#roster
    return class CounterStore implements FastifyRateLimitStore {
      incr (...[key, callback, window]: Parameters<FastifyRateLimitStore['incr']>): void {
        const answer = ({ count, ttl }: Hit): void => { callback(null, { current: count, ttl }) }
        const hit = roster.hit(key, window)
        if (isPromise(hit)) hit.then(answer, callback)
        else answer(hit)
      }

      child (): FastifyRateLimitStore {
        return this
      }
    }
  }
}

export const rateLimited = (ttl: number): RealtimeError =>
  new RealtimeError('RT_RATE_LIMITED', undefined, { retryAfter: Math.max(1, Math.ceil(ttl / 1000)) })

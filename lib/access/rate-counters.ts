import type { FastifyRateLimitOptions, FastifyRateLimitStore } from '@fastify/rate-limit'
import { isPromise, type MaybePromise } from '../async/maybe-promise.js'
import { RealtimeError } from '../errors.js'
import type { RateCount, Roster } from '../roster/contract.js'

/** At most `max` requests within `window` milliseconds; 0: no limit. */
export interface Rate {
  max: number
  window: number
}

/** Counts the requests of clients in the roster: REST requests and frames together, and with Redis those of all nodes. */
export class RateCounters {
  readonly #roster: Pick<Roster, 'countRequest'>

  constructor (roster: Pick<Roster, 'countRequest'>) {
    this.#roster = roster
  }

  /** Counts a request. Throws `RT_RATE_LIMITED`, with `retryAfter`, beyond the rate. Synchronous if the roster is (REST bench rows). */
  take (key: string, { max, window }: Rate): MaybePromise<void> {
    if (max === 0) return
    const check = ({ count, ttl }: RateCount): void => { if (count > max) throw rateLimited(ttl) }
    const counted = this.#roster.countRequest(key, window)
    if (isPromise(counted)) return counted.then(check)
    check(counted)
  }

  /** The same counters as a store of @fastify/rate-limit. It calls back synchronously if the roster is synchronous (REST bench rows). */
  get store (): new (options: FastifyRateLimitOptions) => FastifyRateLimitStore {
    const roster = this.#roster
    return class CounterStore implements FastifyRateLimitStore {
      incr (...[key, callback, window]: Parameters<FastifyRateLimitStore['incr']>): void {
        const reply = ({ count, ttl }: RateCount): void => { callback(null, { current: count, ttl }) }
        const counted = roster.countRequest(key, window)
        if (isPromise(counted)) counted.then(reply, callback)
        else reply(counted)
      }

      child (): FastifyRateLimitStore {
        return this
      }
    }
  }
}

export const rateLimited = (ttl: number): RealtimeError =>
  new RealtimeError('RT_RATE_LIMITED', undefined, { retryAfter: Math.max(1, Math.ceil(ttl / 1000)) })

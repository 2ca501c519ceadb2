import type { FastifyBaseLogger } from 'fastify'
import { BoundedMap } from '../async/bounded-map.js'
import { isPromise, thenMaybe, type MaybePromise } from '../async/maybe-promise.js'
import { ThrottledLog } from '../async/throttled-log.js'
import { withTimeout } from '../async/with-timeout.js'
import type { Clock } from '../clock.js'
import type { TenantLimits as Limits, TenantLimitsOf } from '../host-functions.js'
import type { Id } from '../ids.js'
import { notNow } from './host-calls.js'
import type { RateCounters } from './rate-counters.js'

const KEPT_MS = 60_000
/** Tenants whose limits are cached; beyond it the oldest are asked for again. */
const MAX_TENANTS = 50_000

export interface TenantLimitsOptions {
  rates: RateCounters
  clock: Clock
  log: FastifyBaseLogger
  /** Timeout of the host's function in milliseconds. */
  timeout: number
}

interface Cached { limits: MaybePromise<Limits>, until: number }

/** The host's limits for each tenant, over all nodes. Costs nothing without the option. */
export class TenantLimits {
  readonly #ask: TenantLimitsOf | undefined
  readonly #options: TenantLimitsOptions
  readonly #log: ThrottledLog
  readonly #cached = new BoundedMap<Id, Cached>(MAX_TENANTS)

  constructor (ask: TenantLimitsOf | undefined, options: TenantLimitsOptions) {
    this.#ask = ask
    this.#options = options
    this.#log = new ThrottledLog(options.log)
  }

  /** Counts a durable event of a client. Throws, or rejects with, `RT_RATE_LIMITED`. */
  countMessage (tenantId: Id): MaybePromise<void> {
    if (this.#ask === undefined) return
    return thenMaybe(this.#of(tenantId), ({ messagesPerSecond: max = 0 }) => this.#options.rates.take(`tenant:${tenantId}`, { max, window: 1000 }))
  }

  /** The maximum number of connections of the tenant, 0: no limit. The roster counts them as it registers one. */
  connections (tenantId: Id): MaybePromise<number> {
    if (this.#ask === undefined) return 0
    return thenMaybe(this.#of(tenantId), ({ connections = 0 }) => connections)
  }

  #of (tenantId: Id): MaybePromise<Limits> {
    const now = this.#options.clock.now()
    const cached = this.#cached.get(tenantId)
    if (cached !== undefined && cached.until > now) return cached.limits
    const fresh: Cached = { limits: this.#read(tenantId, cached), until: now + KEPT_MS }
    this.#cached.set(tenantId, fresh)
    if (isPromise(fresh.limits)) {
      // Later calls need no promise; a failure is retried.
      fresh.limits.then((limits) => { fresh.limits = limits }, () => { if (this.#cached.get(tenantId) === fresh) this.#cached.delete(tenantId) })
    }
    return fresh.limits
  }

  /** If the host's function fails, the previous limits stay in force. */
  #read (tenantId: Id, before: Cached | undefined): MaybePromise<Limits> {
    const failed = (err: unknown): MaybePromise<Limits> => {
      this.#log.write('error', { err, function: 'tenantLimits' }, 'tenantLimits failed')
      if (before !== undefined) return before.limits
      throw notNow(err)
    }
    try {
      const limits = this.#ask?.(tenantId)
      if (!isPromise(limits)) return limits ?? {}
      return withTimeout(limits, this.#options.timeout, () => new Error('no answer')).then((found) => found ?? {}, failed)
    } catch (err) {
      return failed(err)
    }
  }
}

import type { FastifyBaseLogger } from 'fastify'
import { BoundedMap } from '../async/bounded-map.js'
import { isPromise, thenMaybe, type MaybePromise } from '../async/maybe-promise.js'
import { ThrottledLog } from '../async/throttled-log.js'
import { withTimeout } from '../async/with-timeout.js'
import type { Clock } from '../clock.js'
import { RealtimeError } from '../errors.js'
import type { TenantLimits as Limits, TenantLimitsOf } from '../host-functions.js'
import type { Id } from '../ids.js'
import type { Roster } from '../roster/contract.js'
import { notNow } from './host-calls.js'
import type { RateCounters } from './rate-counters.js'

const KEPT_MS = 60_000
/** Tenants whose limits are cached; beyond it the oldest are asked for again. */
const MAX_TENANTS = 50_000

export interface TenantLimitsOptions {
  roster: Pick<Roster, 'counts' | 'find'>
  rates: RateCounters
  clock: Clock
  log: FastifyBaseLogger
  /** Milliseconds until the host's function counts as not answering. */
  timeout: number
}

interface Cached { limits: MaybePromise<Limits>, until: number }

/** What the host allows each tenant as a whole, over all nodes. Costs nothing where the host limits no tenant. */
export class TenantLimits {
  readonly #ask: TenantLimitsOf | undefined
  readonly #options: TenantLimitsOptions
  readonly #log: ThrottledLog
  readonly #cached = new BoundedMap<Id, Cached>(MAX_TENANTS)
  /** Connections that are being opened here, which are not counted in the roster yet. */
  readonly #opening = new Map<Id, number>()
  readonly #queues = new Map<Id, Promise<void>>()

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

  /** Opens a connection with `open`, if the tenant may have one more. Throws, or rejects with, `RT_LIMIT_EXCEEDED`. */
  openConnection<T> (tenantId: Id, connectionId: string, open: () => MaybePromise<T>): MaybePromise<T> {
    if (this.#ask === undefined) return open()
    return thenMaybe(this.#of(tenantId), ({ connections = 0 }) => connections === 0 ? open() : this.#open(tenantId, connectionId, connections, open))
  }

  async #open<T> (tenantId: Id, connectionId: string, max: number, open: () => MaybePromise<T>): Promise<T> {
    const { roster } = this.#options
    const opening = (this.#opening.get(tenantId) ?? 0) + 1
    this.#opening.set(tenantId, opening)
    try {
      // While Redis is away nobody can count.
      const count = async (): Promise<number> => await roster.counts(tenantId).then(({ total }) => total, () => 0)
      if (await count() + opening <= max || await roster.find(tenantId, connectionId).catch(() => null) !== null) return await open()
      // Some that are being opened may be counted twice: one after the other is sure.
      return await this.#oneByOne(tenantId, async () => {
        if (await count() >= max) throw new RealtimeError('RT_LIMIT_EXCEEDED', `This tenant may have ${max} connections`)
        return await open()
      })
    } finally {
      const left = (this.#opening.get(tenantId) ?? 1) - 1
      if (left > 0) this.#opening.set(tenantId, left)
      else this.#opening.delete(tenantId)
    }
  }

  async #oneByOne<T> (tenantId: Id, task: () => Promise<T>): Promise<T> {
    const before = this.#queues.get(tenantId)
    const result = before === undefined ? task() : before.then(task)
    const done = result.then(() => {}, () => {})
    this.#queues.set(tenantId, done)
    try {
      return await result
    } finally {
      if (this.#queues.get(tenantId) === done) this.#queues.delete(tenantId)
    }
  }

  #of (tenantId: Id): MaybePromise<Limits> {
    const now = this.#options.clock.now()
    const cached = this.#cached.get(tenantId)
    if (cached !== undefined && cached.until > now) return cached.limits
    const fresh: Cached = { limits: this.#read(tenantId, cached), until: now + KEPT_MS }
    this.#cached.set(tenantId, fresh)
    if (isPromise(fresh.limits)) {
      // Afterwards without a promise; and a failure is asked again.
      fresh.limits.then((limits) => { fresh.limits = limits }, () => { if (this.#cached.get(tenantId) === fresh) this.#cached.delete(tenantId) })
    }
    return fresh.limits
  }

  /** Where the host cannot say, what it said before holds. */
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

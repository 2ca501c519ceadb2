import type { FastifyBaseLogger } from 'fastify'
import { withTimeout } from '../async/with-timeout.js'
import { PUBLISHED } from '../backplane/contract.js'
import type { Clock } from '../clock.js'
import { isDuplicate, isRowFault, outcomeOf, withoutValues } from '../database/failures.js'
import { RealtimeError, type Outcome } from '../errors.js'
import type { StoredEvent } from './contract.js'
import type { EventRow } from './inserts.js'
import { DEDUPE_WINDOW_MS, type EventStore } from './store.js'

/** What became of a row: its id, its time, and, where it had been stored before, the event that was. */
export interface Committed { id: number, createdAt: number, before: StoredEvent | null }

/** An event that waits for its commit. */
export interface Entry {
  row: EventRow
  /** The client chose the key: it may already be stored. */
  keyed: boolean
  /** The connection that sent it and must not get it back. */
  except: string | null
  resolve (committed: Committed): void
  reject (err: Error): void
}

/** Hands on what was committed and then answers its senders, in order; or refuses them. */
export type Tell = () => void

export interface CommitterOptions {
  store: EventStore
  clock: Clock
  log: FastifyBaseLogger
  /** Milliseconds until a database that does not answer counts as away. */
  timeout: number
  /** Called in order, after the commit; the sender is told when it resolves. Never rejects. */
  committed (entry: Entry, committed: Committed): Promise<void>
  /** Called after each statement that was committed. */
  measured?: ((rows: number, seconds: number) => void) | undefined
  /** The database cannot take these events now; `unsure`: they may be stored. */
  away (err: unknown, batch: readonly Entry[], outcome: Outcome): void
}

/** Pauses between two tries, in milliseconds: the first, doubled each time up to the last. */
const FIRST_PAUSE = 50
const LAST_PAUSE = 800
/** Beyond the timeout, for a database that keeps none by itself: it then says more exactly what became of the statement. */
const GRACE = 250
/** Tries of a batch in which a key was stored by another node meanwhile. */
const DUPLICATE_TRIES = 3

/**
 * Stores a batch with one statement. What fails for the database's sake is tried again until the time is over; what is
 * refused for the sake of one row is halved until that row is found, so that the others are stored.
 */
export class Committer {
  readonly #options: CommitterOptions
  #away = false

  constructor (options: CommitterOptions) {
    this.#options = options
  }

  /** Resolves to what tells the batch's senders, and before them everyone else; never rejects. */
  async commit (batch: Entry[]): Promise<Tell> {
    this.#away = false
    return await this.#commit(batch)
  }

  /** Hands on those that turn out to be stored, of which nobody knew. */
  async settle (entries: readonly Entry[]): Promise<void> {
    const known = await this.#options.store.findByKey(entries.map(({ row }) => row))
    for (const entry of entries) {
      const found = known.get(keyOf(entry.row))
      if (found === undefined || found.event.publishedAt !== null) continue
      this.#settle(entry, { id: found.event.id, createdAt: found.createdAt, before: null })
    }
  }

  async #commit (batch: Entry[]): Promise<Tell> {
    const began = performance.now()
    const deadline = performance.now() + this.#options.timeout
    let lookUp = batch.filter(({ keyed }) => keyed)
    let outcome: Outcome = 'none'
    let duplicates = 0
    for (let pause = FIRST_PAUSE; ; pause = Math.min(2 * pause, LAST_PAUSE)) {
      const attempt = { sent: false }
      const attemptedAt = performance.now()
      const storing = this.#store(batch, lookUp, attempt)
      try {
        const tell = await withTimeout(storing, deadline + GRACE - performance.now(), noAnswer)
        this.#options.measured?.(batch.length, (performance.now() - began) / 1000)
        return tell
      } catch (err) {
        if (isDuplicate(err) && ++duplicates <= DUPLICATE_TRIES) {
          // A key that another node stored meanwhile: asking for it now finds it.
          lookUp = batch
          continue
        }
        if (isRowFault(err)) return await this.#halve(batch, err)
        const unsure = attempt.sent && outcomeOf(err) === 'unknown'
        if (unsure) outcome = 'unknown'
        // One that was not carried out after a long wait, as for a lock, would wait as long again, and then nobody knows.
        const takes = unsure ? 0 : performance.now() - attemptedAt
        if (performance.now() + Math.max(2 * pause, takes) >= deadline) {
          this.#goAway(err, batch, outcome)
          // Answered after all, too late for its senders: everyone else is told.
          storing.then((tell) => { tell() }, () => {})
          return refuse(batch, outcome)
        }
        // A connection that broke during the commit leaves the outcome unknown: from now on ask first, by key.
        if (outcome === 'unknown') lookUp = batch
        await new Promise((resolve) => setTimeout(resolve, pause))
      }
    }
  }

  async #store (batch: Entry[], lookUp: Entry[], attempt: { sent: boolean }): Promise<Tell> {
    if (lookUp.length > 0) return await this.#storeOnce(batch, lookUp, attempt)
    // Under keys of the node's own, of which none was tried before: none is stored yet, and no two are alike.
    attempt.sent = true
    const ids = await this.#options.store.insert(batch.map(({ row }) => row))
    return () => {
      batch.forEach((entry, i) => { this.#settle(entry, { id: ids[i] ?? 0, createdAt: entry.row.createdAt, before: null }) })
    }
  }

  /** Inserts what is not stored yet; one of the client's keys may come twice. */
  async #storeOnce (batch: Entry[], lookUp: Entry[], attempt: { sent: boolean }): Promise<Tell> {
    const { store, clock } = this.#options
    const known = await store.findByKey(lookUp.map(({ row }) => row))
    const results = new Map<Entry, Committed>()
    const expired: number[] = []
    const fresh: Entry[] = []
    const firstOfKey = new Map<string, Entry>()
    for (const waiting of batch) {
      const key = keyOf(waiting.row)
      const found = known.get(key)
      if (found !== undefined && (!waiting.keyed || found.createdAt > clock.now() - DEDUPE_WINDOW_MS)) {
        // Under a key of the node's own it is this very insert, of which only the answer was lost.
        results.set(waiting, { id: found.event.id, createdAt: found.createdAt, before: waiting.keyed ? found.event : null })
        continue
      }
      if (found !== undefined) expired.push(found.event.id)
      if (firstOfKey.has(key)) continue
      firstOfKey.set(key, waiting)
      fresh.push(waiting)
    }
    await store.forgetKeys(expired)
    if (fresh.length > 0) {
      attempt.sent = true
      const ids = await store.insert(fresh.map(({ row }) => row))
      fresh.forEach((waiting, i) => {
        results.set(waiting, { id: ids[i] ?? 0, createdAt: waiting.row.createdAt, before: null })
      })
    }
    return () => {
      for (const waiting of batch) {
        const own = results.get(waiting)
        const first = firstOfKey.get(keyOf(waiting.row))
        const result = own ?? (first === undefined ? undefined : results.get(first))
        if (result === undefined) continue
        // The same key twice in one batch is one event.
        if (own === undefined) waiting.resolve(result)
        else this.#settle(waiting, own)
      }
    }
  }

  #settle (entry: Entry, committed: Committed): void {
    const handed = this.#options.committed(entry, committed)
    if (handed === PUBLISHED) entry.resolve(committed)
    else void handed.then(() => { entry.resolve(committed) })
  }

  /** One row that the database refuses must not take the others of its batch along. */
  async #halve (batch: Entry[], err: unknown): Promise<Tell> {
    if (batch.length === 1) {
      this.#options.log.error({ err: withoutValues(err), event: batch[0]?.row.type }, 'an event cannot be stored')
      return () => { batch[0]?.reject(new RealtimeError('RT_INTERNAL', undefined, { cause: err })) }
    }
    const middle = batch.length >> 1
    const first = await this.#commit(batch.slice(0, middle))
    const rest = batch.slice(middle)
    // Those who are stored must not wait for the others to find the database away.
    const second = this.#away ? refuse(rest, 'none') : await this.#commit(rest)
    return () => {
      first()
      second()
    }
  }

  #goAway (err: unknown, batch: readonly Entry[], outcome: Outcome): void {
    this.#away = true
    this.#options.away(err, batch, outcome)
  }
}

const keyOf = (row: EventRow): string => `${row.tenantId}/${row.userId}/${row.dedupeId}`

export const refuse = (batch: readonly Entry[], outcome: Outcome): Tell => () => { for (const { reject } of batch) reject(unavailable(outcome)) }

export const unavailable = (outcome: Outcome): RealtimeError => new RealtimeError('RT_STORAGE_UNAVAILABLE', undefined, { retryAfter: 1, outcome })

export const noAnswer = (): Error => new Error('the database does not answer')

import type { FastifyBaseLogger } from 'fastify'
import { isPromise, type MaybePromise } from '../async/maybe-promise.js'
import { withTimeout } from '../async/with-timeout.js'
import type { Clock } from '../clock.js'
import { isDuplicate, isRowFault, outcomeOf, withoutValues } from '../database/failures.js'
import { RealtimeError, type Outcome } from '../errors.js'
import type { StoredEvent } from './contract.js'
import type { EventRow } from './inserts.js'
import { dedupeKey } from './insert-store.js'
import { isRepeatable, type EventStore } from './store.js'

/** A row in the table: its id and its time, and the event if it had been stored before. */
export interface Committed { id: number, createdAt: number, existing: StoredEvent | null }

/** An event that waits for its commit. */
export interface QueuedEvent {
  row: EventRow
  /** The client chose the key, so the event may already be stored. */
  hasClientKey: boolean
  /** The connection that sent it and does not get it. */
  excludeConnectionId: string | null
  /** As it was sent, for the lifecycle event. */
  data: Record<string, unknown>
  resolve (committed: Committed): void
  reject (err: Error): void
}

type StoredResult = { name: 'stored', event: QueuedEvent } & Committed
interface GoneResult { name: 'gone', event: QueuedEvent }

/** The result of a commit for one event. */
export type CommitResult =
  /** To be published, and acknowledged after that. */
  | StoredResult
  /** The same event as an earlier one of the batch: acknowledged only. */
  | { name: 'duplicate', event: QueuedEvent } & Committed
  /** It edits or deletes a message that is deleted. */
  | GoneResult
  /** The database is away. */
  | { name: 'refused', event: QueuedEvent, outcome: Outcome }
  /** The database rejects this event. */
  | { name: 'failed', event: QueuedEvent, err: unknown }

export interface CommitterOptions {
  store: EventStore
  clock: Clock
  log: FastifyBaseLogger
  /** Milliseconds after which a database that does not respond counts as away. */
  timeout: number
  /**
   * Publishes a committed event; the sender is acknowledged when it resolves. Called in order; must not reject. No promise per
   * event if it returns undefined (bench row "direct messages, durable").
   */
  committed (event: QueuedEvent, committed: Committed): MaybePromise<void>
  /** Called after an event was published that was not stored before. */
  announced (event: QueuedEvent, id: number): void
  /** Called after each committed statement. */
  measured?: ((rows: number, seconds: number) => void) | undefined
  /** Called when the database cannot store events; with the outcome `unknown` they may be stored. */
  away (err: unknown, batch: readonly QueuedEvent[], outcome: Outcome): void
}

/** Milliseconds between two attempts: doubled after each, up to the second. */
const FIRST_PAUSE_MS = 50
const LAST_PAUSE_MS = 800
/** Milliseconds added to the timeout for a driver that has its own, because its error shows more precisely whether the statement was executed. */
const TIMEOUT_MARGIN_MS = 250
/** Changes of messages in one transaction, which holds their locks. */
const MAX_CHANGES = 50
/** Attempts for a batch in which another node stored one of the keys meanwhile. */
const MAX_DUPLICATE_ATTEMPTS = 3

/**
 * Stores a batch with one statement. If the database fails, it tries again until the timeout. If the database rejects a row,
 * it halves the batch until that row is found, so that the others are stored.
 */
export class Committer {
  readonly #options: CommitterOptions
  #isAway = false

  constructor (options: CommitterOptions) {
    this.#options = options
  }

  /** Resolves with a result for each event, in the order of the batch, for {@link announce}. Never rejects. */
  async commit (batch: QueuedEvent[]): Promise<CommitResult[]> {
    this.#isAway = false
    if (!batch.some(({ row }) => row.change !== null)) return await this.#commit(batch)
    const results: CommitResult[] = []
    for (const run of runsOf(batch)) results.push(...this.#isAway ? refused(run, 'none') : await this.#commit(run))
    return results
  }

  /** Publishes stored events, and acknowledges or refuses each event, in order. */
  announce (results: readonly CommitResult[]): void {
    for (const result of results) {
      const { event } = result
      if (result.name === 'stored') this.#publish(event, result)
      else if (result.name === 'duplicate') event.resolve(result)
      else if (result.name === 'gone') event.reject(new RealtimeError('RT_NOT_FOUND', 'No message has this id'))
      else event.reject(result.name === 'refused' ? unavailable(result.outcome) : new RealtimeError('RT_INTERNAL', undefined, { cause: result.err }))
    }
  }

  /** Publishes the events among these that were stored although the database seemed to be away. */
  async publishStored (events: readonly QueuedEvent[]): Promise<void> {
    const known = await this.#options.store.findByKey(events.map(({ row }) => row))
    for (const event of events) {
      const found = known.get(dedupeKey(event.row))
      if (found === undefined || found.event.publishedAt !== null) continue
      this.#publish(event, { id: found.event.id, createdAt: found.createdAt, existing: null })
    }
  }

  #publish (event: QueuedEvent, committed: Committed): void {
    const published = this.#options.committed(event, committed)
    if (isPromise(published)) void published.then(() => { this.#announced(event, committed) })
    else this.#announced(event, committed)
  }

  #announced (event: QueuedEvent, committed: Committed): void {
    if (committed.existing === null) this.#options.announced(event, committed.id)
    event.resolve(committed)
  }

  async #commit (batch: QueuedEvent[]): Promise<CommitResult[]> {
    const began = performance.now()
    const deadline = performance.now() + this.#options.timeout
    let lookUp = batch.filter(({ hasClientKey }) => hasClientKey)
    let outcome: Outcome = 'none'
    let duplicates = 0
    for (let pause = FIRST_PAUSE_MS; ; pause = Math.min(2 * pause, LAST_PAUSE_MS)) {
      const attempt = { sent: false }
      const attemptedAt = performance.now()
      const storing = this.#store(batch, lookUp, attempt)
      try {
        const results = await withTimeout(storing, deadline + TIMEOUT_MARGIN_MS - performance.now(), noAnswer)
        this.#options.measured?.(batch.length, (performance.now() - began) / 1000)
        return results
      } catch (err) {
        if (isDuplicate(err) && ++duplicates <= MAX_DUPLICATE_ATTEMPTS) {
          // Another node stored one of the keys meanwhile; a look-up finds it now.
          lookUp = batch
          continue
        }
        if (isRowFault(err)) return await this.#halve(batch, err)
        const isUnknown = attempt.sent && outcomeOf(err) === 'unknown'
        if (isUnknown) outcome = 'unknown'
        // A statement that failed after a long wait, as for a lock, would wait as long again, and then its outcome is unknown.
        const nextTakes = isUnknown ? 0 : performance.now() - attemptedAt
        if (performance.now() + Math.max(2 * pause, nextTakes) >= deadline) {
          this.#isAway = true
          this.#options.away(err, batch, outcome)
          // If the database responds after all, too late for the senders, the events are still published.
          storing.then((results) => { this.announce(results) }, () => {})
          return refused(batch, outcome)
        }
        // If the connection broke during the commit, the events may be stored: look up their keys first.
        if (outcome === 'unknown') lookUp = batch
        await new Promise((resolve) => setTimeout(resolve, pause))
      }
    }
  }

  async #store (batch: QueuedEvent[], lookUp: QueuedEvent[], attempt: { sent: boolean }): Promise<CommitResult[]> {
    if (lookUp.length > 0) return await this.#storeNew(batch, lookUp, attempt)
    // All keys are the node's own and were not tried before: none is stored, and no two are equal.
    attempt.sent = true
    const ids = await this.#insert(batch)
    return batch.map((event, i) => resultOf(event, ids[i] ?? null))
  }

  async #insert (events: readonly QueuedEvent[]): Promise<Array<number | null>> {
    const rows = events.map(({ row }) => row)
    return rows[0]?.change === null ? await this.#options.store.insert(rows) : await this.#options.store.insertChanges(rows)
  }

  /** Inserts the events that are not stored yet. A client's key may occur twice in the batch. */
  async #storeNew (batch: QueuedEvent[], lookUp: QueuedEvent[], attempt: { sent: boolean }): Promise<CommitResult[]> {
    const { store, clock } = this.#options
    const known = await store.findByKey(lookUp.map(({ row }) => row))
    const stored = new Map<QueuedEvent, StoredResult | GoneResult>()
    const expired: number[] = []
    const firstOfKey = new Map<string, QueuedEvent>()
    for (const event of batch) {
      const key = dedupeKey(event.row)
      const found = known.get(key)
      if (found !== undefined && (!event.hasClientKey || isRepeatable(found.createdAt, clock.now()))) {
        // With a key of the node's own it is this very insert, whose response was lost.
        stored.set(event, { name: 'stored', event, id: found.event.id, createdAt: found.createdAt, existing: event.hasClientKey ? found.event : null })
        continue
      }
      if (found !== undefined) expired.push(found.event.id)
      if (!firstOfKey.has(key)) firstOfKey.set(key, event)
    }
    await store.forgetKeys(expired)
    const fresh = [...firstOfKey.values()]
    if (fresh.length > 0) {
      attempt.sent = true
      const ids = await this.#insert(fresh)
      fresh.forEach((event, i) => { stored.set(event, resultOf(event, ids[i] ?? null)) })
    }
    return batch.flatMap((event): CommitResult[] => {
      const own = stored.get(event)
      if (own !== undefined) return [own]
      const first = firstOfKey.get(dedupeKey(event.row))
      const result = first === undefined ? undefined : stored.get(first)
      return result === undefined ? [] : [result.name === 'gone' ? { ...result, event } : { ...result, name: 'duplicate', event }]
    })
  }

  /** Commits the batch in two halves, so that a row that the database rejects does not affect the others. */
  async #halve (batch: QueuedEvent[], err: unknown): Promise<CommitResult[]> {
    const [event] = batch
    if (event !== undefined && batch.length === 1) {
      this.#options.log.error({ err: withoutValues(err), event: event.row.type }, 'Event cannot be stored')
      return [{ name: 'failed', event, err }]
    }
    const middle = batch.length >> 1
    const first = await this.#commit(batch.slice(0, middle))
    const rest = batch.slice(middle)
    // If the database is now away, the stored half must not wait for the other half's timeout.
    return [...first, ...this.#isAway ? refused(rest, 'none') : await this.#commit(rest)]
  }
}

const resultOf = (event: QueuedEvent, id: number | null): StoredResult | GoneResult =>
  id === null ? { name: 'gone', event } : { name: 'stored', event, id, createdAt: event.row.createdAt, existing: null }

/** Events that change messages are committed in transactions of their own, between those before and after them. */
function runsOf (batch: readonly QueuedEvent[]): QueuedEvent[][] {
  const runs: QueuedEvent[][] = []
  for (const event of batch) {
    const last = runs.at(-1)
    const changes = event.row.change !== null
    if (last === undefined || (last[0]?.row.change !== null) !== changes || (changes && last.length >= MAX_CHANGES)) runs.push([event])
    else last.push(event)
  }
  return runs
}

const refused = (batch: readonly QueuedEvent[], outcome: Outcome): CommitResult[] => batch.map((event) => ({ name: 'refused', event, outcome }))

/** Refuses events that were not sent to the database. */
export const refuse = (events: readonly QueuedEvent[]): void => { for (const { reject } of events) reject(unavailable('none')) }

export const unavailable = (outcome: Outcome): RealtimeError => new RealtimeError('RT_STORAGE_UNAVAILABLE', undefined, { retryAfter: 1, outcome })

export const noAnswer = (): Error => new Error('the database does not respond')

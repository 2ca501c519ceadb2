import type { FastifyBaseLogger } from 'fastify'
import { HANDED } from '../backplane/contract.js'
import type { Clock } from '../clock.js'
import { isDuplicate, isTransient } from '../database/failures.js'
import { RealtimeError } from '../errors.js'
import { inTime } from '../in-time.js'
import type { StoredEvent } from './contract.js'
import type { EventRow } from './inserts.js'
import { DEDUPE_WINDOW, type EventStore } from './store.js'

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
type Tell = () => void

export interface CommitQueueOptions {
  store: EventStore
  clock: Clock
  log: FastifyBaseLogger
  /** Events that may wait for the database. */
  maxQueued: number
  /** Milliseconds until a database that does not answer counts as away. */
  timeout: number
  /** Called in order, after the commit; the sender is told when it resolves. Never rejects. */
  committed (entry: Entry, committed: Committed): Promise<void>
  /** Called after each statement that was committed. */
  measured?: ((rows: number, seconds: number) => void) | undefined
}

/** Rows, and bytes of payload, of one statement. */
const MAX_ROWS = 500
const MAX_BYTES = 2 * 1024 * 1024
const PROBE_INTERVAL = 500

/**
 * Group commit: one statement at a time; what arrives while it is under way forms the next one. The batch is as wide as
 * the load makes it, and a lone event is committed at once. One writer per node also gives one order: a statement begins
 * after the one before it is committed, and is told of after the one before it was.
 *
 * While the database is away every event is refused at once, and a probe finds out when it is back.
 */
export class CommitQueue {
  readonly #options: CommitQueueOptions
  #waiting: Entry[] = []
  #running: Promise<void> | null = null
  #away = false
  #probe: NodeJS.Timeout | null = null
  #closed = false

  constructor (options: CommitQueueOptions) {
    this.#options = options
  }

  get healthy (): boolean {
    return !this.#away
  }

  get queued (): number {
    return this.#waiting.length
  }

  push (entry: Entry): void {
    if (this.#away || this.#closed || this.#waiting.length >= this.#options.maxQueued) {
      entry.reject(unavailable())
      return
    }
    this.#waiting.push(entry)
    // At the end of the turn: what one read from a socket brought along is one batch.
    this.#running ??= new Promise<void>((resolve) => setImmediate(resolve)).then(async () => { await this.#run() })
  }

  /** Waits until everything accepted so far is committed or refused. */
  async close (): Promise<void> {
    this.#closed = true
    await this.#running
    if (this.#probe !== null) clearTimeout(this.#probe)
    this.#probe = null
  }

  async #run (): Promise<void> {
    let told = Promise.resolve()
    while (this.#waiting.length > 0 && !this.#away) {
      const tell = await this.#commit(this.#take())
      await told
      if (this.#waiting.length === 0 || this.#away) tell()
      // The next statement first: the database works on it while these are handed on.
      else told = new Promise((resolve) => setImmediate(() => { tell(); resolve() }))
    }
    refuse(this.#waiting.splice(0))()
    this.#running = null
  }

  #take (): Entry[] {
    let bytes = 0
    let count = 0
    while (count < this.#waiting.length && count < MAX_ROWS && (count === 0 || bytes < MAX_BYTES)) {
      bytes += this.#waiting[count]?.row.payload.length ?? 0
      count++
    }
    return this.#waiting.splice(0, count)
  }

  /** Stores a batch. Resolves to what tells its senders, and before them everyone else; never rejects. */
  async #commit (batch: Entry[]): Promise<Tell> {
    const began = performance.now()
    const deadline = Date.now() + this.#options.timeout
    let lookUp = batch.filter(({ keyed }) => keyed)
    for (;;) {
      const storing = this.#store(batch, lookUp)
      try {
        const tell = await inTime(storing, deadline - Date.now(), noAnswer)
        this.#options.measured?.(batch.length, (performance.now() - began) / 1000)
        return tell
      } catch (err) {
        if (!isTransient(err)) return await this.#alone(batch, err)
        if (Date.now() + 100 >= deadline) {
          this.#goAway(err)
          // Answered after all, too late for its senders: everyone else is told.
          storing.then((tell) => { tell() }, () => {})
          return refuse(batch)
        }
        // A connection that broke during the commit leaves the outcome unknown: from now on ask first, by key.
        lookUp = batch
        await new Promise((resolve) => setTimeout(resolve, 50))
      }
    }
  }

  async #store (batch: Entry[], lookUp: Entry[]): Promise<Tell> {
    if (lookUp.length > 0) return await this.#storeOnce(batch, lookUp)
    // Under keys of the node's own, of which none was tried before: none is stored yet, and no two are alike.
    const ids = await this.#options.store.insert(batch.map(({ row }) => row))
    return () => {
      batch.forEach((entry, i) => { this.#settle(entry, { id: ids[i] ?? 0, createdAt: entry.row.createdAt, before: null }) })
    }
  }

  /** Inserts what is not stored yet; one of the client's keys may come twice. */
  async #storeOnce (batch: Entry[], lookUp: Entry[]): Promise<Tell> {
    const { store, clock } = this.#options
    const known = await store.findByKey(lookUp.map(({ row }) => row))
    const results = new Map<Entry, Committed>()
    const expired: number[] = []
    const fresh: Entry[] = []
    const firstOfKey = new Map<string, Entry>()
    for (const waiting of batch) {
      const key = keyOf(waiting.row)
      const found = known.get(key)
      if (found !== undefined && (!waiting.keyed || found.createdAt > clock.now() - DEDUPE_WINDOW)) {
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
    if (handed === HANDED) entry.resolve(committed)
    else void handed.then(() => { entry.resolve(committed) })
  }

  /** One row that the database refuses must not take the others of its batch along. */
  async #alone (batch: Entry[], err: unknown): Promise<Tell> {
    if (batch.length > 1) {
      const all: Tell[] = []
      // Those who are stored must not wait for each of the others to find the database away.
      for (const waiting of batch) all.push(this.#away ? refuse([waiting]) : await this.#commit([waiting]))
      return () => { for (const tell of all) tell() }
    }
    // A key that another node stored meanwhile: asking for it now finds it.
    try {
      if (!isDuplicate(err)) throw err
      return await this.#store(batch, batch)
    } catch (cause) {
      this.#options.log.error({ err: cause }, 'an event cannot be stored')
      return () => { batch[0]?.reject(new RealtimeError('RT_INTERNAL', undefined, { cause })) }
    }
  }

  #goAway (err: unknown): void {
    if (this.#away) return
    this.#away = true
    this.#options.log.error({ err }, 'database away: durable events are refused')
    this.#probeLater()
  }

  #probeLater (): void {
    if (this.#closed) return
    this.#probe = setTimeout(() => {
      inTime(this.#options.store.ping(), this.#options.timeout, noAnswer).then(() => {
        this.#away = false
        this.#options.log.info('database back: durable events are accepted')
      }, () => { this.#probeLater() })
    }, PROBE_INTERVAL)
  }
}

const keyOf = (row: EventRow): string => `${row.tenantId}/${row.userId}/${row.dedupeId}`

const refuse = (batch: readonly Entry[]): Tell => () => { for (const { reject } of batch) reject(unavailable()) }

const unavailable = (): RealtimeError => new RealtimeError('RT_STORAGE_UNAVAILABLE', undefined, { retryAfter: 1 })

const noAnswer = (): Error => new Error('the database does not answer')

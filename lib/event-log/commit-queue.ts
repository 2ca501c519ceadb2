import { Turns } from '../async/turns.js'
import { withTimeout } from '../async/with-timeout.js'
import { isDeadlock } from '../database/failures.js'
import { RealtimeError } from '../errors.js'
import type { Id } from '../ids.js'
import { Committer, noAnswer, refuse, unavailable, type CommitterOptions, type QueuedEvent } from './committer.js'

export type { Committed, QueuedEvent } from './committer.js'

export interface CommitQueueOptions extends Omit<CommitterOptions, 'away'> {
  /** The largest number of events that wait for the database. */
  maxQueued: number
  /** Bytes of payload in one statement. */
  maxBytes?: number
  /** Whether to probe while there is nothing to commit. */
  probeIdle?: boolean
  /** Replaces the connections to the database: they may lead to a server that does not accept events any more. */
  discard?: (() => void) | undefined
}

/** Rows and bytes of payload in one statement. */
const MAX_ROWS = 500
const MAX_BYTES = 2 * 1024 * 1024
/** Rows and bytes of one tenant in a statement, while other tenants use the queue, too: it has to be over soon. */
const TENANT_ROWS = 50
const TENANT_BYTES = 128 * 1024
/** Events of host code that are queued at the same time: events of clients in between never wait for more than two statements. */
const MAX_PATIENT = 2 * MAX_ROWS
/** Events that are queued for one caller before the next caller's. */
const CALLER_CHUNK = 100
const PROBE_INTERVAL_MS = 500
/** Milliseconds without a commit after which the node checks that it may write: reads alone do not reveal that a server was demoted. */
const IDLE_PROBE_MS = 5000
/** Events whose outcome is looked up when the database is back; the sweeper finds the others. */
const MAX_UNKNOWN = 10_000

/**
 * Group commit: one statement at a time; events that arrive while it runs form the next one. Batches grow with the load, and a
 * single event is committed at once. One writer per node also gives one order: a statement starts after the one before it
 * was committed, and its events are published after those of the one before it.
 *
 * While the database is away, events are refused at once, and a probe that writes finds out when it is back.
 */
export class CommitQueue {
  readonly #options: CommitQueueOptions
  readonly #committer: Committer
  readonly #maxBytes: number
  readonly #waiting = new Turns<Id, QueuedEvent>(({ row }) => row.payload.length)
  /** Callers that wait for space in the queue, with their remaining events. */
  #patient: QueuedEvent[][] = []
  /** Events that were refused with the outcome `unknown`: they may be stored. */
  #unknown: QueuedEvent[] = []
  #running: Promise<void> | null = null
  #isUnavailable = false
  #probe: NodeJS.Timeout | null = null
  readonly #idle: NodeJS.Timeout | undefined
  #committedAt = performance.now()
  #closed = false

  constructor (options: CommitQueueOptions) {
    this.#options = options
    this.#maxBytes = Math.min(MAX_BYTES, options.maxBytes ?? MAX_BYTES)
    this.#committer = new Committer({
      ...options,
      away: (err, batch, outcome) => {
        if (outcome === 'unknown' && this.#unknown.length < MAX_UNKNOWN) this.#unknown.push(...batch)
        this.#markUnavailable(err)
      }
    })
    if (options.probeIdle === true) this.#idle = setInterval(() => { this.#probeIdle() }, IDLE_PROBE_MS).unref()
  }

  get healthy (): boolean {
    return !this.#isUnavailable
  }

  get queued (): number {
    return this.#waiting.length
  }

  /** Throws the error with which `pushAll` would refuse this number of events: cheaper than creating them first. */
  requireRoom (tenantId: Id, count: number): void {
    const refusal = this.#refusal(tenantId, count)
    if (refusal !== null) throw refusal
  }

  /** Refuses the event at once if the queue is full. */
  push (event: QueuedEvent): void {
    const { tenantId } = event.row
    const refusal = this.#refusal(tenantId, 1)
    if (refusal !== null) {
      event.reject(refusal)
      return
    }
    this.#waiting.push(tenantId, event)
    this.#start()
  }

  /** Queues all events of a tenant, or refuses all at once if there is not enough space. */
  pushAll (events: QueuedEvent[]): void {
    const [first] = events
    if (first === undefined) return
    const refusal = this.#refusal(first.row.tenantId, events.length)
    if (refusal !== null) {
      for (const event of events) event.reject(refusal)
      return
    }
    for (const event of events) this.#waiting.push(event.row.tenantId, event)
    this.#start()
  }

  /** For any number of events of host code: they wait for space in the queue, and callers take turns. */
  pushPatiently (events: QueuedEvent[]): void {
    if (this.#isUnavailable || this.#closed) {
      refuse(events)
      return
    }
    if (events.length > 0) this.#patient.push([...events])
    this.#fill()
    this.#start()
  }

  /** Rejects if the database does not accept events. */
  async probe (): Promise<void> {
    await this.#ask(async () => { await this.#options.store.probe() })
  }

  async #ask (question: () => Promise<void>): Promise<void> {
    try {
      await withTimeout(question(), this.#options.timeout, noAnswer)
    } catch (err) {
      this.#options.discard?.()
      throw err
    }
  }

  /** Waits until all queued events are committed or refused. */
  async close (): Promise<void> {
    this.#closed = true
    await this.#running
    if (this.#probe !== null) clearTimeout(this.#probe)
    this.#probe = null
    clearInterval(this.#idle)
  }

  /**
   * Null if this number of further events of a tenant may wait. While several tenants use the queue, each has a share: a tenant
   * that fills its share is refused, and the others are not affected.
   */
  #refusal (tenantId: Id, count: number): RealtimeError | null {
    const { maxQueued } = this.#options
    if (this.#isUnavailable || this.#closed) return unavailable('none')
    const isFull = this.#waiting.length + count > maxQueued
    if (!isFull && this.#waiting.length + count <= maxQueued / 2) return null
    const own = this.#waiting.waitingOf(tenantId)
    const isShared = this.#waiting.isShared || (own === 0 && this.#waiting.tenants > 0)
    if (!isShared) return isFull ? unavailable('none') : null
    if (own + count <= maxQueued / (this.#waiting.tenants + 1)) return null
    return own === 0 ? unavailable('none') : new RealtimeError('RT_RATE_LIMITED', 'Too many events of this tenant wait to be stored', { retryAfter: 1 })
  }

  /** Starts at the end of the turn, so that all events of one read from a socket are one batch. */
  #start (): void {
    this.#running ??= new Promise<void>((resolve) => setImmediate(resolve)).then(async () => { await this.#run() })
  }

  async #run (): Promise<void> {
    let announced = Promise.resolve()
    while (this.#waiting.length > 0 && !this.#isUnavailable) {
      const results = await this.#committer.commit(this.#take())
      await announced
      if (!this.#isUnavailable) this.#committedAt = performance.now()
      if (this.#patient.length > 0) this.#fill()
      if (this.#waiting.length === 0 || this.#isUnavailable) this.#committer.announce(results)
      // Sends the next statement first, so that the database works on it while these events are published.
      else announced = new Promise((resolve) => setImmediate(() => { this.#committer.announce(results); resolve() }))
    }
    refuse(this.#waiting.clear())
    for (const events of this.#patient.splice(0)) refuse(events)
    this.#running = null
  }

  #take (): QueuedEvent[] {
    const most = { items: MAX_ROWS, size: this.#maxBytes }
    return this.#waiting.take(most, this.#waiting.isShared ? { items: TENANT_ROWS, size: TENANT_BYTES } : most)
  }

  /** Queues events of host code: each caller's in turn, as far as its tenant has room. */
  #fill (): void {
    const most = Math.min(MAX_PATIENT, this.#options.maxQueued)
    const { isShared } = this.#waiting
    for (let blocked = 0; blocked < this.#patient.length;) {
      const events = this.#patient[0] as QueuedEvent[]
      const tenantId = events[0]?.row.tenantId as Id
      const room = most - (isShared ? this.#waiting.waitingOf(tenantId) : this.#waiting.length)
      if (room <= 0 && !isShared) return
      this.#patient.shift()
      if (room <= 0) blocked++
      else blocked = 0
      for (const event of events.splice(0, Math.max(0, Math.min(CALLER_CHUNK, room)))) this.#waiting.push(tenantId, event)
      if (events.length > 0) this.#patient.push(events)
    }
  }

  #probeIdle (): void {
    if (this.#isUnavailable || this.#closed || performance.now() - this.#committedAt < IDLE_PROBE_MS) return
    this.#ask(async () => { await this.#options.store.checkWritable() }).catch((err: unknown) => {
      if (!this.#closed && !isDeadlock(err)) this.#markUnavailable(err)
    })
  }

  #markUnavailable (err: unknown): void {
    this.#options.discard?.()
    if (this.#isUnavailable) return
    this.#isUnavailable = true
    this.#options.log.error({ err }, 'Database away, durable events are refused')
    this.#probeLater()
  }

  #probeLater (): void {
    if (this.#closed) return
    this.#probe = setTimeout(() => {
      this.#recover().then(() => {
        this.#isUnavailable = false
        this.#options.log.info('Database back, durable events are accepted')
      }, () => { this.#probeLater() })
    }, PROBE_INTERVAL_MS)
  }

  /** First publishes the events that were refused and are stored after all, in the order of their senders. */
  async #recover (): Promise<void> {
    await this.probe()
    while (this.#unknown.length > 0) {
      const some = this.#unknown.slice(0, MAX_ROWS)
      await withTimeout(this.#committer.publishStored(some), this.#options.timeout, noAnswer)
      this.#unknown.splice(0, some.length)
    }
  }
}

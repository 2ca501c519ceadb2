import { withTimeout } from '../async/with-timeout.js'
import { isDeadlock } from '../database/failures.js'
import { Committer, noAnswer, refuse, unavailable, type CommitterOptions, type Entry, type Tell } from './committer.js'

export type { Committed, Entry } from './committer.js'

export interface CommitQueueOptions extends Omit<CommitterOptions, 'away'> {
  /** Events that may wait for the database. */
  maxQueued: number
  /** Bytes of payload of one statement. */
  maxBytes?: number
  /** Probes while there is nothing to commit. */
  probeIdle?: boolean
  /** Replaces the connections to the database: those it has may reach a server that will never take an event again. */
  discard?: (() => void) | undefined
}

/** Rows, and bytes of payload, of one statement. */
const MAX_ROWS = 500
const MAX_BYTES = 2 * 1024 * 1024
/** Events that host code may have waiting, two statements: what clients send in between never waits for longer. */
const PATIENT_ROOM = 2 * MAX_ROWS
/** Events taken from one caller before it is the next one's turn. */
const TURN = 100
const PROBE_INTERVAL_MS = 500
/** Milliseconds without a commit after which the database is asked whether it would take one: reads alone do not tell a server that was demoted. */
const IDLE = 5000
/** Events whose outcome is looked up when the database is back; the sweeper finds the others. */
const MAX_UNSURE = 10_000

/**
 * Group commit: one statement at a time; what arrives while it is under way forms the next one. The batch is as wide as
 * the load makes it, and a lone event is committed at once. One writer per node also gives one order: a statement begins
 * after the one before it is committed, and is told of after the one before it was.
 *
 * While the database is away every event is refused at once, and a probe that writes finds out when it is back.
 */
export class CommitQueue {
  readonly #options: CommitQueueOptions
  readonly #committer: Committer
  readonly #maxBytes: number
  #waiting: Entry[] = []
  /** Callers that wait for room, with what they have not queued yet. */
  #patient: Entry[][] = []
  /** Refused as `unknown`: they may be stored. */
  #unsure: Entry[] = []
  #running: Promise<void> | null = null
  #isUnavailable = false
  #probe: NodeJS.Timeout | null = null
  readonly #idle: NodeJS.Timeout | undefined
  #tookAt = performance.now()
  #closed = false

  constructor (options: CommitQueueOptions) {
    this.#options = options
    this.#maxBytes = Math.min(MAX_BYTES, options.maxBytes ?? MAX_BYTES)
    this.#committer = new Committer({
      ...options,
      away: (err, batch, outcome) => {
        if (outcome === 'unknown' && this.#unsure.length < MAX_UNSURE) this.#unsure.push(...batch)
        this.#markUnavailable(err)
      }
    })
    if (options.probeIdle === true) this.#idle = setInterval(() => { this.#probeIdle() }, IDLE).unref()
  }

  get healthy (): boolean {
    return !this.#isUnavailable
  }

  get queued (): number {
    return this.#waiting.length
  }

  /** Refuses the event at once where there is no room. */
  push (entry: Entry): void {
    if (!this.#takes(1)) {
      entry.reject(unavailable('none'))
      return
    }
    this.#waiting.push(entry)
    this.#start()
  }

  /** All of them or none: refuses them at once where there is no room for all. */
  pushAll (entries: Entry[]): void {
    if (!this.#takes(entries.length)) {
      refuse(entries, 'none')()
      return
    }
    this.#waiting.push(...entries)
    this.#start()
  }

  /** For host code, which may bring any number: they wait for room, those of several callers in turn. */
  pushPatiently (entries: Entry[]): void {
    if (this.#isUnavailable || this.#closed) {
      refuse(entries, 'none')()
      return
    }
    this.#patient.push([...entries])
    this.#fill()
    this.#start()
  }

  /** Whether the database takes an event now. Rejects where it does not. */
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

  /** Waits until everything accepted so far is committed or refused. */
  async close (): Promise<void> {
    this.#closed = true
    await this.#running
    if (this.#probe !== null) clearTimeout(this.#probe)
    this.#probe = null
    clearInterval(this.#idle)
  }

  #takes (count: number): boolean {
    return !this.#isUnavailable && !this.#closed && this.#waiting.length + count <= this.#options.maxQueued
  }

  /** At the end of the turn: what one read from a socket brought along is one batch. */
  #start (): void {
    this.#running ??= new Promise<void>((resolve) => setImmediate(resolve)).then(async () => { await this.#run() })
  }

  async #run (): Promise<void> {
    let announced = Promise.resolve()
    while (this.#waiting.length > 0 && !this.#isUnavailable) {
      const announce: Tell = await this.#committer.commit(this.#take())
      await announced
      if (!this.#isUnavailable) this.#tookAt = performance.now()
      if (this.#patient.length > 0) this.#fill()
      if (this.#waiting.length === 0 || this.#isUnavailable) announce()
      // The next statement first: the database works on it while these are handed on.
      else announced = new Promise((resolve) => setImmediate(() => { announce(); resolve() }))
    }
    refuse(this.#waiting.splice(0), 'none')()
    for (const entries of this.#patient.splice(0)) refuse(entries, 'none')()
    this.#running = null
  }

  #take (): Entry[] {
    let bytes = 0
    let count = 0
    while (count < this.#waiting.length && count < MAX_ROWS && (count === 0 || bytes < this.#maxBytes)) {
      bytes += this.#waiting[count]?.row.payload.length ?? 0
      count++
    }
    return this.#waiting.splice(0, count)
  }

  #fill (): void {
    const most = Math.min(PATIENT_ROOM, this.#options.maxQueued)
    while (this.#patient.length > 0 && this.#waiting.length < most) {
      const entries = this.#patient.shift() as Entry[]
      this.#waiting.push(...entries.splice(0, Math.min(TURN, most - this.#waiting.length)))
      if (entries.length > 0) this.#patient.push(entries)
    }
  }

  #probeIdle (): void {
    if (this.#isUnavailable || this.#closed || performance.now() - this.#tookAt < IDLE) return
    this.#ask(async () => { await this.#options.store.checkWritable() }).catch((err: unknown) => { if (!this.#closed && !isDeadlock(err)) this.#markUnavailable(err) })
  }

  #markUnavailable (err: unknown): void {
    this.#options.discard?.()
    if (this.#isUnavailable) return
    this.#isUnavailable = true
    this.#options.log.error({ err }, 'database away: durable events are refused')
    this.#probeLater()
  }

  #probeLater (): void {
    if (this.#closed) return
    this.#probe = setTimeout(() => {
      this.#comeBack().then(() => {
        this.#isUnavailable = false
        this.#options.log.info('database back: durable events are accepted')
      }, () => { this.#probeLater() })
    }, PROBE_INTERVAL_MS)
  }

  /** What was refused and is stored after all is handed on first, in the order of the senders. */
  async #comeBack (): Promise<void> {
    await this.probe()
    while (this.#unsure.length > 0) {
      const some = this.#unsure.slice(0, MAX_ROWS)
      await withTimeout(this.#committer.settle(some), this.#options.timeout, noAnswer)
      this.#unsure.splice(0, some.length)
    }
  }
}

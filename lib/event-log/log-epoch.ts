import { setTimeout as sleep } from 'node:timers/promises'
import type { FastifyBaseLogger } from 'fastify'
import { coalesceReads } from '../async/coalesce-reads.js'
import { withTimeout } from '../async/with-timeout.js'
import type { OutgoingEvent } from '../backplane/contract.js'
import { drawEpoch, isFirstEpoch, isLaterEpoch, type DatabaseMeta } from '../database/meta.js'
import type { LogPosition, PositionNote } from './contract.js'
import { MAX_ID, type EpochStore, type LogFacts } from './epoch-store.js'

/** Milliseconds between two comparisons with the table and with the note in Redis. */
const INTERVAL = 1000
/** Milliseconds that other nodes have to report their newest position. A dead node must not hold up an insert. */
const PEERS_TIMEOUT = 250
/** Milliseconds before the check is repeated, before a new epoch begins: the first read may have reached a replica that lags a little. */
const CONFIRM_AFTER = 100
/** Tries to begin an epoch in one check; more are left to the next one. */
const MAX_TRIES = 5

export interface LogEpochOptions {
  store: EpochStore
  meta: DatabaseMeta
  log: FastifyBaseLogger
  /** Milliseconds after which a database that does not respond counts as away. */
  timeout: number
  note: PositionNote
  /** Sends this node's newest position to the other nodes; resolves to theirs. */
  askPeers (mine: LogPosition): Promise<unknown[]>
  /** The newest durable id that arrived on any channel, and its frame. */
  received: { readonly newest: number, readonly newestFrame: OutgoingEvent | null }
  /** A new epoch has begun: everything known of ids must be forgotten. */
  changed (): void
}

type Sample = Pick<LogPosition, 'id' | 'createdAt'>

/**
 * The epoch of the log, and the checks that guarantee it: within one epoch the log only grows, so that a client with a cursor
 * of the epoch has missed at most the events after it. If the log went back (a restored backup, a truncated table, a promoted
 * replica that lagged), it is detected here: the newest id of the table is below an assigned one, or a known row has changed, or
 * an epoch that was replaced is back. One node then begins a new epoch, whose ids start above all known ones; the others follow.
 */
export class LogEpoch {
  readonly #options: LogEpochOptions
  readonly #look = coalesceReads(async () => await this.#withTimeout(this.#check(null)))
  #epoch: string
  /** Ids up to this one were assigned before the epoch began, or before this node started. */
  #from = 0
  /** The newest id that this node inserted, got from other nodes, and read from the table. */
  #inserted: Sample = { id: 0, createdAt: null }
  #learned: Sample = { id: 0, createdAt: null }
  #read: Sample = { id: 0, createdAt: null }
  #timer: NodeJS.Timeout | null = null
  #beating = false
  #failing = false
  #identityChanged = false

  constructor (options: LogEpochOptions) {
    this.#options = options
    this.#epoch = options.meta.epoch
  }

  get current (): string {
    return this.#epoch
  }

  /** The newest id known to be assigned. Compared with each id that an insert returns. */
  get newest (): number {
    const { newest } = this.#options.received
    return Math.max(this.#inserted.id, this.#learned.id, this.#read.id, newest <= MAX_ID ? newest : 0)
  }

  /** The database has another identity than when this node started: its keys in Redis belong to the old one. */
  get identityChanged (): boolean {
    return this.#identityChanged
  }

  get position (): LogPosition {
    const { id, createdAt } = newestOf(this.#samples())
    return { epoch: this.#epoch, id, createdAt }
  }

  /** Checks now, then periodically. Rejects if the database does not respond now. */
  async start (): Promise<void> {
    await this.verify()
    this.#timer = setInterval(() => { void this.#beat() }, INTERVAL)
    this.#timer.unref()
  }

  stop (): void {
    if (this.#timer !== null) clearInterval(this.#timer)
    this.#timer = null
  }

  /** Call it after each insert of this node, with the last id of the statement and the time of its event. */
  inserted (id: number, createdAt: number): void {
    if (id > this.#inserted.id) this.#inserted = { id, createdAt: Math.floor(createdAt) }
  }

  /**
   * Whether a cursor belongs to the current log. Reads the database and not memory, because the log may just have gone back.
   * Without an epoch only the id is checked; ids skipped at the start of an epoch do not belong to the log.
   */
  async gaveOut (since: number, epoch?: string): Promise<boolean> {
    if (since === 0) return true
    const { newest } = await this.look()
    if (since > newest) return false
    if (epoch !== undefined) return epoch === this.#epoch
    return isFirstEpoch(this.#epoch) || !await this.#options.store.isSkipped(since)
  }

  /** Records the position of another node. */
  learn (position: unknown): void {
    if (!isPosition(position)) return
    if (position.id > this.newest) this.#learned = { id: position.id, createdAt: position.createdAt }
    if (position.epoch !== this.#epoch) this.look().catch(() => {}) // the next interval checks again
  }

  /** Checks the database, and begins a new epoch if necessary. Concurrent calls share one check. */
  look (): Promise<LogFacts> {
    return this.#look('')
  }

  /**
   * The same check, with the current positions of all other nodes: after a start, and when an insert failed or returned an id
   * that is not above `known`, an id assigned before.
   */
  async verify ({ known = null }: { known?: number | null } = {}): Promise<void> {
    await this.#exchange()
    await this.#withTimeout(this.#check(known))
  }

  async #beat (): Promise<void> {
    if (this.#beating) return
    this.#beating = true
    try {
      this.learn(await this.#options.note.keep(this.position).catch(() => null))
      await this.look()
      this.#failing = false
    } catch (err) {
      if (!this.#failing) this.#options.log.warn({ err }, 'Cannot compare the event log with its known state')
      this.#failing = true
    } finally {
      this.#beating = false
    }
  }

  async #withTimeout<T> (asking: Promise<T>): Promise<T> {
    return await withTimeout(asking, this.#options.timeout, () => new Error('the database does not answer'))
  }

  async #exchange (): Promise<void> {
    const { note, askPeers } = this.#options
    const mine = this.position
    const learned = Promise.all([
      note.keep(mine).then((noted) => { this.learn(noted) }),
      askPeers(mine).then((known) => { for (const position of known) this.learn(position) })
    ])
    await withTimeout(learned, PEERS_TIMEOUT, () => new Error('no answer')).catch(() => {}) // Redis is away: this node's own knowledge has to suffice
  }

  async #check (suspect: number | null): Promise<LogFacts> {
    const { store } = this.#options
    const began = this.#epoch
    for (let tries = 0; tries < MAX_TRIES; tries++) {
      // Taken before the read, because rows stored during the read are not part of it. A suspect id belongs to the epoch read.
      const known = this.#known(this.#epoch === began ? suspect : null)
      const facts = await store.facts(known.samples.map(({ id }) => id))
      if (known.epoch !== this.#epoch) continue
      const reason = reasonOf(known, facts)
      if (reason === null) {
        this.#follow(facts)
        return facts
      }
      await sleep(CONFIRM_AFTER)
      await this.#begin(suspect, facts.epoch, reason)
    }
    throw new Error('the event log changes while it is compared')
  }

  async #begin (suspect: number | null, from: string, reason: string): Promise<void> {
    const { store, log } = this.#options
    await this.#exchange()
    const known = this.#known(suspect)
    const to = drawEpoch([from, this.#epoch])
    const begun = await store.begin({
      from,
      to,
      past: this.newest,
      samples: known.samples.map(({ id }) => id),
      wentBack: (facts) => known.epoch === this.#epoch && reasonOf(known, facts) !== null
    })
    if (!begun) return
    log.warn({ epoch: to, before: from, reason }, 'The event log went back: a new epoch begins')
    // Immediately: a restore in progress may put the old epoch back a moment later, and that must be detected.
    this.#follow({ epoch: to, identity: this.#options.meta.identity, newest: 0, newestAt: 0 })
  }

  #follow ({ epoch, identity, newest, newestAt }: Omit<LogFacts, 'samples'>): void {
    const { meta, log, changed } = this.#options
    if (newest > this.#read.id) this.#read = { id: newest, createdAt: newestAt }
    if (!this.#identityChanged && identity !== meta.identity) {
      this.#identityChanged = true
      log.error('The identity of the database has changed since this node started: restart every node, so that all use the same keys in Redis')
    }
    if (epoch === this.#epoch) return
    log.info({ epoch, before: this.#epoch }, 'This node follows the new epoch')
    this.#epoch = epoch
    // The known rows belong to the previous log; the ids stay reserved.
    this.#from = this.newest
    changed()
    void this.#exchange()
  }

  #known (suspect: number | null): Known {
    const samples = this.#samples().filter(({ id, createdAt }) => id >= this.#from && createdAt !== null)
    if (suspect !== null) samples.unshift({ id: suspect, createdAt: null })
    return { epoch: this.#epoch, newest: this.newest, samples, suspect: suspect !== null }
  }

  #samples (): Sample[] {
    const { newest: id, newestFrame } = this.#options.received
    return [this.#inserted, this.#learned, this.#read, { id: id <= MAX_ID ? id : 0, createdAt: newestFrame === null ? null : timeOf(newestFrame) }]
  }
}

interface Known {
  epoch: string
  newest: number
  samples: Sample[]
  /** The row of the first sample must exist; otherwise ids are being assigned again. */
  suspect: boolean
}

/** Why these facts contradict the known log; null if they do not. */
function reasonOf ({ epoch, newest, samples, suspect }: Known, facts: LogFacts): string | null {
  if (facts.newest < newest) return `its newest id is ${facts.newest}, and ${newest} was given out`
  if (facts.epoch !== epoch) return isLaterEpoch(facts.epoch, epoch) ? null : `its epoch was replaced by ${epoch} before`
  for (const [i, { id, createdAt }] of samples.entries()) {
    const time = facts.samples[i] ?? null
    if (time !== null && createdAt !== null && time !== createdAt) return `id ${id} is another event's`
    if (time === null && suspect && i === 0) return `id ${id} is gone, and ids below it are given out`
  }
  return null
}

const newestOf = (samples: readonly Sample[]): Sample =>
  samples.reduce((newest, sample) => sample.id > newest.id || (sample.id === newest.id && newest.createdAt === null) ? sample : newest)

/** When the event of a frame was stored, as its data say. */
function timeOf ({ payload }: OutgoingEvent): number | null {
  try {
    const time = Date.parse((JSON.parse(payload.toString()) as { data: { timestamp: string } }).data.timestamp)
    return Number.isNaN(time) ? null : time
  } catch {
    return null
  }
}

/** Checks a value from outside this process. */
function isPosition (value: unknown): value is LogPosition {
  if (typeof value !== 'object' || value === null) return false
  const { epoch, id, createdAt } = value as Partial<Record<keyof LogPosition, unknown>>
  return typeof epoch === 'string' && /^[A-Za-z0-9_-]{1,32}$/.test(epoch) && Number.isSafeInteger(id) && Number(id) >= 0 && Number(id) <= MAX_ID &&
    (createdAt === null || Number.isSafeInteger(createdAt))
}

import { createHash, randomBytes } from 'node:crypto'
import type { FastifyBaseLogger } from 'fastify'
import { withTimeout } from '../async/with-timeout.js'
import { PUBLISHED, type Backplane } from '../backplane/contract.js'
import { toIso, type Clock } from '../clock.js'
import type { Database, Dialect, Executor } from '../database/dialect.js'
import type { DatabaseFacts } from '../database/examine.js'
import { outcomeOf, withoutValues } from '../database/failures.js'
import type { DatabaseMeta } from '../database/meta.js'
import { WriteBehind } from '../database/write-behind.js'
import type { Hub } from '../delivery/hub.js'
import { RealtimeError, type Outcome } from '../errors.js'
import type { Id, Ids } from '../ids.js'
import { channelKey } from '../keys.js'
import { encodeStored } from '../wire/protocol.js'
import { wellFormedJson } from '../wire/well-formed.js'
import { CommitQueue, type Committed, type Entry } from './commit-queue.js'
import { Commits, type Inserted } from './commits.js'
import type { Confirmation, Confirmed, EventType, LogPosition, NewEvent, PositionNote, Receipt, StoredEvent } from './contract.js'
import { EpochStore } from './epoch-store.js'
import { MAX_AUDIT_ROWS } from './insert-store.js'
import type { AuditRow, EventRow } from './inserts.js'
import { LogEpoch } from './log-epoch.js'
import { Outbox, RETRY_DELAYS_MS, type OutboxOptions } from './outbox.js'
import { Replays } from './replays.js'
import { EventStore, type GapRange } from './store.js'

export { byChannel, MAX_REPLAY, type Confirmed, type EventType, type NewEvent, type Receipt, type StoredEvent } from './contract.js'

/** Every reader takes an event of this size: a client may send as much. */
const MIN_EVENT_BYTES = 64 * 1024
/** What waits for a reader, at most, unless its node says otherwise. */
const MAX_BUFFERED = 1024 * 1024

export interface EventLogOptions {
  db: Database
  dialect: Dialect
  /** What is known of the server; see database/examine.ts. */
  facts?: DatabaseFacts
  /** Replaces the connections to a database that takes no events. */
  discard?: () => void
  backplane: Backplane
  hub: Hub
  clock: Clock
  log: FastifyBaseLogger
  /** Events that may wait for the database, 10 000. */
  maxQueued: number
  /** Milliseconds until a database that does not answer counts as away, 3000. */
  timeout: number
  meta: DatabaseMeta
  ids: Ids
  /** Where the newest position of all nodes is kept besides the table. */
  note: PositionNote
  /** Tells the other nodes this node's position; resolves with theirs. */
  askPeers (mine: LogPosition): Promise<unknown[]>
  /** A new epoch began: whatever is remembered of ids belongs to the old one. */
  epochChanged (): void
  onlineAmong: OutboxOptions['onlineAmong']
  onFailed: OutboxOptions['onFailed']
  onCommit?: (rows: number, seconds: number) => void
}

/** A page of a channel's events: `recovered` false where something before it is gone and the client must reload. */
export interface Recovery {
  events: StoredEvent[]
  position: number
  recovered: boolean
  more: boolean
}

/** The durable events of all channels (websocket_events): stored first, then told; read again by those who missed them. */
export class EventLog {
  readonly outbox: Outbox
  readonly store: EventStore
  readonly replays: Replays
  /** Bytes of one event at most: what a reader must be able to take at once. */
  maxEventBytes = 0
  /** The epoch of the log, part of every cursor. */
  readonly epoch: LogEpoch
  readonly #queue: CommitQueue
  readonly #audit: WriteBehind<AuditRow>
  readonly #types = new Map<string, EventType>()
  readonly #options: EventLogOptions
  /** Begins every key of this node's own: short, as an index holds it, and unlike that of any other boot. */
  readonly #ownKeys = `n:${randomBytes(12).toString('base64url')}:`
  #serial = 0
  readonly #commits = new Commits((inserted) => {
    this.#handCommitted(inserted).catch((err: unknown) => { this.#options.log.debug({ err }, 'events of a transaction wait for the sweeper') })
  })

  constructor (options: EventLogOptions) {
    const { db, dialect, ids, facts, discard, backplane, clock, log, maxQueued, timeout, onCommit } = options
    this.#options = options
    this.epoch = new LogEpoch({
      store: new EpochStore(db, ids, backplane.nodeId),
      meta: options.meta,
      log,
      timeout,
      note: options.note,
      askPeers: options.askPeers,
      heard: options.hub,
      changed: () => {
        options.hub.forgetIds()
        options.epochChanged()
      }
    })
    this.store = new EventStore(db, dialect, ids, backplane.nodeId, this.epoch, facts?.consecutiveIds)
    this.outbox = new Outbox({ ...options, store: this.store, typeOf: (name) => this.#types.get(name) ?? {} })
    this.replays = new Replays({
      ...options,
      outbox: this.outbox,
      copiedTypes: () => [...this.#types].filter(([, { copyToSender }]) => copyToSender === true).map(([type]) => type),
      epoch: this.epoch,
      ask: async (read) => await this.ask(read)
    })
    this.#queue = new CommitQueue({
      store: this.store, clock, log, maxQueued, timeout, measured: onCommit, discard, probeIdle: dialect === 'mysql',
      // Escaped, a payload may be twice as long.
      ...(facts === undefined ? {} : { maxBytes: facts.maxPacket / 4 }),
      committed: (entry, committed) => this.#committed(entry, committed)
    })
    this.#audit = new WriteBehind({
      name: 'audit', log, interval: 1000, flushAt: MAX_AUDIT_ROWS.mysql, most: MAX_AUDIT_ROWS[dialect],
      write: async (rows) => { await this.store.insertAudit(rows) }
    })
    this.fitReaders(MAX_BUFFERED)
  }

  /** At most so many bytes wait for a reader: one event must leave half of it free, and a page of a replay most of it. */
  fitReaders (maxBuffered: number): void {
    this.maxEventBytes = Math.max(MIN_EVENT_BYTES, Math.floor(maxBuffered / 2))
    this.replays.pageBytes = Math.floor(maxBuffered / 8)
  }

  /** Throws `RT_INVALID_DATA` where an encoded event is larger than its readers can take. */
  requireSize (event: string | Buffer): void {
    // A character takes at most three bytes: most texts need not be measured.
    if (event.length * 3 <= this.maxEventBytes) return
    const bytes = Buffer.byteLength(event)
    if (bytes <= this.maxEventBytes) return
    throw new RealtimeError('RT_INVALID_DATA', `The event has ${bytes} bytes, and may have ${this.maxEventBytes}`)
  }

  /** False while the database cannot take events. */
  get healthy (): boolean {
    return this.#queue.healthy
  }

  /** Events that wait for the database. */
  get queued (): number {
    return this.#queue.queued
  }

  /** Tells what holds for the events of a type; a type that nobody declared is durable and needs no confirmation. */
  defineType (type: string, options: EventType): void {
    this.#types.set(type, options)
  }

  /** Rejects while the database would not take an event, though it may answer. */
  async probe (): Promise<void> {
    await this.#queue.probe()
  }

  /**
   * Stores an event and hands it to every node. Resolves once it is committed: from then on nothing loses it.
   * Rejects with `RT_INVALID_DATA` where it is too large, with `RT_STORAGE_UNAVAILABLE`, a `retryAfter` and an `outcome`, when
   * the database cannot take it now.
   */
  append (event: NewEvent): Promise<Receipt> {
    return new Promise<Receipt>((resolve, reject) => { this.#queue.push(this.#entryOf(event, resolve, reject)) })
  }

  /**
   * Stores several events, each with a receipt of its own. Where there is no room for all of them none is stored; with
   * `patient` they wait for room, however many they are.
   */
  appendAll (events: readonly NewEvent[], { patient }: { patient: boolean }): Array<Promise<Receipt>> {
    const entries: Entry[] = []
    const receipts = events.map((event) => new Promise<Receipt>((resolve, reject) => { entries.push(this.#entryOf(event, resolve, reject)) }))
    if (patient) this.#queue.pushPatiently(entries)
    else this.#queue.pushAll(entries)
    return receipts
  }

  /**
   * Stores an event within a transaction of the host's. It is handed on right after the commit, and never where the
   * transaction rolls back; `handed` is called then. Where this node dies before, the sweeper of any node hands it on.
   * An insert that repeats a dedupe id fails the statement.
   */
  async appendInTransaction (transaction: Executor, event: NewEvent, allPublished?: (receipt: Receipt) => void): Promise<Receipt> {
    const row = this.#rowOf(event, 0)
    const receipt = { messageId: await this.store.insertInTransaction(transaction, row), timestamp: toIso(row.createdAt) }
    await this.#commits.watch(transaction, receipt.messageId, allPublished === undefined ? undefined : () => { allPublished(receipt) })
    return receipt
  }

  async #handCommitted (inserted: Inserted): Promise<void> {
    // Without those that a savepoint took back, and those where a sweeper was faster.
    for (const event of await this.store.unhandedAmong([...inserted.keys()])) {
      await this.outbox.publish({ ...event, excludeConnectionId: null })
      if (this.#types.get(event.type)?.requiresConfirmation === true) await this.outbox.awaitConfirmation(event.id)
      inserted.get(event.id)?.()
    }
  }

  /** The audit row of an ephemeral event, written behind; lost rows of this kind harm nobody. */
  audit (event: Omit<NewEvent, 'excludeConnectionId' | 'dedupeId'>): void {
    const { tenantId, userId, type, channel, data } = event
    this.#audit.put({ tenantId, userId, type, channel, payload: wellFormedJson(data), createdAt: this.#options.clock.now() })
  }

  /** Events after `since` on a channel, oldest first, at most `limit`; none where the cursor, `since` with its `epoch`, is not one of this log. */
  async read (tenantId: Id, channel: string, since: number, limit: number, epoch?: string): Promise<Recovery> {
    const [isOurs, floor, later, earlier] = await this.ask(async () => await Promise.all([
      this.epoch.gaveOut(since, epoch),
      this.store.purgedThrough(tenantId, channel),
      this.store.after(tenantId, channel, since, limit + 1),
      since > 0 ? this.store.lateCommitsBelow(tenantId, channel, since) : []
    ]))
    if (!isOurs) return { events: [], position: await this.replays.position(channelKey(tenantId, channel)), recovered: false, more: false }
    const more = later.length > limit
    const events = [...earlier, ...later.slice(0, limit)]
    return { events, position: later[Math.min(later.length, limit) - 1]?.id ?? since, recovered: since >= floor, more }
  }

  /** What a node may have missed on several channels, oldest first. */
  async readGap (range: GapRange): Promise<StoredEvent[]> {
    return await this.ask(async () => await this.store.readGap(range))
  }

  /**
   * Their recipients have these events: they are not sent again. Answers those that are such events, each `fresh` the first
   * time; `confirmed` is called with them also where the database answered too late for the caller.
   */
  async confirm (confirmations: readonly Confirmation[], confirmed?: (found: Confirmed[]) => void): Promise<Confirmed[]> {
    const allPublished = !this.outbox.isBehind
    return await this.ask(async () => await this.store.confirm(confirmations, this.#options.clock.now(), allPublished).then((found) => {
      confirmed?.(found)
      return found
    }))
  }

  /** Events of a tenant by status. */
  async counts (tenantId: Id): Promise<{ pending: number, failed: number }> {
    return await this.ask(async () => await this.store.counts(tenantId))
  }

  /** The wire form of a stored event. */
  encode ({ type, id, payload }: StoredEvent): Buffer {
    return encodeStored(type, id, payload)
  }

  /** Commits and marks what is under way. */
  async close (): Promise<void> {
    await this.#queue.close()
    // Publishing ends with the turn; what is handed by then is marked.
    await new Promise<void>((resolve) => setImmediate(() => setImmediate(resolve)))
    await this.outbox.drain()
    await this.#audit.close()
  }

  #entryOf (event: NewEvent, resolve: (receipt: Receipt) => void, reject: (err: Error) => void): Entry {
    return {
      row: this.#rowOf(event, RETRY_DELAYS_MS[0]),
      keyed: event.dedupeId !== undefined,
      except: event.excludeConnectionId ?? null,
      resolve: ({ id, createdAt }) => { resolve({ messageId: id, timestamp: toIso(createdAt) }) },
      reject
    }
  }

  #rowOf ({ tenantId, userId, type, channel, data, dedupeId, createdAt = this.#options.clock.now() }: NewEvent, dueIn: number): EventRow {
    const payload = withTimestamp(data, toIso(createdAt))
    this.requireSize(payload)
    return {
      tenantId,
      userId,
      type,
      channel,
      payload,
      createdAt,
      // The client's keys and the node's own live apart, so that nobody can guess another's.
      dedupeId: dedupeId === undefined ? `${this.#ownKeys}${this.#serial++}` : clientKey(dedupeId),
      dueAt: createdAt + dueIn
    }
  }

  /**
   * A statement for a client that waits for it: refused at once while the database is away, and after its time, so that
   * nobody queues up behind it. Rejects with `RT_STORAGE_UNAVAILABLE`, whatever the database says.
   */
  async ask<T> (statement: () => Promise<T>): Promise<T> {
    if (!this.healthy) throw refused('none')
    try {
      return await withTimeout(statement(), this.#options.timeout, () => refused('unknown'))
    } catch (err) {
      throw err instanceof RealtimeError ? err : refused(outcomeOf(err), withoutValues(err))
    }
  }

  #committed ({ row, except: excludeConnectionId }: Entry, { id, before }: Committed): Promise<void> {
    // Sent before, through a node that died before it handed it on: now is its place in the sender's order.
    if (before !== null) return before.publishedAt === null ? this.outbox.publish({ ...before, excludeConnectionId }) : PUBLISHED
    const { tenantId, userId, channel, type, payload } = row
    return this.outbox.publish({ id, tenantId, userId, channel, type, payload, excludeConnectionId })
  }
}

const refused = (outcome: Outcome, cause?: unknown): RealtimeError =>
  new RealtimeError('RT_STORAGE_UNAVAILABLE', 'The database cannot be asked now', { retryAfter: 1, outcome, cause })

/** Characters of a client's key that its column holds. */
const MAX_KEY = 98

/**
 * A client's key as it is stored. One that is too long, or that the database would take for another (it ignores blanks at
 * the end), is stored by its hash.
 */
function clientKey (dedupeId: string): string {
  const plain = dedupeId.length <= MAX_KEY && !dedupeId.endsWith(' ') && dedupeId.isWellFormed()
  return plain ? `c:${dedupeId}` : `h:${createHash('sha256').update(dedupeId).digest('base64url')}`
}

/** The JSON of an event's data with its time. Put at the end of the text: a copy of the data cost more than the rest. */
function withTimestamp (data: Record<string, unknown>, timestamp: string): string {
  if ('timestamp' in data) return wellFormedJson({ ...data, timestamp })
  const text = wellFormedJson(data)
  return `${text.slice(0, -1)}${text === '{}' ? '' : ','}"timestamp":"${timestamp}"}`
}

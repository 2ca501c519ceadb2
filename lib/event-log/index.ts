import type { FastifyBaseLogger } from 'fastify'
import type { MaybePromise } from '../async/maybe-promise.js'
import { withTimeout } from '../async/with-timeout.js'
import type { Backplane } from '../backplane/contract.js'
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
import { ClaimStore } from './claim-store.js'
import { CommitQueue, type Committed, type QueuedEvent } from './commit-queue.js'
import type { Confirmation, Confirmed, EventType, LogPosition, NewEvent, PositionNote, Receipt, Recovery, StoredEvent } from './contract.js'
import { Departures } from './departures.js'
import { EpochStore } from './epoch-store.js'
import { HostEvents } from './host-events.js'
import { MAX_AUDIT_ROWS } from './insert-store.js'
import type { AuditRow } from './inserts.js'
import { LogEpoch } from './log-epoch.js'
import { asStored, NewRows } from './new-rows.js'
import { Outbox } from './outbox.js'
import { PendingLimit } from './pending-limit.js'
import { PendingStore } from './pending-store.js'
import { Replays } from './replays.js'
import { Retentions } from './retentions.js'
import { EventStore, type GapRange } from './store.js'
import { Sweeper, type SweeperOptions } from './sweeper.js'
import { TenantCounts } from './tenant-counts.js'

export { byChannel, MAX_REPLAY, type Change, type Confirmed, type EventType, type NewEvent, type Receipt, type StoredEvent } from './contract.js'

/** Every reader accepts an event of this size, because clients may send one. */
const MIN_EVENT_BYTES = 64 * 1024
/** The default for bytes that wait for a reader. */
const MAX_BUFFERED = 1024 * 1024
/** Bytes of a page of a replay. */
const MAX_PAGE_BYTES = 1024 * 1024

export interface EventLogOptions {
  db: Database
  dialect: Dialect
  /** Properties of the server; see database/examine.ts. */
  facts?: DatabaseFacts
  /** Replaces the connections to a database that does not accept events. */
  discard?: () => void
  backplane: Backplane
  hub: Hub
  clock: Clock
  log: FastifyBaseLogger
  /** The largest number of events that wait for the database, 10 000. */
  maxQueued: number
  /** Whether ephemeral events leave rows; by default they do. */
  auditsEphemeral?: boolean
  /** Milliseconds after which a database that does not respond counts as away, 3000. */
  timeout: number
  meta: DatabaseMeta
  ids: Ids
  /** Stores the newest position of all nodes outside of the database. */
  note: PositionNote
  /** Sends this node's position to the other nodes; resolves with theirs. */
  askPeers (mine: LogPosition): Promise<unknown[]>
  /** Called after a new epoch began: remembered ids belong to the old one. */
  epochChanged (): void
  connectedAmong: SweeperOptions['connectedAmong']
  onFailed: SweeperOptions['onFailed']
  onWaiting: SweeperOptions['onWaiting']
  isWaitingHeard: SweeperOptions['isWaitingHeard']
  /** An event was stored and published. */
  onStored (event: Omit<NewEvent, 'change' | 'dedupeId' | 'createdAt' | 'excludeConnectionId'>, id: number): void
  onCommit?: (rows: number, seconds: number) => void
}

/** The durable events of all channels (websocket_events). They are stored, then published, and can be read again. */
export class EventLog {
  /** For this folder and its tests; other code calls `catchUp`, `sweep` and `markSent`. */
  readonly outbox: Outbox
  /** For this folder and its tests. */
  readonly store: EventStore
  readonly replays: Replays
  readonly pendingLimit: PendingLimit
  readonly sweeper: Sweeper
  /** Users whose connections end are reported here. */
  readonly departures: Departures
  readonly rows: NewRows
  /** The largest size of an event, in bytes: a reader must be able to accept it at once. */
  maxEventBytes = 0
  /** The epoch of the log, part of every cursor. */
  readonly epoch: LogEpoch
  readonly #queue: CommitQueue
  readonly #claims: ClaimStore
  readonly #counts = new TenantCounts(async (tenantId) => await this.ask(async () => await this.store.countByStatus(tenantId)))
  readonly audits: WriteBehind<AuditRow>
  readonly #types = new Map<string, EventType>()
  #copiedTypes: readonly string[] = []
  readonly #options: EventLogOptions
  readonly #commits: HostEvents

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
      received: options.hub,
      changed: () => {
        options.hub.forgetIds()
        options.epochChanged()
      }
    })
    this.store = new EventStore(db, dialect, ids, backplane.nodeId, this.epoch, facts?.consecutiveIds)
    this.#claims = new ClaimStore(db, dialect, ids)
    this.pendingLimit = new PendingLimit({ ...options, store: new PendingStore(db, ids) })
    const typeOf = (name: string): EventType => this.#types.get(name) ?? {}
    this.outbox = new Outbox({ ...options, store: this.store, pendingLimit: this.pendingLimit, typeOf })
    this.#commits = new HostEvents({ ...options, store: this.store, claims: this.#claims, outbox: this.outbox, typeOf })
    this.sweeper = new Sweeper({
      ...options, store: this.store, claims: this.#claims, outbox: this.outbox, typeOf,
      recipientOf: (event) => this.outbox.recipientOf(event),
      onStored: (event) => { this.#commits.announce(event) }
    })
    this.rows = new NewRows({
      ids, clock, typeOf, retentions: new Retentions(db, dialect), requireSize: (payload) => { this.requireSize(payload) }, waitingAfter: () => this.sweeper.waitingAfter
    })
    this.departures = new Departures({ ...options, claims: this.#claims })
    this.replays = new Replays({
      ...options,
      outbox: this.outbox,
      copiedTypes: () => this.#copiedTypes,
      epoch: this.epoch,
      ask: async (read) => await this.ask(read)
    })
    this.#queue = new CommitQueue({
      store: this.store, clock, log, maxQueued, timeout, measured: onCommit, discard, probeIdle: dialect === 'mysql',
      // A payload may be twice as long after escaping.
      ...(facts === undefined ? {} : { maxBytes: facts.maxPacket / 4 }),
      committed: (event, committed) => this.#committed(event, committed),
      announced: ({ row, data }, id) => { options.onStored(asStored(row, data), id) }
    })
    this.audits = new WriteBehind({
      name: 'audit', log, interval: 1000, flushAt: MAX_AUDIT_ROWS.mysql, most: MAX_AUDIT_ROWS[dialect],
      write: async (rows) => { await this.store.insertAudit(rows) }
    })
    this.fitReaders(MAX_BUFFERED)
  }

  /** Limits sizes so that `maxBuffered` bytes can wait for a reader: an event may take half of that, a page of a replay an eighth. */
  fitReaders (maxBuffered: number): void {
    this.maxEventBytes = Math.max(MIN_EVENT_BYTES, Math.floor(maxBuffered / 2))
    // However much may wait for a reader, a page is in memory as a whole.
    this.replays.pageBytes = Math.min(MAX_PAGE_BYTES, Math.floor(maxBuffered / 8))
  }

  /** Throws `RT_INVALID_DATA` if an encoded event is too large for its readers. */
  requireSize (event: string | Buffer): void {
    // A character has at most three bytes, so that most texts need not be measured.
    if (event.length * 3 <= this.maxEventBytes) return
    const bytes = Buffer.byteLength(event)
    if (bytes <= this.maxEventBytes) return
    throw new RealtimeError('RT_INVALID_DATA', `The event has ${bytes} bytes, and may have ${this.maxEventBytes}`)
  }

  /** False while the database does not accept events. */
  get healthy (): boolean {
    return this.#queue.healthy
  }

  /** Events that wait for the database. */
  get queued (): number {
    return this.#queue.queued
  }

  /** More waits for the database than newcomers should add to. */
  get isBehind (): boolean { return this.healthy && this.queued > this.#options.maxQueued / 4 }

  /** Defines properties of a type of events. Types without a definition need no confirmation. */
  defineType (type: string, options: EventType): void {
    this.#types.set(type, options)
    this.#copiedTypes = [...this.#types].filter(([, { copyToSender }]) => copyToSender === true).map(([type]) => type)
  }

  /** Rejects while the database does not accept events, even if it responds. */
  async probe (): Promise<void> {
    await this.#queue.probe()
  }

  /**
   * Stores an event and publishes it. Resolves after the commit: from then on the event cannot be lost. Rejects with
   * `RT_INVALID_DATA` if it is too large, and with `RT_STORAGE_UNAVAILABLE`, a `retryAfter` and an `outcome` while the
   * database cannot store it.
   */
  append (event: NewEvent): Promise<Receipt> {
    return new Promise<Receipt>((resolve, reject) => { this.#queue.push(this.#queuedOf(event, resolve, reject)) })
  }

  /** Throws if this number of events of a tenant cannot be queued now. */
  requireRoom (tenantId: Id, count: number): void { this.#queue.requireRoom(tenantId, count) }

  /**
   * Stores several events, each with a receipt of its own. If the queue has not enough space for all, none is stored; with
   * `patient`, any number of events waits for space.
   */
  appendAll (events: readonly NewEvent[], { patient }: { patient: boolean }): Array<Promise<Receipt>> {
    const queued: QueuedEvent[] = []
    const receipts = events.map((event) => new Promise<Receipt>((resolve, reject) => { queued.push(this.#queuedOf(event, resolve, reject)) }))
    if (patient) this.#queue.pushPatiently(queued)
    else this.#queue.pushAll(queued)
    return receipts
  }

  /**
   * Stores an event in a transaction of the host. It is published right after the commit, not after a rollback. If this node
   * dies before, the sweeper of any node publishes the event. The statement fails if it repeats a dedupe id.
   */
  async appendInTransaction (transaction: Executor, event: NewEvent): Promise<Receipt> {
    const row = this.rows.of(event, true)
    const receipt = { messageId: await this.store.insertInTransaction(transaction, row), timestamp: toIso(row.createdAt) }
    await this.#commits.watch(transaction, receipt.messageId)
    return receipt
  }

  /** Records an ephemeral event. The row is written later and may be lost. */
  audit (event: Omit<NewEvent, 'excludeConnectionId' | 'dedupeId'>): void {
    if (this.#options.auditsEphemeral === false) return
    const { tenantId, userId, type, channel, data } = event
    this.audits.put({ tenantId, userId, type, channel, payload: wellFormedJson(data), createdAt: this.#options.clock.now() })
  }

  /**
   * At most `limit` events of a channel after `since`, oldest first, and late ones before it. None if the cursor (`since` and
   * `epoch`) is not from this log.
   */
  async read (tenantId: Id, channel: string, since: number, limit: number, epoch?: string): Promise<Recovery> {
    const copies = this.replays.copiesOf(channelKey(tenantId, channel))
    const [isOurs, floor, own, copied, late] = await this.ask(async () => await Promise.all([
      this.epoch.gaveOut(since, epoch),
      this.store.purgedThrough(tenantId, channel),
      this.store.after(tenantId, channel, since, limit + 1),
      copies === null ? [] : this.store.copiesAfter(tenantId, copies, channel, since, limit + 1),
      since > 0 ? this.replays.lateBelow(channelKey(tenantId, channel), since) : []
    ]))
    const later = copied.length === 0 ? own : [...own, ...copied].sort((a, b) => a.id - b.id).slice(0, limit + 1)
    const earlier = late.length === 0 ? [] : await this.ask(async () => await this.store.byIds(late))
    if (!isOurs) return { events: [], position: await this.replays.position(channelKey(tenantId, channel)), recovered: false, more: false }
    const more = later.length > limit
    const events = [...earlier, ...later.slice(0, limit)]
    return { events, position: later[Math.min(later.length, limit) - 1]?.id ?? since, recovered: since >= floor, more }
  }

  /** Events that a node may have missed on several channels, oldest first. */
  async readGap (range: GapRange): Promise<StoredEvent[]> {
    return await this.ask(async () => await this.store.readGap(range, this.#copiedTypes))
  }

  /**
   * Records that recipients have received events, which are then not sent again. Returns the existing ones, `fresh` if this is
   * their first confirmation. `confirmed` is called with them even if the database responded too late for the caller.
   */
  async confirm (confirmations: readonly Confirmation[], confirmed?: (found: Confirmed[]) => void): Promise<Confirmed[]> {
    const allPublished = !this.outbox.isBehind
    return await this.ask(async () => await this.store.confirm(confirmations, this.#options.clock.now(), allPublished).then((found) => {
      confirmed?.(found)
      return found
    }))
  }

  /** Publishes stored events that other nodes may not have; called when the nodes can be reached again. */
  async catchUp (): Promise<void> {
    await this.outbox.catchUp()
  }

  /** Publishes, retries or gives up events that are due, of all nodes. One node at a time should call it. */
  async sweep (): Promise<void> {
    await this.sweeper.sweep()
  }

  /** Events that were waiting for their recipient were sent: from now on they are retried until they are confirmed. */
  async markSent (ids: readonly number[]): Promise<void> {
    await this.outbox.markSent(ids)
  }

  /** Events of a tenant by status; cached for tenants with very many. */
  async counts (tenantId: Id): Promise<{ pending: number, failed: number }> {
    return await this.#counts.of(tenantId)
  }

  /** The wire form of a stored event. */
  encode ({ type, id, payload }: StoredEvent): Buffer {
    return encodeStored(type, id, payload)
  }

  /** Commits queued events, and marks published ones in the table. */
  async close (): Promise<void> {
    this.departures.stop()
    await this.#queue.close()
    // Publishing ends with the turn of the event loop; then everything published is marked.
    await new Promise<void>((resolve) => setImmediate(() => setImmediate(resolve)))
    await this.outbox.drain()
    await this.audits.close()
  }

  #queuedOf (event: NewEvent, resolve: (receipt: Receipt) => void, reject: (err: Error) => void): QueuedEvent {
    return {
      row: this.rows.of(event, false),
      hasClientKey: event.dedupeId !== undefined,
      excludeConnectionId: event.excludeConnectionId ?? null,
      data: event.data,
      resolve: ({ id, createdAt }) => { resolve({ messageId: id, timestamp: toIso(createdAt) }) },
      reject
    }
  }

  /**
   * Runs a statement for a waiting client. Rejects with `RT_STORAGE_UNAVAILABLE` for any error, at once while the database is
   * away, and after the timeout.
   */
  async ask<T> (statement: () => Promise<T>): Promise<T> {
    if (!this.healthy) throw refused('none')
    try {
      return await withTimeout(statement(), this.#options.timeout, () => refused('unknown'))
    } catch (err) {
      throw err instanceof RealtimeError ? err : refused(outcomeOf(err), withoutValues(err))
    }
  }

  /** Synchronous in a single process (bench rows "direct messages, durable", "lone durable message"). */
  #committed ({ row, excludeConnectionId }: QueuedEvent, { id, existing }: Committed): MaybePromise<void> {
    // Stored by a node that died before it published the event: now it has its place in the sender's order.
    if (existing !== null) return existing.publishedAt === null ? this.outbox.publish({ ...existing, excludeConnectionId }) : undefined
    const { tenantId, userId, channel, type, payload } = row
    return this.outbox.publish({ id, tenantId, userId, channel, type, payload, excludeConnectionId })
  }
}

const refused = (outcome: Outcome, cause?: unknown): RealtimeError =>
  new RealtimeError('RT_STORAGE_UNAVAILABLE', 'The database cannot be read or written now', { retryAfter: 1, outcome, cause })

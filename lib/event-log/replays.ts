import { batchLoader } from '../async/batch-loader.js'
import type { MaybePromise } from '../async/maybe-promise.js'
import { privateOwner } from '../channel-names.js'
import type { Clock } from '../clock.js'
import type { Database, Dialect } from '../database/dialect.js'
import { Batch } from '../delivery/batch.js'
import type { Hub } from '../delivery/hub.js'
import type { Page } from '../delivery/joining.js'
import type { PagePlace } from '../delivery/replayer.js'
import type { Ids } from '../ids.js'
import { channelOf, splitKey, type ChannelKey } from '../keys.js'
import { encodeStored } from '../wire/protocol.js'
import { LATE_PUBLISH_IDS, MAX_REPLAY } from './contract.js'
import type { LogEpoch } from './log-epoch.js'
import type { Outbox } from './outbox.js'
import {
  MAX_CHANNELS, MAX_RANGES, MAX_WAITING_CHANNELS, ReplayStore, type ChannelEnds, type CopiedPlace, type Copies, type PageRange, type PageRows
} from './replay-store.js'

/** Reads of one kind that run at the same time. With more to read, clients wait, so that connections to the database remain for writes. */
const PARALLEL = 3

/** Events of one channel up to its cursor that a resuming stream reads again, and how many of them by their ids. */
const MAX_REREAD = 5000
const MAX_LATE_READ = 900

/** Milliseconds for which the sweeper does not send events that are being replayed, and events of one user at a time. */
const POSTPONED = 60_000
const POSTPONED_ROWS = 5000

/** Where a subscriber begins. */
export interface Start {
  /** The next `since` if the client receives nothing. */
  position: number
  /** False: events can no longer be recovered. The client must reload, and nothing is replayed. */
  recovered: boolean
  /** There is something to replay. */
  isBehind: boolean
  /** Some of it is below `since`. */
  isLate: boolean
}

/** Where the channels of a resuming stream begin. */
export interface Resumption {
  /** All of them are read after this id. */
  since: number
  /** In the order of the channels; with the ids of late events up to `since`. */
  starts: ReadonlyArray<Start & { late: readonly number[] }>
}

export interface ReplaysOptions {
  db: Database
  dialect: Dialect
  ids: Ids
  clock: Clock
  hub: Hub
  outbox: Outbox
  /** The epoch of the log, and whether a cursor belongs to it. */
  epoch: Pick<LogEpoch, 'current' | 'gaveOut' | 'look'>
  /** Types of events that are also published on the sender's private channel. */
  copiedTypes (): readonly string[]
  /** Runs a read for a client; rejects with `RT_STORAGE_UNAVAILABLE`. */
  ask<T> (read: () => Promise<T>): Promise<T>
}

/** A channel, and a position on it. */
interface Place { key: ChannelKey, since: number }

/** The range of one page, see {@link PageRange}. */
interface PageRequest extends Place { kind: PageRange['kind'], below: boolean }

/**
 * The reads of replays: where each begins, and its pages. All requests of one turn, or made while the previous statement runs,
 * share one statement; requests for the same page get the same page, encoded once. No read begins before it was requested, so
 * that it contains everything committed by then.
 */
export class Replays {
  /** Maximum bytes of a page, unless a single event is larger. Set by the connections plugin. */
  pageBytes = 128 * 1024
  readonly #options: ReplaysOptions
  readonly #store: ReplayStore
  /** The check of the log that was begun in this turn. */
  #look: Promise<{ newest: number }> | null = null
  readonly #ends = batchLoader(async (keys: ChannelKey[]) =>
    valuesOf(keys, await this.#options.ask(async () => await this.#store.ends(keys.map((key) => this.#split(key))))), { size: MAX_CHANNELS, parallel: PARALLEL })
  /** Private channels only: only their owner reads them. */
  readonly #copies = batchLoader(async (keys: ChannelKey[]) => {
    const channels = keys.flatMap((key) => {
      const copies = this.copiesOf(key)
      return copies === null ? [] : { ...this.#split(key), copies }
    })
    return valuesOf(keys, await this.#options.ask(async () => await this.#store.newestCopies(channels)))
  }, { size: MAX_RANGES, parallel: PARALLEL })
  readonly #behind = batchLoader(async (places: Place[]) =>
    valuesOf(places, await this.#options.ask(async () => await this.#store.behind(places.map((place) => this.#withCopies(place)), MAX_REPLAY + 1))),
  { size: MAX_RANGES, parallel: PARALLEL, keyOf: nameOfPlace })
  readonly #late = batchLoader(async (places: Place[]) =>
    valuesOf(places, await this.#options.ask(async () => await Promise.all(places.map(async (place) => await this.#store.lateBelow(this.#withCopies(place)))))),
  { size: 1, parallel: PARALLEL, keyOf: nameOfPlace })
  readonly #pages = batchLoader(async (requests: PageRequest[]) => {
    const ranges = requests.map((request): PageRange => ({ ...this.#rangeOf(request), kind: request.kind, below: request.below, copies: request.kind === 'after' ? this.copiesOf(request.key) : null }))
    return valuesOf(requests, (await this.#options.ask(async () => await this.#store.pages(ranges, this.pageBytes))).map(encode))
  }, { size: MAX_RANGES, parallel: PARALLEL, keyOf: ({ kind, since, below, key }) => `${kind}/${since}/${below}/${key}` })
  readonly #together = batchLoader(async (requests: Array<readonly PagePlace[]>) => {
    const pages = await Promise.all(requests.map(async (places) => {
      const ranges = places.map(({ key, since, isFurther }): PageRange => ({ ...this.#rangeOf({ key, since }), kind: 'after', below: isFurther, copies: this.copiesOf(key) }))
      const chunks = chunksOf(ranges, MAX_RANGES)
      return (await Promise.all(chunks.map(async (chunk) => await this.#options.ask(async () => await this.#store.pages(chunk, this.pageBytes / places.length))))).flat().map(encode)
    }))
    return valuesOf(requests, pages)
  }, { size: 1, parallel: PARALLEL, keyOf: (places) => places.map(({ key, since, isFurther }) => `${since}/${isFurther}/${key}`).join(' ') })
  readonly #storedAt = batchLoader(async (ids: number[]) =>
    valuesOf(ids, await this.#options.ask(async () => await Promise.all(ids.map(async (id) => await this.#store.storedAt(id) ?? 0)))), { size: 1, parallel: PARALLEL })
  readonly #reread = batchLoader(async (places: Array<Place & { storedAt: number }>) => {
    const found = await this.#options.ask(async () => await this.#store.reread(places.map((place) => ({ ...this.#withCopies(place), storedAt: place.storedAt })), MAX_REREAD))
    return valuesOf(places, found)
  }, { size: MAX_RANGES, parallel: PARALLEL, keyOf: ({ key, since }) => `${since}/${key}` })
  /** Batched, with a pause between two batches: a mass reconnect costs a handful of statements. */
  readonly #firstWaiting = batchLoader(async (keys: ChannelKey[]) =>
    valuesOf(keys, (await this.#options.ask(async () => await this.#store.waiting(keys.map((key) => this.#split(key)), this.pageBytes))).map(encode)),
  { size: MAX_WAITING_CHANNELS, parallel: PARALLEL, pause: 10 })

  constructor (options: ReplaysOptions) {
    this.#options = options
    this.#store = new ReplayStore(options.db, options.dialect, options.ids)
  }

  /** The position of a subscriber without `since`. Synchronous if the hub knows the latest id (bench row "resume"). */
  position (key: ChannelKey): MaybePromise<number> {
    return this.#options.hub.latestId(key) ?? this.#readEnds(key).then(({ position }) => position)
  }

  /**
   * The position of a subscriber who has seen everything up to `since` in the log of `epoch`. Synchronous, without a query, if
   * the hub knows that `since` is the latest id (bench row "resume"). The channel must have been joined before, so that events
   * of the meantime are not missed.
   */
  start (key: ChannelKey, since: number, epoch?: string): MaybePromise<Start> {
    if (epoch !== undefined && epoch !== this.#options.epoch.current) return this.#unrecovered(key)
    return this.#isAtHead(key, since) ? startAtHead(since) : this.#start(key, since, epoch)
  }

  /**
   * Where a stream begins that resumes with a cursor over all of its channels; null if the cursor belongs to another log, or to
   * none. The channels must have been joined before. `stream-cursor.ts` of the connections plugin explains which events are read
   * again, and why.
   */
  async resume (keys: readonly ChannelKey[], cursor: { epoch: string, id: number } | null): Promise<Resumption> {
    if (cursor === null || !await this.#gaveOut(cursor.id, cursor.epoch)) {
      return { since: 0, starts: await Promise.all(keys.map(async (key) => ({ ...await this.#unrecovered(key), late: [] }))) }
    }
    const { id } = cursor
    // Nothing is at or below an id before the first event.
    const storedAt = await this.#storedAt(id) ?? 0
    const found = await Promise.all(keys.map(async (key) => await this.#resumeOne(key, id, storedAt)))
    const since = Math.min(id, ...found.flatMap(({ again }) => again.filter(({ isRecent }) => isRecent).map((one) => one.id - 1)))
    return {
      since,
      starts: found.map(({ again, recovered, later, position }) => {
        const late = again.flatMap((one) => one.id <= since ? one.id : [])
        // This many rows can only be unmarked if something is wrong.
        const isRecovered = recovered && late.length < MAX_LATE_READ
        const isBehind = isRecovered && (later > 0 || again.length > 0)
        return { position: Math.max(position, id), recovered: isRecovered, isBehind, isLate: isBehind && late.length > 0, late: isBehind ? late : [] }
      })
    }
  }

  async #resumeOne (key: ChannelKey, since: number, storedAt: number): Promise<{ again: ReadonlyArray<{ id: number, isRecent: boolean }>, recovered: boolean, later: number, position: number }> {
    const [{ floor, newest, position }, behind, again] = await Promise.all([
      this.#readEnds(key), this.#behind({ key, since }), this.#reread({ key, since, storedAt })
    ])
    const later = behind?.later ?? 0
    const recovered = since >= floor && since <= newest && later <= MAX_REPLAY && again !== undefined && again !== null
    return { again: recovered ? again : [], recovered, later, position }
  }

  /** Whether nothing can have been missed by someone who has seen everything up to `since`, as far as this node knows. */
  #isAtHead (key: ChannelKey, since: number): boolean {
    const { hub, outbox } = this.#options
    return outbox.isInOrder && hub.isSettledAt(key, since)
  }

  /**
   * A page of the events after `since`; on a private channel including copies of events that its owner sent. A further page also
   * lists the ids `below` it.
   */
  async after (key: ChannelKey, since: number, isFurther = false): Promise<Page> {
    return await this.#pages({ kind: 'after', key, since, below: isFurther }) ?? NO_PAGE
  }

  /** The events with these ids that belong to the channel: up to one page, or a share of one. */
  async byIds (key: ChannelKey, ids: readonly number[], share = 1): Promise<Page> {
    const range = { ...this.#split(key), ids, copies: this.copiesOf(key) }
    return encode(await this.#options.ask(async () => await this.#store.byIds(range, this.pageBytes / share)))
  }

  /** The events after each of these places, together about one page. */
  async together (places: readonly PagePlace[]): Promise<Page[]> {
    return await this.#together(places) ?? []
  }

  /** Ids of events below `since` that someone who has seen `since` may have missed. */
  async lateBelow (key: ChannelKey, since: number): Promise<number[]> {
    return await this.#late({ key, since }) ?? []
  }

  /** A page of unconfirmed events on a user's own channel, above `since`. Null: the first page, read for many users at once. */
  async waiting (key: ChannelKey, since: number | null): Promise<Page> {
    const page = since === null ? this.#firstWaiting(key) : this.#pages({ kind: 'pending', key, since, below: true })
    return await page ?? NO_PAGE
  }

  /** Ids of unconfirmed events on a user's own channel, above `since`. */
  async waitingIds (key: ChannelKey, since: number): Promise<number[]> {
    return await this.#options.ask(async () => await this.#store.waitingIds(this.#rangeOf({ key, since }), POSTPONED_ROWS, false))
  }

  /** Unconfirmed events above `since` on a user's own channel are being replayed: delays their retries. */
  async postpone (key: ChannelKey, since: number): Promise<void> {
    const { outbox, clock } = this.#options
    await outbox.postpone(await this.#store.waitingIds(this.#rangeOf({ key, since }), POSTPONED_ROWS, true), clock.now() + POSTPONED)
  }

  async #start (key: ChannelKey, since: number, epoch?: string): Promise<Start> {
    const { hub } = this.#options
    if (!await this.#gaveOut(since, epoch)) return await this.#unrecovered(key)
    // Members of one channel come back together: after each wait, the first of them may have learned it.
    if (this.#isAtHead(key, since)) return startAtHead(since)
    const arrivals = hub.arrivals(key)
    const { head, floor, newest, position, quietSince } = await this.#readEnds(key)
    if (since < floor || since > newest) return { position, recovered: false, isBehind: false, isLate: false }
    if (this.#isAtHead(key, since)) return startAtHead(since)
    if (quietSince <= Math.max(0, since - LATE_PUBLISH_IDS)) return { ...startAtHead(since), position: Math.max(position, since) }
    const { later, isLate } = await this.#behind({ key, since }) ?? NOTHING
    if (since === head && later === 0 && !isLate) hub.settle(key, head, arrivals)
    const recovered = later <= MAX_REPLAY
    return { position: Math.max(position, since), recovered, isBehind: recovered && (later > 0 || isLate), isLate: recovered && isLate }
  }

  /** Whether the cursor belongs to this log, read from the database once per turn. */
  async #gaveOut (since: number, epoch?: string): Promise<boolean> {
    const log = this.#options.epoch
    if (epoch !== undefined) {
      this.#look ??= this.#begin()
      const { newest } = await this.#look
      if (since <= newest && epoch === log.current) return true
    }
    return await this.#options.ask(async () => await log.gaveOut(since, epoch))
  }

  #begin (): Promise<{ newest: number }> {
    setImmediate(() => { this.#look = null })
    return this.#options.ask(async () => await this.#options.epoch.look())
  }

  async #unrecovered (key: ChannelKey): Promise<Start> {
    return { position: await this.position(key), recovered: false, isBehind: false, isLate: false }
  }

  /** `quietSince`: no known event or copy has a larger id; 0: the channel has no events. */
  async #readEnds (key: ChannelKey): Promise<ChannelEnds & { position: number, quietSince: number }> {
    const { hub } = this.#options
    const [ends = { head: 0, floor: 0, newest: 0 }, copies = NO_COPIES] = await Promise.all([this.#ends(key), this.copiesOf(key) === null ? NO_COPIES : this.#copies(key)])
    const head = Math.max(ends.head, copies.newest)
    hub.noteLatestId(key, head)
    // Live events that arrived meanwhile may have larger ids.
    return { ...ends, head, position: hub.latestId(key) ?? head, quietSince: Math.max(head, copies.completeFrom) }
  }

  /** Events that the owner of a private channel sends to others are published on it, too, but stored with the channels of the recipients. */
  copiesOf (key: ChannelKey): Copies | null {
    const userId = privateOwner(channelOf(key), this.#options.ids)
    const types = this.#options.copiedTypes()
    return userId === null || types.length === 0 ? null : { userId, types }
  }

  #split (key: ChannelKey): ReturnType<typeof splitKey> {
    return splitKey(key, this.#options.ids)
  }

  #withCopies (place: Place): CopiedPlace {
    return { ...this.#rangeOf(place), copies: this.copiesOf(place.key) }
  }

  #rangeOf ({ key, since }: Place): ReturnType<typeof splitKey> & { since: number } {
    return { ...this.#split(key), since }
  }
}

function chunksOf<T> (all: readonly T[], size: number): T[][] {
  return Array.from({ length: Math.ceil(all.length / size) }, (_, i) => all.slice(i * size, (i + 1) * size))
}

const NO_COPIES = { newest: 0, completeFrom: 0 }
const NOTHING = { later: 0, isLate: false }
const startAtHead = (since: number): Start => ({ position: since, recovered: true, isBehind: false, isLate: false })
const NO_PAGE: Page = { ids: [], batch: new Batch([], false, 0), more: false, below: [] }

function nameOfPlace ({ key, since }: Place): string {
  return `${since}/${key}`
}

function valuesOf<Key, Value> (keys: readonly Key[], values: readonly Value[]): Map<Key, Value> {
  const found = new Map<Key, Value>()
  keys.forEach((key, i) => {
    const value = values[i]
    if (value !== undefined) found.set(key, value)
  })
  return found
}

function encode ({ rows, more, below }: PageRows): Page {
  if (rows.length === 0 && !more && below.length === 0) return NO_PAGE
  const payloads = rows.map(({ type, id, payload }) => encodeStored(type, id, payload))
  return { ids: rows.map(({ id }) => id), batch: new Batch(payloads, false, rows.at(-1)?.id ?? 0), more, below }
}

import { isPromise, type MaybePromise } from '../async/maybe-promise.js'
import type { ChannelKey } from '../keys.js'
import type { Joining, Page } from './joining.js'
import type { Member } from './local-channel.js'

/** A member whose replays are paced by what it takes. */
export interface Reader extends Member {
  /** Closed or closing. */
  readonly closed: boolean
  /** Waits until so many bytes may be written without making this reader slow; they count as waiting meanwhile. */
  room (bytes: number): MaybePromise<void>
  /** It cannot be given everything it was promised on this connection. */
  giveUp (): void
  /** Nothing is replayed any more. */
  replayed (): void
}

/** What a replay reads: the log's `Replays`. */
export interface PageReader {
  /** Bytes of a page, unless one event alone is larger. */
  readonly pageBytes: number
  after (key: ChannelKey, since: number, copiesFrom: number): Promise<Page>
  byIds (key: ChannelKey, ids: readonly number[]): Promise<Page>
  lateBelow (key: ChannelKey, since: number): Promise<number[]>
}

/** Pages that come before those of the log: what waited for a user. */
export interface PageSource {
  /** The next page. Where it rejects it is asked again later. */
  read (): Promise<Page>
  /** A page was written. */
  written (page: Page): void
}

/** What is replayed before a member goes live. */
export interface ReplayOptions {
  /** Everything after this id. */
  since?: number | undefined
  /** Also what is late below it. */
  isLate?: boolean
  /** Pages that come first. */
  first?: PageSource | undefined
}

interface Replay {
  joining: Joining
  first: PageSource | null
  /** Look for what is late below this id first. */
  lateBelow: number | null
}

/** Pause after a read that failed, in milliseconds. */
const RETRY = 2000
/** Ids of late events in one read. */
const LATE_IDS = 100

/**
 * The replays of one connection, one after the other in the order in which they were begun, so that one page is in memory at
 * a time: it is read when the reader has taken what came before. A replay that is begun anew while it waits or runs is one
 * replay still. It ends at the head of the log, where its channel goes live.
 */
export class Replayer {
  readonly #reader: Reader
  readonly #log: PageReader
  readonly #again: (key: ChannelKey, first: PageSource) => void
  readonly #replays = new Map<Joining, Replay>()
  #isRunning = false

  /** `again` is called where a channel went live although its first pages cannot be read: with them it is to be begun again. */
  constructor (reader: Reader, log: PageReader, again: (key: ChannelKey, first: PageSource) => void) {
    this.#reader = reader
    this.#log = log
    this.#again = again
  }

  get isIdle (): boolean {
    return this.#replays.size === 0
  }

  /** The reply to a subscription was written: what was promised follows, then live events. Right now where nothing was missed. */
  begin (joining: Joining, { since, isLate = false, first }: ReplayOptions = {}): void {
    if (first !== undefined) joining.beginFirst()
    joining.replied(since)
    if (joining.isOver || (first === undefined && !joining.isDue)) return
    const known = this.#replays.get(joining)
    const lateBelow = isLate && since !== undefined ? since : null
    if (known === undefined) {
      this.#replays.set(joining, { joining, first: first ?? null, lateBelow })
    } else {
      if (since !== undefined) known.lateBelow = lateBelow
      known.first = first ?? known.first
    }
    if (!this.#isRunning) void this.#run()
  }

  async #run (): Promise<void> {
    this.#isRunning = true
    // Those that are begun meanwhile come behind.
    for (const replay of this.#replays.values()) {
      while (this.#isGoing(replay)) await this.#step(replay)
      this.#replays.delete(replay.joining)
    }
    this.#isRunning = false
    this.#reader.replayed()
  }

  /** False: it is over, is live, or awaits another reply, with which it is begun again. */
  #isGoing ({ joining, first }: Replay): boolean {
    if (joining.isLost) this.#reader.giveUp()
    if (this.#reader.closed || joining.isOver) return false
    if (first !== null || joining.isDue) return true
    joining.goLive()
    return false
  }

  async #step (replay: Replay): Promise<void> {
    const room = this.#reader.room(this.#log.pageBytes)
    if (isPromise(room)) return await room
    try {
      if (replay.first !== null) await this.#first(replay, replay.first)
      else if (replay.lateBelow !== null) await this.#findLate(replay, replay.lateBelow)
      else if (replay.joining.late.length > 0) await this.#late(replay.joining)
      else await this.#next(replay.joining)
    } catch {
      // The database is away, and says so itself.
      await new Promise((resolve) => setTimeout(resolve, RETRY).unref())
    }
  }

  async #next (joining: Joining): Promise<void> {
    const { turn } = joining
    const page = await this.#log.after(joining.key, joining.beginRead(), joining.dropped)
    await this.#reader.room(page.wire.length)
    if (this.#takes(joining) && joining.turn === turn) joining.endRead(page)
  }

  async #late (joining: Joining): Promise<void> {
    const ids = joining.late.slice(0, LATE_IDS)
    const page = await this.#log.byIds(joining.key, ids)
    await this.#reader.room(page.wire.length)
    if (this.#takes(joining)) joining.endLate(ids, page)
  }

  async #findLate (replay: Replay, since: number): Promise<void> {
    const ids = await this.#log.lateBelow(replay.joining.key, since)
    if (replay.lateBelow !== since) return // begun anew
    replay.lateBelow = null
    replay.joining.addLate(ids)
  }

  async #first (replay: Replay, source: PageSource): Promise<void> {
    const { joining } = replay
    let page: Page
    try {
      page = await source.read()
    } catch (err) {
      if (this.#postpone(replay, source)) return
      throw err
    }
    await this.#reader.room(page.wire.length)
    if (!this.#takes(joining)) return
    joining.write(page)
    source.written(page)
    if (page.more) return
    replay.first = null
    joining.endFirst()
  }

  /** Not worth keeping newer events back, as long as they are all here: those that waited follow when they can be read. */
  #postpone (replay: Replay, source: PageSource): boolean {
    const { joining } = replay
    if (joining.isDue) return false
    replay.first = null
    joining.endFirst()
    setTimeout(() => { this.#again(joining.key, source) }, RETRY).unref()
    return true
  }

  #takes (joining: Joining): boolean {
    return !this.#reader.closed && !joining.isOver
  }
}

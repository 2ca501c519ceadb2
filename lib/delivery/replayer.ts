import { isPromise, type MaybePromise } from '../async/maybe-promise.js'
import { sleep } from '../async/timers.js'
import type { ChannelKey } from '../keys.js'
import type { Joining, Page } from './joining.js'
import type { Member } from './local-channel.js'
import { LATE_IDS, MergedReplay, RETRY_MS, type MergedChannel } from './merged-replay.js'

/** A member that receives replays at the speed at which it reads. */
export interface Reader extends Member {
  /** Closed or closing. */
  readonly closed: boolean
  /**
   * Waits until `bytes` can be written without exceeding the buffer of this reader. They count as waiting until then. Usually
   * synchronous (bench row "resume").
   */
  room (bytes: number): MaybePromise<void>
  /** The replay cannot be completed on this connection: closes it. */
  giveUp (): void
  /** All replays are done. */
  replayed (): void
}

/** The source of replays: `Replays` of the event log. */
export interface PageReader {
  /** Maximum size of a page in bytes, unless a single event is larger. */
  readonly pageBytes: number
  /** `isFurther`: the page also lists the ids `below` it. */
  after (key: ChannelKey, since: number, isFurther: boolean): Promise<Page>
  /** `share`: of how many reads at the same time this is one. */
  byIds (key: ChannelKey, ids: readonly number[], share?: number): Promise<Page>
  lateBelow (key: ChannelKey, since: number): Promise<number[]>
  /** For each of these, like `after`; of all of them together about one page in size. */
  together (places: readonly PagePlace[]): Promise<Page[]>
}

/** Where a page begins. */
export interface PagePlace { key: ChannelKey, since: number, isFurther: boolean }

/** Pages to write before the pages of the log: events that were waiting for a user. */
export interface PageSource {
  /** The next page. If it rejects, it is called again later. */
  read (): Promise<Page>
  /** The first `count` events of a page were written. */
  written (page: Page, count: number): void
  /** The events after them are sent by a replay from the log. */
  skip (): void
}

const NONE: readonly never[] = []

/** The events to replay before a member goes live. */
export interface ReplayOptions {
  /** All events after this id. */
  since?: number | undefined
  /** Also late events below `since`. */
  isLate?: boolean
  /** Pages to write before. */
  first?: PageSource | undefined
}

interface Replay {
  joining: Joining
  first: PageSource | null
  /** Before reading pages, find the late events below this id. */
  lateBelow: number | null
}


/**
 * The replays of one connection. They run one after the other, so that only one page is in memory: the next one is read when
 * the client has taken the last. A replay that is begun again while it waits or runs continues as one replay. It ends at the
 * end of the log, where the channel goes live.
 */
export class Replayer {
  readonly #reader: Reader
  readonly #log: PageReader
  readonly #again: (key: ChannelKey, first: PageSource) => void
  readonly #replays = new Map<Joining, Replay>()
  /** Replays over several channels. */
  #merged: readonly MergedReplay[] = NONE
  #isRunning = false

  /** `again` is called later with a channel that went live although its first pages could not be read. */
  constructor (reader: Reader, log: PageReader, again: (key: ChannelKey, first: PageSource) => void) {
    this.#reader = reader
    this.#log = log
    this.#again = again
  }

  get isIdle (): boolean {
    return this.#replays.size === 0 && this.#merged.length === 0
  }

  /** The reply to a subscription was written. Replays the events, and makes the channel live; at once if there is nothing to replay. */
  begin (joining: Joining, { since, isLate = false, first }: ReplayOptions = {}): void {
    if (since !== undefined) {
      for (const merged of this.#merged) {
        const released = merged.release(joining)
        first ??= released
      }
    }
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

  /**
   * The same for several channels, whose events after `since`, and late ones, are replayed in the order of their ids. Each has its
   * `first` pages before. They go live together.
   */
  beginTogether (channels: readonly MergedChannel[], since: number): void {
    this.#merged = [...this.#merged, new MergedReplay(this.#reader, this.#log, channels, since)]
    if (!this.#isRunning) void this.#run()
  }

  async #run (): Promise<void> {
    this.#isRunning = true
    while (!this.isIdle) {
      await this.#merged[0]?.run()
      this.#merged = this.#merged.length > 1 ? this.#merged.slice(1) : NONE
      // Includes replays that are begun during the iteration.
      for (const replay of this.#replays.values()) {
        while (this.#isGoing(replay)) await this.#step(replay)
        this.#replays.delete(replay.joining)
      }
    }
    this.#isRunning = false
    this.#reader.replayed()
  }

  /** False if the replay is over, or must wait for another reply, with which it is begun again. */
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
      if (replay.first === null && replay.lateBelow !== null) await this.#findLate(replay, replay.lateBelow)
      else if (replay.joining.late.length > 0) await this.#late(replay.joining)
      else if (replay.first !== null) await this.#first(replay, replay.first)
      else await this.#next(replay.joining)
    } catch {
      // An unavailable database is logged by the event log.
      await sleep(RETRY_MS, { ref: false })
    }
  }

  async #next (joining: Joining): Promise<void> {
    const { turn } = joining
    const { since, isFurther } = joining.beginRead()
    const page = await this.#log.after(joining.key, since, isFurther)
    await this.#reader.room(page.batch.bytes)
    if (this.#takes(joining) && joining.turn === turn && !joining.findLate(page)) joining.endRead(page)
  }

  async #late (joining: Joining): Promise<void> {
    const { turn } = joining
    const ids = joining.late.slice(0, LATE_IDS)
    const page = await this.#log.byIds(joining.key, ids)
    await this.#reader.room(page.batch.bytes)
    if (this.#takes(joining) && joining.turn === turn) joining.endLate(ids, page)
  }

  async #findLate (replay: Replay, since: number): Promise<void> {
    const ids = await this.#log.lateBelow(replay.joining.key, since)
    if (replay.lateBelow !== since) return // the replay was begun again
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
    await this.#reader.room(page.batch.bytes)
    if (!this.#takes(joining) || joining.findLate(page)) return
    const count = joining.writeFirst(page)
    source.written(page, count)
    if (count < page.ids.length) source.skip()
    else if (page.more) return
    replay.first = null
    joining.endFirst()
  }

  /** Newer events are not held back for first pages that cannot be read, if none was dropped. The first pages follow when they can be read. */
  #postpone (replay: Replay, source: PageSource): boolean {
    const { joining } = replay
    if (joining.isDue) return false
    replay.first = null
    joining.endFirst()
    setTimeout(() => { this.#again(joining.key, source) }, RETRY_MS).unref()
    return true
  }

  #takes (joining: Joining): boolean {
    return !this.#reader.closed && !joining.isOver
  }
}

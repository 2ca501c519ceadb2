import type { OutgoingEvent } from '../backplane/contract.js'
import type { ChannelKey } from '../keys.js'
import type { Batch } from './batch.js'
import { DedupeWindow } from './dedupe-window.js'
import type { LocalChannel, LocalEvent, Member } from './local-channel.js'

/** Stored events, encoded once for all replays that read the same events at the same time. */
export interface Page {
  /** Message ids, ascending. */
  ids: readonly number[]
  /** The events, encoded. */
  batch: Batch
  /** The log has further events after the last of these. */
  more: boolean
  /** Ids of the newest events at or below the position from which the page was read, at the time of the read. */
  below: readonly number[]
}

/** Approximate memory of a kept frame besides its payload, in bytes. */
const OVERHEAD = 128
/** Maximum number of late ids that are remembered. A member with more is disconnected. */
const MAX_LATE = 1000
/**
 * A member without a cursor starts this many ids below the newest. An event with a lower id was published long after it was
 * stored: it is read by its id, instead of reading everything after it.
 */
const LATE_IDS = 100_000

/**
 * A member of a channel that is not live yet: it waits for its reply, or until a replay reaches the end of the log.
 *
 * Durable events that arrive in this time are kept as long as the member has buffer space (`Member.hold`). Without space they
 * are dropped and read from the log later, which contains them all: an event is committed before it arrives. So the memory
 * per member is bounded, however long its replay takes and however much arrives.
 *
 * Reading the log by ascending id alone would miss an event that commits late, below the position of the replay. Such an event
 * arrives like any other: it is written if it was kept, and read by its id if it was dropped. It must also be written before a
 * page that contains later events of its sender. So each page lists the ids below it, and the ones that have not arrived yet are
 * read first.
 *
 * Ephemeral events are never replayed: after the reply they are written immediately, between the pages.
 */
export class Joining {
  readonly member: Member
  /** Changes with each restart: pages read for an earlier one are discarded. */
  turn = 0
  /** Too many late ids: the replay cannot be completed. */
  isLost = false
  /**
   * Where durable events go instead of to the member: a replay over several channels collects them, to write them in the order of
   * their ids.
   */
  collect: ((frames: readonly OutgoingEvent[]) => void) | null = null
  readonly #channel: LocalChannel
  readonly #count: (delivered: number) => void
  /** Number of replies that must be written before live events. */
  #replies = 0
  #hasReply = false
  /** The largest `since` of the awaited replies. */
  #asked = 0
  /** Dropped ids above the position and at most `#asked`: they become late when that replay begins. */
  #aboutToBeLate: number[] = []
  #isReplaying = false
  #isFirstDue = false
  /** The first pages end here, because a replay by position was requested, which contains everything above. */
  #firstUntil = Infinity
  /** The log must be read before this member goes live. */
  #isDue = false
  /** The log was read up to this id. Events with lower ids that arrive are late. */
  #position: number
  /** Where the reads of the log began. From here on, the order of two events of one sender is kept. */
  start = 0
  #kept: OutgoingEvent[] = []
  #keptBytes = 0
  #isKeeping = true
  /** The smallest id above the position that was dropped since the last read of the log began. */
  #missed = Infinity
  #late: number[] = []
  /** Ids that were written. Created with the first page: most members join without a replay. */
  #written: DedupeWindow | null = null

  constructor (channel: LocalChannel, member: Member, newest: number, count: (delivered: number) => void) {
    this.#channel = channel
    this.member = member
    this.#count = count
    this.#position = Math.max(0, newest - LATE_IDS)
  }

  get key (): ChannelKey {
    return this.#channel.key
  }

  /** The member is live, or has left the channel. */
  get isOver (): boolean {
    return !this.#channel.isJoining(this)
  }

  /** Whether the log must be read, by position or by ids. */
  get isDue (): boolean {
    return this.#isDue || this.#missed < Infinity || this.#late.length > 0
  }

  /** Ids to read individually, ascending. */
  get late (): readonly number[] {
    return this.#late
  }

  /** Live events wait for one more reply, after which a replay of the events after `since` may follow. */
  awaitReply (since: number): void {
    this.#replies++
    this.#asked = Math.max(this.#asked, since)
  }

  /**
   * A reply was written. With `since`, a replay of the events after it follows. Otherwise the member goes live, unless events
   * were dropped or another reply is awaited.
   */
  replied (since?: number): void {
    this.#replies--
    this.#hasReply = true
    if (since !== undefined) this.#restart(since)
    if (this.#replies === 0) {
      this.#asked = 0
      this.#aboutToBeLate = []
    }
    this.goLive()
    if (!this.isOver) this.#writeEphemeral()
  }

  /** Pages that are not read by position come first, until {@link endFirst}. They contain all retries. */
  beginFirst (): void {
    this.#isFirstDue = true
    this.#isReplaying = true
    this.#keep(this.#kept.filter(({ isRetry }) => !isRetry))
  }

  /**
   * Writes one of the first pages, together with kept events, in the order of their ids. The page ends before the first dropped
   * id: that event and the following ones are read from the log. Returns the number of events of the page that were written.
   */
  writeFirst (page: Page): number {
    const { ids } = page
    const end = ids.findIndex((id) => id > this.#firstUntil || id > this.#missed)
    const count = end < 0 ? ids.length : end
    const last = ids[count - 1] ?? 0
    const among = this.#kept.filter(({ messageId }) => messageId > 0 && messageId < last)
    const frames = framesOf(page).slice(0, count)
    this.#writeFrames(among.length === 0 ? frames : [...frames, ...among].sort((a, b) => a.messageId - b.messageId))
    return count
  }

  endFirst (): void {
    this.#isFirstDue = false
    this.#firstUntil = Infinity
  }

  /** Adds events below the position that another node committed or published late. */
  addLate (ids: readonly number[]): void {
    if (ids.length === 0) return
    this.#late = [...this.#late, ...ids].sort((a, b) => a - b)
    if (this.#late.length > MAX_LATE) this.isLost = true
  }

  /** A frame of the channel arrived. */
  accept (frame: LocalEvent): void {
    if (frame.excludeConnectionId === this.member.id || frame.skip?.has(this.member) === true) return
    if (frame.messageId === 0 && this.#hasReply) {
      this.#count(this.#channel.write(this.member, [frame]))
      return
    }
    if (frame.isRetry && this.#isReplaying) return // it is part of the replay, or will be retried later
    if (this.#isKeeping && this.member.hold(sizeOf(frame))) {
      this.#kept.push(frame)
      this.#keptBytes += sizeOf(frame)
      return
    }
    if (frame.messageId === 0) return
    const kept = this.#kept
    this.#isKeeping = false
    this.#keep([])
    for (const one of kept) this.#drop(one)
    this.#drop(frame)
  }

  /**
   * The log is about to be read after `since`, and will contain all dropped events with greater ids. Kept late events are
   * written now. With `isFurther` the page must also list the ids `below` it.
   */
  beginRead (): { since: number, isFurther: boolean } {
    if (!this.#isDue && this.#missed < Infinity) this.start = this.#position = this.#missed - 1
    const kept = this.#kept
    this.#keep([])
    this.#isKeeping = true
    this.#isDue = true
    this.#isReplaying = true
    this.#missed = Infinity
    const late: OutgoingEvent[] = []
    for (const frame of kept) {
      if (frame.messageId <= this.#position) late.push(frame)
    }
    this.#writeFrames(late)
    return { since: this.#position, isFurther: this.#position > this.start }
  }

  /** Whether events below a page must be written first. Then the page is discarded, and read again after them. */
  findLate ({ below }: Page): boolean {
    // After a replay by position was requested, the ids below the first pages are unknown; that replay contains most of them.
    if (this.#firstUntil === Infinity) this.addLate(below.filter((id) => id > this.start && this.#written?.has(id) !== true))
    return this.#late.length > 0
  }

  /** Writes the page that was read after {@link beginRead}. */
  endRead (page: Page): void {
    this.#writeFrames(this.#kept.filter(({ messageId }) => messageId > 0 && messageId <= this.#position))
    this.#writePage(page)
    const last = page.ids.at(-1) ?? this.#position
    // Events dropped during the read may be missing from the page.
    this.#position = Math.max(this.#position, Math.min(last, this.#missed - 1))
    this.#isDue = page.more || this.#missed < Infinity
    this.#missed = Infinity
  }

  /** Becomes part of a replay over several channels: it goes live with the others. */
  hold (): void {
    this.#replies++
  }

  /** The replay over several channels is done. */
  unhold (): void {
    this.#replies--
    this.goLive()
  }

  /** Writes the events of these late ids, as far as they exist. */
  endLate (ids: readonly number[], page: Page): void {
    this.#writePage(page)
    // A full page ends with its last id; the others are read next.
    const last = page.more ? page.ids.at(-1) ?? Infinity : Infinity
    const done = new Set(ids.filter((id) => id <= last))
    this.#late = this.#late.filter((id) => !done.has(id))
  }

  /** Writes a page, without events that were written before. */
  #writePage (page: Page): void {
    if (page.ids.length === 0) return
    const written = this.#written ??= new DedupeWindow()
    const isNew = page.ids.map((id) => written.add(id))
    if (isNew.every(Boolean) && this.collect === null) {
      this.#count(page.ids.length)
      this.member.write(page.batch)
      return
    }
    this.#write(framesOf(page).filter((_, i) => isNew[i]))
  }

  /** Drops kept ephemeral events that the reply has made obsolete. */
  discard (isObsolete: (payload: Buffer) => boolean): void {
    if (this.#kept.length > 0) this.#keep(this.#kept.filter(({ messageId, payload }) => messageId > 0 || !isObsolete(payload)))
  }

  /** Makes the member live, unless the log must be read or a reply is awaited. */
  goLive (): void {
    if (this.isOver || this.isDue || this.#isFirstDue || this.#replies > 0) return
    const kept = this.#kept
    this.leave()
    this.#channel.admit(this.member)
    this.#writeFrames(kept)
  }

  /** The member has left, or is live: kept events are released. */
  leave (): void {
    this.#channel.endJoining(this)
    this.#isKeeping = false
    this.#keep([])
  }

  #restart (since: number): void {
    this.turn++
    this.#isDue = true
    this.#isReplaying = true
    this.start = this.#position = since
    this.#missed = Infinity
    this.#late = this.#late.filter((id) => id <= since)
    this.addLate(this.#aboutToBeLate.filter((id) => id <= since && this.#written?.has(id) !== true))
    this.#written = null
    if (this.#isFirstDue) this.#firstUntil = since
  }

  #drop ({ messageId, isRetry }: OutgoingEvent): void {
    if (messageId === 0 || isRetry || this.#written?.has(messageId) === true) return
    if (messageId <= this.#position) {
      this.addLate([messageId])
      return
    }
    this.#missed = Math.min(this.#missed, messageId)
    if (messageId > this.#asked) return
    this.#aboutToBeLate.push(messageId)
    if (this.#aboutToBeLate.length > MAX_LATE) this.isLost = true
  }

  /** Replaces the kept events. */
  #keep (frames: OutgoingEvent[]): void {
    const bytes = frames.reduce((sum, frame) => sum + sizeOf(frame), 0)
    if (bytes !== this.#keptBytes) this.member.release(this.#keptBytes - bytes)
    this.#kept = frames
    this.#keptBytes = bytes
  }

  #writeEphemeral (): void {
    const passing = this.#kept.filter(({ messageId }) => messageId === 0)
    if (passing.length === 0) return
    this.#keep(this.#kept.filter(({ messageId }) => messageId > 0))
    this.#count(this.#channel.write(this.member, passing))
  }

  #writeFrames (frames: readonly OutgoingEvent[]): void {
    const written = this.#isReplaying ? this.#written ??= new DedupeWindow() : null
    const fresh = written === null ? frames : frames.filter(({ messageId }) => messageId === 0 || written.add(messageId))
    this.#write(fresh)
  }

  #write (frames: readonly OutgoingEvent[]): void {
    if (this.collect === null) this.#count(this.#channel.write(this.member, frames))
    else this.collect(this.#channel.ownOf(this.member, frames))
  }
}

const framesOf = ({ ids, batch }: Page): OutgoingEvent[] =>
  batch.payloads.map((payload, i) => ({ payload, messageId: ids[i] ?? 0, excludeConnectionId: null, isRetry: false }))

const sizeOf = ({ payload }: OutgoingEvent): number => payload.length + OVERHEAD

import type { OutgoingEvent } from '../backplane/contract.js'
import type { ChannelKey } from '../keys.js'
import { DedupeWindow } from './dedupe-window.js'
import type { LocalChannel, Member } from './local-channel.js'

/** Stored events as a replay writes them, encoded once for all who read the same ones at the same time. */
export interface Page {
  /** Message ids, ascending. */
  ids: readonly number[]
  payloads: readonly Buffer[]
  /** The payloads as WebSocket frames, one after the other. */
  wire: Buffer
  /** The log has further events behind the last of these. */
  more: boolean
}

/** What a kept frame takes besides its payload, roughly. */
const OVERHEAD = 128
/** Ids of late events that are remembered; a member with more of them is not worth saving. */
const MAX_LATE = 1000
/**
 * How far below the newest id an event counts as new to a member that did not say where it was. One that is older was
 * handed on long after it was stored: it is read by its id, and not everything after it.
 */
const LATE_IDS = 100_000

/**
 * A member of a channel that is not live yet: it waits for its reply, or for a replay to reach the head of the log.
 *
 * Durable events that arrive meanwhile are kept as long as the member has room for them (`Member.hold`). When it has none,
 * they are dropped, and the replay goes on from the log instead, which has all of them: an event is committed before it
 * arrives. What waits for a member is so bounded, however long its replay takes and however much arrives.
 *
 * Reading the log by ascending id alone would miss an event that commits late, below the position the replay has
 * reached. Such an event arrives like any other: it is written when it was kept, and read by its id when it was dropped.
 *
 * Ephemeral events are for those who listen now: once the reply is written they pass at once, between the pages.
 */
export class Joining {
  readonly member: Member
  /** Changes with each restart: what was read for an earlier one is void. */
  turn = 0
  /** The smallest id that was dropped on this channel since the member joined. */
  dropped = Infinity
  /** Too much was dropped to be found again. */
  isLost = false
  readonly #channel: LocalChannel
  readonly #count: (delivered: number) => void
  /** Replies to be written before live events pass. */
  #replies = 0
  #hasReply = false
  #isReplaying = false
  #isFirstDue = false
  /** The log must be read before this member goes live. */
  #isDue = false
  /** Up to here the log was read; below it, what arrives is late. */
  #position: number
  #kept: OutgoingEvent[] = []
  #keptBytes = 0
  #isKeeping = true
  /** The smallest id above the position that was dropped since the last read of the log began. */
  #missed = Infinity
  #late: number[] = []
  /** Ids that were written. Made with the first page: most members join without a replay. */
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

  /** It is live, or left the channel. */
  get isOver (): boolean {
    return !this.#channel.isJoining(this)
  }

  /** The log must be read, by position or by ids. */
  get isDue (): boolean {
    return this.#isDue || this.#missed < Infinity || this.#late.length > 0
  }

  /** Ids to be read one by one; the oldest first. */
  get late (): readonly number[] {
    return this.#late
  }

  /** Live events wait for one more reply. */
  awaitReply (): void {
    this.#replies++
  }

  /**
   * A reply was written. With `since`, what it promised to replay comes after it; otherwise live events do, unless some were
   * dropped or another reply is awaited.
   */
  replied (since?: number): void {
    this.#replies--
    this.#hasReply = true
    if (since !== undefined) this.#restart(since)
    this.goLive()
    if (!this.isOver) this.#writeEphemeral()
  }

  /** Pages that are not read by position come first, until {@link endFirst}. Events sent again meanwhile are among them. */
  beginFirst (): void {
    this.#isFirstDue = true
    this.#isReplaying = true
    this.#keep(this.#kept.filter(({ isRetry }) => !isRetry))
  }

  endFirst (): void {
    this.#isFirstDue = false
  }

  /** Rows that another node committed or handed on late, below `since`. */
  addLate (ids: readonly number[]): void {
    this.#late.push(...ids)
    if (this.#late.length > MAX_LATE) this.isLost = true
  }

  /** Takes a frame of the channel. */
  accept (frame: OutgoingEvent): void {
    if (frame.excludeConnectionId === this.member.id) return
    if (frame.messageId === 0 && this.#hasReply) {
      this.#count(this.#channel.write(this.member, [frame]))
      return
    }
    if (frame.isRetry && this.#isReplaying) return // the replay has it, or it is sent again later
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

  /** The log is about to be read above the answer, which has all that was dropped above it. What is late is written now. */
  beginRead (): number {
    if (!this.#isDue && this.#missed < Infinity) this.#position = this.#missed - 1
    const kept = this.#kept
    this.#keep([])
    this.#isKeeping = true
    this.#isDue = true
    this.#isReplaying = true
    this.#missed = Infinity
    const late: OutgoingEvent[] = []
    for (const frame of kept) {
      if (frame.messageId <= this.#position) late.push(frame)
      else this.dropped = Math.min(this.dropped, frame.messageId)
    }
    this.#writeFrames(late)
    return this.#position
  }

  /** What was read since {@link beginRead}, from the position on. */
  endRead (page: Page): void {
    this.write(page)
    const last = page.ids.at(-1) ?? this.#position
    // Dropped while it was read: it may lack them.
    this.#position = Math.max(this.#position, Math.min(last, this.#missed - 1))
    this.#isDue = page.more || this.#missed < Infinity
    this.#missed = Infinity
  }

  /** The rows of these late ids, as far as there are any. */
  endLate (ids: readonly number[], page: Page): void {
    this.write(page)
    // A page that is full ends with its last one.
    const last = page.more ? page.ids.at(-1) ?? Infinity : Infinity
    const done = new Set(ids.filter((id) => id <= last))
    this.#late = this.#late.filter((id) => !done.has(id))
  }

  /** Writes a page, without what was written before. */
  write (page: Page): void {
    if (page.ids.length === 0) return
    const written = this.#written ??= new DedupeWindow()
    const isNew = page.ids.map((id) => written.add(id))
    if (isNew.every(Boolean)) {
      this.#count(page.ids.length)
      this.member.write(page.wire, page.payloads, false)
      return
    }
    const frames = page.payloads.flatMap((payload, i): OutgoingEvent[] =>
      isNew[i] === true ? [{ payload, messageId: page.ids[i] ?? 0, excludeConnectionId: null, isRetry: false }] : [])
    this.#count(this.#channel.write(this.member, frames))
  }

  /** Ends the joining where nothing has to be read any more and no reply is awaited. */
  goLive (): void {
    if (this.isOver || this.isDue || this.#isFirstDue || this.#replies > 0) return
    const kept = this.#kept
    this.leave()
    this.#channel.admit(this.member)
    this.#writeFrames(kept)
  }

  /** The member has left, or is live: nothing is kept for it. */
  leave (): void {
    this.#channel.endJoining(this)
    this.#isKeeping = false
    this.#keep([])
  }

  #restart (since: number): void {
    this.turn++
    this.#isDue = true
    this.#isReplaying = true
    this.#position = since
    this.#missed = Infinity
    this.#written = null
  }

  #drop ({ messageId, isRetry }: OutgoingEvent): void {
    if (messageId === 0 || isRetry || this.#written?.has(messageId) === true) return
    this.dropped = Math.min(this.dropped, messageId)
    if (messageId > this.#position) this.#missed = Math.min(this.#missed, messageId)
    else this.addLate([messageId])
  }

  /** Replaces what is kept. */
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
    this.#writeFrames(passing)
  }

  #writeFrames (frames: readonly OutgoingEvent[]): void {
    const written = this.#written
    const fresh = written === null ? frames : frames.filter(({ messageId }) => messageId === 0 || written.add(messageId))
    this.#count(this.#channel.write(this.member, fresh))
  }
}

const sizeOf = ({ payload }: OutgoingEvent): number => payload.length + OVERHEAD

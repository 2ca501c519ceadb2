import { isPromise, type MaybePromise } from '../async/maybe-promise.js'
import type { OutgoingEvent } from '../backplane/contract.js'
import { isHidden } from '../channel-names.js'
import { channelOf, type ChannelKey } from '../keys.js'
import { personal } from '../wire/personal.js'
import { Batch } from './batch.js'
import { DedupeWindow } from './dedupe-window.js'
import { Joining } from './joining.js'

/** An event on its way to the members of a channel on this node. */
export interface LocalEvent extends OutgoingEvent {
  /** Members that get it by another channel. */
  skip?: ReadonlySet<Member>
}

/** A local receiver of frames: a socket or a stream, adapted by connections/. */
export interface Member {
  /** The connection id. */
  readonly id: string
  /** The id of its user, as text. */
  readonly user?: string
  /** Writes encoded frames. They may be dropped if all are ephemeral. */
  write (batch: Batch): void
  /** Reserves buffer space for frames that wait for this member. False if there is not enough: they must not be kept. */
  hold (bytes: number): boolean
  /** Releases reserved buffer space. */
  release (bytes: number): void
  /** Channels on which it waits for a reply or a replay. Counted here. */
  waitsOn: number
}

// idle memory: most channels are private and idle, with one member. Rarely needed parts are created when they are needed.
/** A channel with members on this node. */
export class LocalChannel {
  readonly key: ChannelKey
  readonly members = new Set<Member>()
  /** Time of the first join, in milliseconds since 1970. Members need no events published before it. */
  readonly since: number
  /** Resolves when the backplane has subscribed; null afterwards. */
  ready: Promise<void> | null
  /** The largest durable id known on this channel; null until it was read from the log. */
  latestId: number | null = null
  /** A client that has seen `latestId` has seen all lower ids: none arrived after it, on this node or another. */
  isSettled = false
  /** Number of durable frames that have arrived. */
  arrivals = 0
  /** Frames held back while a gap before them is filled; null if there is no gap. */
  gap: OutgoingEvent[] | null = null
  /** Number of hidden channels that need this one, see `Hub`. */
  watches = 0
  /** Of a hidden channel: the latest change. */
  latest: Buffer | null = null
  readonly isHidden: boolean
  #joining: Map<Member, Joining> | null = null
  /** Until this time, by `performance.now()`, events may arrive in another order than on other nodes. */
  #unsettledUntil = 0
  /** Detects ids that arrive a second time. */
  #dedupe: DedupeWindow | null = null
  /** Frames to write to all members at the next flush. */
  #queue: LocalEvent[] = []
  /** Number of queued frames already written to a member. */
  #alreadyWritten: Map<Member, number> | null = null

  constructor (key: ChannelKey, since: number, ready: MaybePromise<void>) {
    this.key = key
    this.since = since
    this.isHidden = isHidden(channelOf(key))
    this.ready = isPromise(ready) ? ready.then(() => { this.ready = null }) : null
  }

  get isEmpty (): boolean {
    return this.members.size === 0 && (this.#joining?.size ?? 0) === 0 && this.watches === 0
  }

  /** Members that wait for a reply or a replay. */
  get joining (): Iterable<Member> {
    return this.#joining?.keys() ?? []
  }

  includes (member: Member): boolean {
    return this.members.has(member) || this.#joining?.has(member) === true
  }

  /** Number of frames that wait for a flush. */
  get queued (): number {
    return this.#queue.length
  }

  /**
   * Holds back live events for a member that first needs its reply, or a replay. Everything published before this call must
   * already have been written to it. A second join of the same member keeps what the first one held back.
   */
  join (member: Member, since: number, newest: number, count: (delivered: number) => void): Joining {
    let joining = this.#joining?.get(member)
    if (joining === undefined) {
      this.members.delete(member)
      this.#alreadyWritten?.delete(member)
      joining = new Joining(this, member, newest, count)
      this.#joining ??= new Map()
      this.#joining.set(member, joining)
      member.waitsOn++
    }
    joining.awaitReply(since)
    return joining
  }

  isJoining (joining: Joining): boolean {
    return this.#joining?.get(joining.member) === joining
  }

  endJoining (joining: Joining): void {
    if (!this.isJoining(joining)) return
    joining.member.waitsOn--
    this.#joining?.delete(joining.member)
    if (this.#joining?.size === 0) this.#joining = null
  }

  /** The member receives live events from now on. It got the queued ones while it joined. */
  admit (member: Member): void {
    this.members.add(member)
    this.#markWritten(member)
  }

  /** Writes the queued frames of a member, and removes it. Returns the number of frames. */
  leave (member: Member): number {
    const delivered = this.flushFor(member)
    this.members.delete(member)
    this.#alreadyWritten?.delete(member)
    this.#joining?.get(member)?.leave()
    return delivered
  }

  /** Queues a frame for the current members. False if it has arrived before. */
  accept (frame: LocalEvent): boolean {
    if (frame.messageId > 0 && !this.#isNew(frame)) return false
    if (this.#joining !== null) for (const joining of this.#joining.values()) joining.accept(frame)
    if (this.members.size > 0) this.#queue.push(frame)
    return true
  }

  /** The largest id according to the log. Live events that arrived during the read may have larger ids. */
  learnHead (id: number): void {
    if (this.latestId === null) this.isSettled = false
    this.latestId = Math.max(this.latestId ?? 0, id)
  }

  /** Forgets all ids: the next event is new, whatever its id. */
  forgetIds (): void {
    this.#dedupe = null
    this.latestId = null
    this.isSettled = false
  }

  /** Writes the queue, with one write per member. Returns the number of frames delivered. */
  flush (): number {
    if (this.#queue.length === 0) return 0
    const frames = this.#queue
    const alreadyWritten = this.#alreadyWritten
    this.#queue = []
    this.#alreadyWritten = null
    const senders = sendersOf(frames)
    const special = specialOf(frames)
    let batch: Batch | null = null
    let delivered = 0
    for (const member of this.members) {
      const had = alreadyWritten?.get(member) ?? 0
      if (had > 0 || senders?.has(member.id) === true || special?.(member) === true) {
        delivered += this.write(member, had > 0 ? frames.slice(had) : frames)
        continue
      }
      // Built only when needed: the one member of a private channel is often the sender, who gets nothing.
      batch ??= batchOf(frames)
      delivered += frames.length
      member.write(batch)
    }
    return delivered
  }

  /** Writes the queued frames to one member, before the others. Returns the number of frames. */
  flushFor (member: Member): number {
    if (this.#queue.length === 0 || !this.members.has(member)) return 0
    const had = this.#alreadyWritten?.get(member) ?? 0
    this.#markWritten(member)
    return this.write(member, this.#queue.slice(had))
  }

  /** Missed events are about to be delivered. Until `until`, the order of arrival may differ from that of other nodes. */
  unsettle (until: number): void {
    this.isSettled = false
    this.#unsettledUntil = until
  }

  /** Excludes a member from the frames that are queued now. */
  #markWritten (member: Member): void {
    if (this.#queue.length === 0) return
    this.#alreadyWritten ??= new Map()
    this.#alreadyWritten.set(member, this.#queue.length)
  }

  #isNew ({ messageId, isRetry }: OutgoingEvent): boolean {
    this.#dedupe ??= new DedupeWindow()
    const isFirst = this.#dedupe.add(messageId)
    this.arrivals++
    if (this.latestId !== null && messageId > this.latestId) {
      this.latestId = messageId
      this.isSettled = this.#unsettledUntil === 0 || performance.now() > this.#unsettledUntil
    } else if (isFirst && !isRetry && messageId !== this.latestId) {
      this.isSettled = false
    }
    return isFirst || isRetry
  }

  /** Writes frames to one member, except its own. Returns the number of frames delivered. */
  write (member: Member, frames: readonly LocalEvent[]): number {
    const own = this.ownOf(member, frames)
    if (own.length === 0) return 0
    member.write(batchOf(own))
    return own.length
  }

  /** Frames as this member gets them, without its own. */
  ownOf (member: Member, frames: readonly LocalEvent[]): readonly LocalEvent[] {
    const own = frames.filter(({ excludeConnectionId, skip }) => excludeConnectionId !== member.id && skip?.has(member) !== true)
    return own.some(({ withoutSelf }) => withoutSelf === true) ? own.flatMap((frame) => personal(frame, member.user) ?? []) : own
  }
}

export function batchOf (frames: readonly OutgoingEvent[]): Batch {
  let newest = 0
  for (const { messageId } of frames) if (messageId > newest) newest = messageId
  return new Batch(frames.map(({ payload }) => payload), newest === 0, newest)
}

/** Whether a member gets these frames in a different form than the others; null: all members get the same. */
function specialOf (frames: readonly LocalEvent[]): ((member: Member) => boolean) | null {
  const differing = frames.filter(({ skip, withoutSelf }) => skip !== undefined || withoutSelf === true)
  if (differing.length === 0) return null
  const users = new Set(differing.flatMap(({ about, withoutSelf }) => withoutSelf === true && about !== undefined ? about.split(',') : []))
  return (member) => (users.size > 0 && users.has(member.user ?? '')) || differing.some(({ skip }) => skip?.has(member) === true)
}

/** The connections that sent some of these frames; null: none. Comparing with one or two ids instead of a set was measured, and gained nothing. */
function sendersOf (frames: readonly OutgoingEvent[]): Set<string> | null {
  let senders: Set<string> | null = null
  for (const { excludeConnectionId } of frames) {
    if (excludeConnectionId !== null) (senders ??= new Set()).add(excludeConnectionId)
  }
  return senders
}

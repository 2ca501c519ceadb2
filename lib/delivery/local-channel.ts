import type { OutgoingEvent } from '../backplane/contract.js'
import type { ChannelKey } from '../keys.js'
import { websocketFrame } from '../wire/websocket-frame.js'
import { DedupeWindow } from './dedupe-window.js'
import { Joining } from './joining.js'

/** One local receiver of frames: a socket, adapted by connections/. */
export interface Member {
  /** The connection id. */
  readonly id: string
  /**
   * Writes frames that are already encoded: `wire` holds the complete WebSocket frames one after the other, `payloads`
   * the same ones bare, for a socket that must frame them itself. Frames of which all are ephemeral may be dropped.
   */
  write (wire: Buffer, payloads: readonly Buffer[], ephemeral: boolean): void
  /** Sets room aside for frames that wait for this member. False: there is none, and they must not wait. */
  hold (bytes: number): boolean
  /** Gives back room that was set aside. */
  release (bytes: number): void
}

/** A channel with members on this node. Most are private ones, idle, with one member: what few need is made when needed. */
export class LocalChannel {
  readonly key: ChannelKey
  readonly members = new Set<Member>()
  /** Milliseconds since 1970: nobody here had a right to what was handed on before. */
  readonly since: number
  /** Resolves when the backplane has subscribed; null: it has. */
  ready: Promise<void> | null
  /** The largest durable id known on this channel; null until someone asked the log. */
  latestId: number | null = null
  /** Whoever has the head has everything below it: nothing below arrived after it, and what arrived did so everywhere alike. */
  isSettled = false
  /** Durable frames that arrived. */
  arrivals = 0
  /** Frames that wait while a gap before them is filled; null: there is none. */
  gap: OutgoingEvent[] | null = null
  #joining: Map<Member, Joining> | null = null
  /** Until then what arrives may have arrived in another order on other nodes; by `performance.now()`. */
  #unsettledUntil = 0
  /** An id that comes again is dropped here. */
  #dedupe: DedupeWindow | null = null
  /** Frames that no member was written yet, but those `ahead`, who were written so many of them. */
  #queue: OutgoingEvent[] = []
  #alreadyWritten: Map<Member, number> | null = null

  constructor (key: ChannelKey, since: number, ready: Promise<void> | null) {
    this.key = key
    this.since = since
    this.ready = ready?.then(() => { this.ready = null }) ?? null
  }

  get isEmpty (): boolean {
    return this.members.size === 0 && (this.#joining?.size ?? 0) === 0
  }

  /** Frames that wait for a flush. */
  get queued (): number {
    return this.#queue.length
  }

  /**
   * This member, to whom everything that came was written, is not live until it has been replied to. One that joins again
   * before that is the same: what it is owed stays.
   */
  join (member: Member, newest: number, count: (delivered: number) => void): Joining {
    let joining = this.#joining?.get(member)
    if (joining === undefined) {
      this.members.delete(member)
      this.#alreadyWritten?.delete(member)
      joining = new Joining(this, member, newest, count)
      this.#joining ??= new Map()
      this.#joining.set(member, joining)
    }
    joining.awaitReply()
    return joining
  }

  isJoining (joining: Joining): boolean {
    return this.#joining?.get(joining.member) === joining
  }

  endJoining (joining: Joining): void {
    if (!this.isJoining(joining)) return
    this.#joining?.delete(joining.member)
    if (this.#joining?.size === 0) this.#joining = null
  }

  /** Live from now on: what is queued was given to it while it joined. */
  admit (member: Member): void {
    this.members.add(member)
    this.#markWritten(member)
  }

  /** What came for this member until now is written; then it is gone. */
  leave (member: Member): number {
    const delivered = this.flushFor(member)
    this.members.delete(member)
    this.#alreadyWritten?.delete(member)
    this.#joining?.get(member)?.leave()
    return delivered
  }

  /** Queues a frame for everyone who is here now. False where it has come before. */
  accept (frame: OutgoingEvent): boolean {
    if (frame.messageId > 0 && !this.#isNew(frame)) return false
    if (this.#joining !== null) for (const joining of this.#joining.values()) joining.accept(frame)
    if (this.members.size > 0) this.#queue.push(frame)
    return true
  }

  /** What the log said; live events that came meanwhile may already be further. */
  learnHead (id: number): void {
    if (this.latestId === null) this.isSettled = false
    this.latestId = Math.max(this.latestId ?? 0, id)
  }

  /** Whatever comes next is new, whichever id it has. */
  forgetIds (): void {
    this.#dedupe = null
    this.latestId = null
    this.isSettled = false
  }

  /** Writes what is queued, one write for each member. Frames delivered. */
  flush (): number {
    if (this.#queue.length === 0) return 0
    const frames = this.#queue
    const alreadyWritten = this.#alreadyWritten
    this.#queue = []
    this.#alreadyWritten = null
    const isExcluded = excludedFrom(frames)
    let batch: WireBatch | null = null
    let delivered = 0
    for (const member of this.members) {
      const had = alreadyWritten?.get(member) ?? 0
      if (had > 0 || isExcluded?.(member.id) === true) {
        delivered += this.write(member, had > 0 ? frames.slice(had) : frames)
        continue
      }
      // Only now: a private channel's one member is often the sender, who gets nothing.
      batch ??= batchOf(frames)
      delivered += frames.length
      member.write(batch.wire, batch.payloads, batch.ephemeral)
    }
    return delivered
  }

  /** Writes this member what is queued, before the others. */
  flushFor (member: Member): number {
    if (this.#queue.length === 0 || !this.members.has(member)) return 0
    const had = this.#alreadyWritten?.get(member) ?? 0
    this.#markWritten(member)
    return this.write(member, this.#queue.slice(had))
  }

  /** What was missed is about to be filled in: for a while the order of arrival says nothing about other nodes. */
  unsettle (until: number): void {
    this.isSettled = false
    this.#unsettledUntil = until
  }

  /** This member gets nothing of what is queued now. */
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

  /** Writes to one member alone, without the frames it sent itself. Frames delivered. */
  write (member: Member, frames: readonly OutgoingEvent[]): number {
    const own = frames.filter(({ excludeConnectionId }) => excludeConnectionId !== member.id)
    if (own.length === 0) return 0
    const { wire, payloads, ephemeral } = batchOf(own)
    member.write(wire, payloads, ephemeral)
    return own.length
  }
}

/** What `Member.write` is given. */
interface WireBatch { wire: Buffer, payloads: readonly Buffer[], ephemeral: boolean }

function batchOf (frames: readonly OutgoingEvent[]): WireBatch {
  const payloads = frames.map(({ payload }) => payload)
  const [only] = payloads
  return {
    wire: payloads.length === 1 && only !== undefined ? websocketFrame(only) : Buffer.concat(payloads.map(websocketFrame)),
    payloads,
    ephemeral: frames.every(({ messageId }) => messageId === 0)
  }
}

/** Who sent some of these. Asked for each member: comparing with one or two ids costs a fraction of a look into a set. */
function excludedFrom (frames: readonly OutgoingEvent[]): ((id: string) => boolean) | null {
  let first: string | null = null
  let second: string | null = null
  for (const { excludeConnectionId } of frames) {
    if (excludeConnectionId === null || excludeConnectionId === first || excludeConnectionId === second) continue
    if (first === null) first = excludeConnectionId
    else if (second === null) second = excludeConnectionId
    else return inSet(frames)
  }
  return first === null ? null : (id) => id === first || id === second
}

function inSet (frames: readonly OutgoingEvent[]): (id: string) => boolean {
  const ids = new Set(frames.map(({ excludeConnectionId }) => excludeConnectionId))
  return (id) => ids.has(id)
}

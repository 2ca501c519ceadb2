import type { Frame } from './backplane/contract.js'
import type { ChannelKey } from './channels.js'
import { RecentIds } from './recent-ids.js'
import { wireFrame } from './ws-frame.js'

/** One local receiver of frames: a socket, adapted by connections/. */
export interface Member {
  /** The connection id. */
  readonly id: string
  /**
   * Writes frames that are already encoded: `wire` holds the complete WebSocket frames one after the other, `payloads`
   * the same ones bare, for a socket that must frame them itself. Frames of which all are ephemeral may be dropped.
   */
  write (wire: Buffer, payloads: readonly Buffer[], ephemeral: boolean): void
}

/** Live frames of a member that must get something else first. */
export class HeldBack {
  frames: Frame[] | null = null
  /** Bytes of live frames that wait. */
  waiting = 0
  readonly #channel: LocalChannel
  readonly #member: Member
  readonly #count: (delivered: number) => void

  constructor (channel: LocalChannel, member: Member, count: (delivered: number) => void) {
    this.#channel = channel
    this.#member = member
    this.#count = count
  }

  /** Lets live frames through, those that waited first, without the ids that were replayed. */
  live (replayed?: ReadonlySet<number>): void {
    this.#count(this.#channel.letThrough(this.#member, this, replayed))
  }
}

const NONE: ReadonlySet<number> = new Set()

/** A channel with members on this node. Most are private ones, idle, with one member: what few need is made when needed. */
export class LocalChannel {
  readonly key: ChannelKey
  readonly members = new Set<Member>()
  /** Milliseconds since 1970: nobody here had a right to what was handed on before. */
  readonly since = Date.now()
  /** Resolves when the backplane has subscribed; null: it has. */
  ready: Promise<void> | null
  /** The largest durable id known on this channel; null until someone asked the log. */
  head: number | null = null
  /** Frames that wait while a gap before them is filled; null: there is none. */
  gap: Frame[] | null = null
  #joining: Map<Member, HeldBack> | null = null
  /** An id that comes again is dropped here. */
  #recent: RecentIds | null = null
  /** Frames that no member was written yet, but those `ahead`, who were written so many of them. */
  #queue: Frame[] = []
  #ahead: Map<Member, number> | null = null

  constructor (key: ChannelKey, ready: Promise<void> | null) {
    this.key = key
    this.ready = ready?.then(() => { this.ready = null }) ?? null
  }

  get isEmpty (): boolean {
    return this.members.size === 0 && (this.#joining?.size ?? 0) === 0
  }

  /** Frames that wait for a flush. */
  get queued (): number {
    return this.#queue.length
  }

  /** Live frames for this member, to whom all earlier ones were written, wait; those of an earlier join that is not over wait on. */
  holdBack (member: Member, count: (delivered: number) => void): HeldBack {
    this.members.delete(member)
    this.#ahead?.delete(member)
    // Its own: what an earlier join of this member waited for must not let frames through that this one still holds back.
    const held = new HeldBack(this, member, count)
    const earlier = this.#joining?.get(member)
    if (earlier !== undefined) {
      held.frames = earlier.frames
      held.waiting = earlier.waiting
    }
    this.#joining ??= new Map()
    this.#joining.set(member, held)
    return held
  }

  /** What was held back goes out, without the ids that were replayed; then live frames do. */
  letThrough (member: Member, held: HeldBack, replayed: ReadonlySet<number> = NONE): number {
    if (this.#joining?.get(member) !== held) return 0 // left, or joined anew
    this.#joining.delete(member)
    if (this.#joining.size === 0) this.#joining = null
    this.members.add(member)
    this.#skip(member)
    let delivered = 0
    for (const frame of held.frames ?? []) {
      if (!replayed.has(frame.messageId) || frame.messageId === 0) delivered += this.#writeOne(member, [frame])
    }
    return delivered
  }

  /** What came for this member until now is written; then it is gone. */
  leave (member: Member): number {
    const delivered = this.flushFor(member)
    this.members.delete(member)
    this.#ahead?.delete(member)
    this.#joining?.delete(member)
    return delivered
  }

  /** Queues a frame for everyone who is here now. False where it has come before. */
  accept (frame: Frame): boolean {
    if (frame.messageId > 0 && !this.#isNew(frame)) return false
    if (this.#joining !== null) {
      for (const held of this.#joining.values()) {
        held.frames ??= []
        held.frames.push(frame)
        held.waiting += frame.payload.length
      }
    }
    if (this.members.size > 0) this.#queue.push(frame)
    return true
  }

  /** Whatever comes next is new, whichever id it has. */
  forgetIds (): void {
    this.#recent = null
    this.head = null
  }

  /** Writes what is queued, one write for each member. Frames delivered. */
  flush (): number {
    if (this.#queue.length === 0) return 0
    const frames = this.#queue
    const ahead = this.#ahead
    this.#queue = []
    this.#ahead = null
    const isExcepted = exceptedFrom(frames)
    let batch: Batch | null = null
    let delivered = 0
    for (const member of this.members) {
      const had = ahead?.get(member) ?? 0
      if (had > 0 || isExcepted?.(member.id) === true) {
        delivered += this.#writeOne(member, had > 0 ? frames.slice(had) : frames)
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
    const had = this.#ahead?.get(member) ?? 0
    this.#skip(member)
    return this.#writeOne(member, this.#queue.slice(had))
  }

  /** This member gets nothing of what is queued now. */
  #skip (member: Member): void {
    if (this.#queue.length === 0) return
    this.#ahead ??= new Map()
    this.#ahead.set(member, this.#queue.length)
  }

  #isNew ({ messageId, again }: Frame): boolean {
    if (this.head !== null && messageId > this.head) this.head = messageId
    this.#recent ??= new RecentIds()
    return this.#recent.add(messageId) || again
  }

  /** For one member alone: without the frames it sent itself. */
  #writeOne (member: Member, frames: readonly Frame[]): number {
    const own = frames.filter(({ except }) => except !== member.id)
    if (own.length === 0) return 0
    const { wire, payloads, ephemeral } = batchOf(own)
    member.write(wire, payloads, ephemeral)
    return own.length
  }
}

/** What `Member.write` is given. */
interface Batch { wire: Buffer, payloads: readonly Buffer[], ephemeral: boolean }

function batchOf (frames: readonly Frame[]): Batch {
  const payloads = frames.map(({ payload }) => payload)
  const [only] = payloads
  return {
    wire: payloads.length === 1 && only !== undefined ? wireFrame(only) : Buffer.concat(payloads.map(wireFrame)),
    payloads,
    ephemeral: frames.every(({ messageId }) => messageId === 0)
  }
}

/** Who sent some of these. Asked for each member: comparing with one or two ids costs a fraction of a look into a set. */
function exceptedFrom (frames: readonly Frame[]): ((id: string) => boolean) | null {
  let first: string | null = null
  let second: string | null = null
  for (const { except } of frames) {
    if (except === null || except === first || except === second) continue
    if (first === null) first = except
    else if (second === null) second = except
    else return inSet(frames)
  }
  return first === null ? null : (id) => id === first || id === second
}

function inSet (frames: readonly Frame[]): (id: string) => boolean {
  const ids = new Set(frames.map(({ except }) => except))
  return (id) => ids.has(id)
}

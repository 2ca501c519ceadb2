import type { Backplane, Frame } from './backplane/contract.js'
import type { ChannelKey } from './channels.js'
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

/** A member that has joined but must get something else first: its reply, what it missed. Live frames wait meanwhile. */
export interface Joining {
  /** Lets live frames through, those that waited first, without the ids that were replayed. */
  live (replayed?: ReadonlySet<number>): void
  /** Bytes of live frames that wait. */
  readonly waiting: number
}

interface Channel {
  key: ChannelKey
  members: Set<Member>
  joining: Map<Member, { frames: Frame[], bytes: number }>
  ready: Promise<void>
  /** Published since the last flush. */
  queue: Frame[]
  /** Durable ids of late, oldest first: an id that comes again is dropped here. */
  recent: Set<number>
  /** The largest durable id known on this channel; null until someone asked the log. */
  head: number | null
  /** Frames that wait while a gap before them is filled; null: there is none. */
  held: Frame[] | null
  /** Milliseconds since 1970: nobody here had a right to what was handed on before. */
  since: number
}

/** How many durable ids a channel remembers to recognise a repeat. Past it repeats are the client's to drop, by id. */
const RECENT_IDS = 1024

/**
 * Channel → local members. Frames published within one turn of the event loop leave as one write per member: with 500
 * members that is a fifth of the cost. Whoever writes to a member directly calls `flush` first, so that replies and
 * frames keep their order; so do `join` and `leave`, so that a frame reaches exactly those who were members when it came.
 */
export class Hub {
  readonly #channels = new Map<ChannelKey, Channel>()
  readonly #backplane: Pick<Backplane, 'subscribe' | 'unsubscribe'>
  #dirty: Channel[] = []
  #scheduled = false
  /** Deliveries since start, for the stats line. */
  delivered = 0
  /** The largest durable id that came by, on any channel. */
  newest = 0

  constructor (backplane: Pick<Backplane, 'subscribe' | 'unsubscribe'>) {
    this.#backplane = backplane
  }

  /** Channels with at least one local member. */
  get size (): number {
    return this.#channels.size
  }

  /**
   * Makes `member` hear the channel: from when this resolves nothing published on any node passes it by. Joining again
   * holds live frames back again, for another replay.
   */
  async join (key: ChannelKey, member: Member): Promise<Joining> {
    this.flush()
    let channel = this.#channels.get(key)
    if (channel === undefined) {
      channel = {
        key,
        members: new Set(),
        joining: new Map(),
        ready: this.#backplane.subscribe(key),
        queue: [],
        recent: new Set(),
        head: null,
        held: null,
        since: Date.now()
      }
      this.#channels.set(key, channel)
    }
    channel.members.delete(member)
    // Its own: what an earlier join of this member waited for must not let frames through that this one still holds back.
    const held = { frames: [], bytes: 0, ...channel.joining.get(member) }
    channel.joining.set(member, held)
    await channel.ready
    const joined = channel
    return {
      get waiting () { return held.bytes },
      live: (replayed) => {
        if (joined.joining.get(member) !== held) return // left meanwhile
        this.flush()
        joined.joining.delete(member)
        joined.members.add(member)
        for (const frame of held.frames) {
          if (replayed?.has(frame.messageId) !== true || frame.messageId === 0) this.#writeOne(member, [frame])
        }
      }
    }
  }

  leave (key: ChannelKey, member: Member): void {
    const channel = this.#channels.get(key)
    if (channel === undefined) return
    this.flush()
    channel.members.delete(member)
    channel.joining.delete(member)
    if (channel.members.size === 0 && channel.joining.size === 0) {
      this.#channels.delete(key)
      this.#backplane.unsubscribe(key)
    }
  }

  /** Frames from the backplane, or from the log where the backplane lost them. */
  deliver (key: ChannelKey, frames: readonly Frame[]): void {
    const channel = this.#channels.get(key)
    if (channel === undefined) return
    if (channel.held === null) this.#accept(channel, frames)
    else channel.held.push(...frames)
  }

  /** Frames of this channel wait from now on, until `fill` brings what came before them. Since when it has members here. */
  hold (key: ChannelKey): number | null {
    const channel = this.#channels.get(key)
    if (channel === undefined) return null
    channel.held ??= []
    return channel.since
  }

  /** Frames that were missed, then those that waited behind them. */
  fill (key: ChannelKey, missed: readonly Frame[]): void {
    const channel = this.#channels.get(key)
    if (channel === undefined) return
    const held = channel.held ?? []
    channel.held = null
    this.#accept(channel, missed)
    this.#accept(channel, held)
  }

  #accept (channel: Channel, frames: readonly Frame[]): void {
    for (const frame of frames) {
      if (frame.messageId > this.newest) this.newest = frame.messageId
      if (frame.messageId > 0 && !this.#isNew(channel, frame)) continue
      for (const held of channel.joining.values()) {
        held.frames.push(frame)
        held.bytes += frame.payload.length
      }
      if (channel.members.size === 0) continue
      if (channel.queue.length === 0) this.#dirty.push(channel)
      channel.queue.push(frame)
    }
    if (this.#dirty.length > 0 && !this.#scheduled) {
      this.#scheduled = true
      setImmediate(() => {
        this.#scheduled = false
        this.flush()
      })
    }
  }

  /** Writes everything that was delivered so far. */
  flush (): void {
    if (this.#dirty.length === 0) return
    const dirty = this.#dirty
    this.#dirty = []
    for (const channel of dirty) {
      const frames = channel.queue
      channel.queue = []
      this.#fanOut(channel.members, frames)
    }
  }

  /** The largest durable id on a channel that has members here; null where the log must be asked. */
  head (key: ChannelKey): number | null {
    return this.#channels.get(key)?.head ?? null
  }

  /** What the log said; live frames that came meanwhile may already be further. */
  learnHead (key: ChannelKey, id: number): void {
    const channel = this.#channels.get(key)
    if (channel !== undefined) channel.head = Math.max(channel.head ?? 0, id)
  }

  /** Keys that have local members. */
  keys (): ChannelKey[] {
    return [...this.#channels.keys()]
  }

  #isNew (channel: Channel, { messageId, again }: Frame): boolean {
    if (channel.head !== null && messageId > channel.head) channel.head = messageId
    if (channel.recent.has(messageId)) return again
    channel.recent.add(messageId)
    if (channel.recent.size > RECENT_IDS) {
      const oldest = channel.recent.values().next()
      if (oldest.done !== true) channel.recent.delete(oldest.value)
    }
    return true
  }

  #fanOut (members: ReadonlySet<Member>, frames: readonly Frame[]): void {
    const excepted = new Set<string>()
    for (const { except } of frames) if (except !== null) excepted.add(except)
    const payloads = frames.map(({ payload }) => payload)
    const wires = payloads.map(wireFrame)
    const wire = wires.length === 1 && wires[0] !== undefined ? wires[0] : Buffer.concat(wires)
    const ephemeral = frames.every(({ messageId }) => messageId === 0)
    for (const member of members) {
      if (excepted.size > 0 && excepted.has(member.id)) {
        this.#writeOne(member, frames)
        continue
      }
      this.delivered += frames.length
      member.write(wire, payloads, ephemeral)
    }
  }

  /** For one member alone: without the frames it sent itself. */
  #writeOne (member: Member, frames: readonly Frame[]): void {
    const own = frames.filter(({ except }) => except !== member.id)
    if (own.length === 0) return
    const payloads = own.map(({ payload }) => payload)
    this.delivered += own.length
    member.write(Buffer.concat(payloads.map(wireFrame)), payloads, own.every(({ messageId }) => messageId === 0))
  }
}

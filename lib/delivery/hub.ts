import type { MaybePromise } from '../async/maybe-promise.js'
import type { Backplane, OutgoingEvent } from '../backplane/contract.js'
import type { Clock } from '../clock.js'
import type { ChannelKey } from '../keys.js'
import type { Joining } from './joining.js'
import { LocalChannel, type Member } from './local-channel.js'

export type { Joining } from './joining.js'
export type { Member } from './local-channel.js'

/** Members from which on a channel rests. */
const COALESCE_MIN_MEMBERS = 64
/** The longest rest: so many times what the write took, and in milliseconds. */
const PAUSE_FACTOR = 3
const MAX_PAUSE_MS = 15
/** Channels with frames to write through which a reply looks for those of its own member. */
const SCAN_MAX_CHANNELS = 16
/** After a gap, milliseconds until the order in which events arrive is that of every other node again: a commit may take as long. */
const UNSETTLED = 10_000

/**
 * Channel → local members. Frames published within one turn of the event loop leave as one write per member: with 500
 * members that is a fifth of the cost. Where that takes long and publishers are many, a channel rests afterwards, until
 * as many frames wait as it just wrote or the rest is over: what they publish next, each when it has seen the last, is
 * then one write again and not two halves.
 *
 * Whoever writes to a member directly calls `flushFor` first, so that replies and frames keep their order; and a frame
 * reaches exactly those who were members when it came.
 */
export class Hub {
  readonly #channels = new Map<ChannelKey, LocalChannel>()
  readonly #backplane: Pick<Backplane, 'subscribe' | 'unsubscribe'>
  readonly #clock: Clock
  readonly #count = (delivered: number): void => { this.delivered += delivered }
  /** To be flushed at the end of this turn. */
  #dirty: LocalChannel[] = []
  #scheduled = false
  /** Their frames wait until there are `enough`, or the rest is over. */
  readonly #paused = new Map<LocalChannel, { flushAt: number, timer: NodeJS.Timeout }>()
  /** Deliveries since start, for the stats line. */
  delivered = 0
  /** The largest durable id that came by, on any channel. */
  newest = 0
  newestFrame: OutgoingEvent | null = null
  /** Called with a durable frame that is dropped, as its id has come before. */
  repeated: (key: ChannelKey, frame: OutgoingEvent) => void = () => {}

  constructor (backplane: Pick<Backplane, 'subscribe' | 'unsubscribe'>, clock: Clock) {
    this.#backplane = backplane
    this.#clock = clock
  }

  /** Channels with at least one local member. */
  get size (): number {
    return this.#channels.size
  }

  /**
   * Makes `member` hear the channel: from when this resolves nothing published on any node passes it by; no promise where
   * the node hears it already. Live from its `replied` on. A member that joins again is held back again, for another replay.
   */
  join (key: ChannelKey, member: Member): MaybePromise<Joining> {
    let channel = this.#channels.get(key)
    if (channel === undefined) {
      channel = new LocalChannel(key, this.#clock.now(), this.#backplane.subscribe(key))
      this.#channels.set(key, channel)
    }
    this.delivered += channel.flushFor(member)
    const joining = channel.join(member, this.newest, this.#count)
    return channel.ready?.then(() => joining) ?? joining
  }

  leave (key: ChannelKey, member: Member): void {
    const channel = this.#channels.get(key)
    if (channel === undefined) return
    this.delivered += channel.leave(member)
    if (channel.isEmpty) {
      this.#channels.delete(key)
      this.#backplane.unsubscribe(key)
    }
  }

  /** Frames from the backplane, or from the log where the backplane lost them. */
  deliver (key: ChannelKey, frames: readonly OutgoingEvent[]): void {
    const channel = this.#channels.get(key)
    if (channel === undefined) return
    if (channel.gap === null) this.#accept(channel, frames)
    else channel.gap.push(...frames)
  }

  /** Frames of this channel wait from now on, until `fill` brings what came before them. Since when it has members here. */
  startGap (key: ChannelKey): number | null {
    const channel = this.#channels.get(key)
    if (channel === undefined) return null
    channel.gap ??= []
    return channel.since
  }

  /** Frames that were missed, then those that waited behind them. */
  fillGap (key: ChannelKey, missed: readonly OutgoingEvent[]): void {
    const channel = this.#channels.get(key)
    if (channel === undefined) return
    const held = channel.gap ?? []
    channel.gap = null
    channel.unsettle(performance.now() + UNSETTLED)
    this.#accept(channel, missed)
    this.#accept(channel, held)
  }

  /** Writes what was delivered so far, but for channels that rest. */
  flush (): void {
    if (this.#dirty.length === 0) return
    const dirty = this.#dirty
    this.#dirty = []
    for (const channel of dirty) this.#flush(channel)
  }

  /**
   * Writes what was delivered so far to this member, to whom something else is about to be written: its reply need not
   * wait until all others were written to. Only where many channels are due, writing is cheaper than looking for its own.
   */
  flushFor (member: Member): void {
    if (this.#dirty.length > SCAN_MAX_CHANNELS) this.flush()
    for (const channel of this.#dirty) this.delivered += channel.flushFor(member)
    for (const channel of this.#paused.keys()) this.delivered += channel.flushFor(member)
  }

  /** The largest durable id on a channel that has members here; null where the log must be asked. */
  latestId (key: ChannelKey): number | null {
    return this.#channels.get(key)?.latestId ?? null
  }

  /** What the log said; live frames that came meanwhile may already be further. */
  noteLatestId (key: ChannelKey, id: number): void {
    this.#channels.get(key)?.learnHead(id)
  }

  /**
   * A member that has seen `id` has seen everything on this channel: `id` is the head, and nothing below it can have reached
   * this node, or another one, later.
   */
  isSettledAt (key: ChannelKey, id: number): boolean {
    const channel = this.#channels.get(key)
    return channel !== undefined && channel.latestId === id && channel.isSettled
  }

  /** Durable events that arrived on a channel; to be given to {@link settle}. */
  arrivals (key: ChannelKey): number {
    return this.#channels.get(key)?.arrivals ?? 0
  }

  /** The log says that nothing below `id`, the head, is late. It was asked when so many events had arrived. */
  settle (key: ChannelKey, id: number, arrivals: number): void {
    const channel = this.#channels.get(key)
    if (channel !== undefined && channel.latestId === id && channel.arrivals === arrivals) channel.isSettled = true
  }

  /** Ids that came by, and heads, are of a log that is no more. */
  forgetIds (): void {
    for (const channel of this.#channels.values()) channel.forgetIds()
  }

  /** Keys that have local members. */
  keys (): ChannelKey[] {
    return [...this.#channels.keys()]
  }

  #accept (channel: LocalChannel, frames: readonly OutgoingEvent[]): void {
    const wasClean = channel.queued === 0
    for (const frame of frames) {
      if (frame.messageId > this.newest) {
        this.newest = frame.messageId
        this.newestFrame = frame
      }
      if (!channel.accept(frame)) this.repeated(channel.key, frame)
    }
    if (channel.queued === 0) return
    const pause = this.#paused.get(channel)
    if (pause === undefined ? !wasClean : channel.queued < pause.flushAt) return
    clearTimeout(pause?.timer)
    this.#paused.delete(channel)
    this.#dirty.push(channel)
    if (this.#scheduled) return
    this.#scheduled = true
    setImmediate(() => {
      this.#scheduled = false
      this.flush()
    })
  }

  #flush (channel: LocalChannel): void {
    const flushAt = channel.queued
    const began = performance.now()
    this.delivered += channel.flush()
    if (flushAt < 2 || channel.members.size < COALESCE_MIN_MEMBERS) return
    const timer = setTimeout(() => {
      this.#paused.delete(channel)
      if (channel.queued > 0) this.#flush(channel)
    }, Math.min(PAUSE_FACTOR * (performance.now() - began), MAX_PAUSE_MS))
    this.#paused.set(channel, { flushAt, timer })
  }
}

import { isPromise, type MaybePromise } from '../async/maybe-promise.js'
import type { Backplane, OutgoingEvent } from '../backplane/contract.js'
import { isHidden, PRESENCE_CHANNEL, watchChannel } from '../channel-names.js'
import type { Clock } from '../clock.js'
import type { Id } from '../ids.js'
import { channelKey, channelOf, type ChannelKey } from '../keys.js'
import type { Joining } from './joining.js'
import { LocalChannel, type LocalEvent, type Member } from './local-channel.js'

export type { Joining } from './joining.js'
export type { Member } from './local-channel.js'

/** Channels with at least this many members pause after a flush. */
const COALESCE_MIN_MEMBERS = 64
/** Maximum length of a pause, as a multiple of the time the flush took. */
const PAUSE_FACTOR = 3
const MAX_PAUSE_MS = 15
/** With more queued channels than this, a reply flushes all of them instead of searching them for its member. */
const SCAN_MAX_CHANNELS = 16
/** After a gap, events may arrive in another order than on other nodes for as long as a commit may take, in milliseconds. */
const UNSETTLED_MS = 10_000

/**
 * The local members of each channel. Frames published within one turn of the event loop are one write per member: with 500
 * members that is a fifth of the cost. After a slow flush (several frames, 64 members or more) the channel is not flushed
 * again until the queue is as long as the last flush, or the pause is over. Publishers that wait for their own message then
 * share one write again.
 *
 * A user's changes are published on `presence` while they are sent to everyone, and otherwise on the user's hidden channel. A
 * node with members of the hidden channel receives both, and writes each change once per connection.
 *
 * A frame is written to exactly those who were members when it arrived. Before writing to a member directly, call `flushFor`:
 * it keeps the order of replies and frames.
 */
export class Hub {
  readonly #channels = new Map<ChannelKey, LocalChannel>()
  readonly #backplane: Pick<Backplane, 'subscribe' | 'unsubscribe'>
  readonly #clock: Clock
  readonly #count = (delivered: number): void => { this.delivered += delivered }
  /** Channels to flush at the end of this turn. */
  #dirty: LocalChannel[] = []
  #scheduled = false
  /** Channels in a pause, which ends early when `flushAt` frames are queued. */
  readonly #paused = new Map<LocalChannel, { flushAt: number, timer: NodeJS.Timeout }>()
  /** Channels on which events are missing that were published before. */
  readonly #gaps = new Set<ChannelKey>()
  /** Deliveries since start, for the stats line. */
  delivered = 0
  /** The largest durable id that has arrived on any channel. */
  newest = 0
  newestFrame: OutgoingEvent | null = null
  /** Called with a durable frame that is dropped because its id has arrived before. */
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
   * Adds a member to a channel. Everything published on any node after this resolves reaches the member. Synchronous if the
   * node is subscribed already (bench row "connect"). The member receives live events after `replied`, which may first replay
   * the events after `since`. A member that joins again waits for its reply again.
   */
  join (key: ChannelKey, member: Member, since = 0): MaybePromise<Joining> {
    const channel = this.#channels.get(key) ?? this.#open(key)
    this.delivered += channel.flushFor(member)
    const joining = channel.join(member, since, this.newest, this.#count)
    return channel.ready?.then(() => joining) ?? joining
  }

  leave (key: ChannelKey, member: Member): void {
    const channel = this.#channels.get(key)
    if (channel === undefined) return
    this.delivered += channel.leave(member)
    this.#closeIfEmpty(channel)
  }

  #open (key: ChannelKey): LocalChannel {
    let ready = this.#backplane.subscribe(key)
    if (isHidden(channelOf(key))) {
      const everyone = this.#channels.get(everyoneOf(key)) ?? this.#open(everyoneOf(key))
      everyone.watches++
      if (isPromise(ready) || everyone.ready !== null) ready = Promise.all([ready, everyone.ready]).then(() => {})
    }
    const channel = new LocalChannel(key, this.#clock.now(), ready)
    this.#channels.set(key, channel)
    return channel
  }

  #closeIfEmpty (channel: LocalChannel): void {
    const { key } = channel
    if (!channel.isEmpty) return
    this.#channels.delete(key)
    this.#gaps.delete(key)
    this.#backplane.unsubscribe(key)
    if (!channel.isHidden) return
    const everyone = this.#channels.get(everyoneOf(key))
    if (everyone === undefined) return
    everyone.watches--
    this.#closeIfEmpty(everyone)
  }

  /** The hidden channels that have members here, with the latest change of each. */
  get watched (): Array<{ key: ChannelKey, latest: Buffer | null }> {
    return [...this.#channels.values()].filter(({ isHidden }) => isHidden)
  }

  /** Records the current state of a watched user, until a change arrives. */
  noteLatest (tenantId: Id, userId: Id, latest: Buffer): void {
    const channel = this.#channels.get(channelKey(tenantId, watchChannel(userId)))
    if (channel !== undefined) channel.latest ??= latest
  }

  /** Delivers frames from the backplane, or from the log if the backplane lost them. */
  deliver (key: ChannelKey, frames: readonly OutgoingEvent[]): void {
    const channel = this.#channels.get(key)
    if (channel === undefined) return
    if (channel.gap === null) this.#accept(channel, frames)
    else channel.gap.push(...frames)
  }

  /** Holds back frames of this channel until `fillGap` delivers those before them. Returns the time since which it has members here, or null. */
  startGap (key: ChannelKey): number | null {
    const channel = this.#channels.get(key)
    // The log has no changes of presence.
    if (channel === undefined || channel.isHidden) return null
    channel.gap ??= []
    this.#gaps.add(key)
    return channel.since
  }

  /**
   * Writes missed frames, and those held back behind them. `isComplete`: false if the missed ones could not be read yet. The gap ends
   * when they are written: the frames of another channel, which may be written first, must not move a stream's cursor past them.
   */
  fillGap (key: ChannelKey, missed: readonly OutgoingEvent[], isComplete = true): void {
    const channel = this.#channels.get(key)
    if (channel !== undefined) {
      const held = channel.gap ?? []
      channel.gap = null
      channel.unsettle(performance.now() + UNSETTLED_MS)
      this.#accept(channel, missed)
      this.#accept(channel, held)
      if (channel.queued > 0) this.delivered += channel.flush()
    }
    if (isComplete) this.#gaps.delete(key)
  }

  /** Whether events are missing on one of these channels of a tenant. */
  hasGap (tenantId: Id, channels: Iterable<string>): boolean {
    if (this.#gaps.size > 0) for (const channel of channels) if (this.#gaps.has(channelKey(tenantId, channel))) return true
    return false
  }

  /** Writes queued frames, except those of paused channels. */
  flush (): void {
    if (this.#dirty.length === 0) return
    const dirty = this.#dirty
    this.#dirty = []
    for (const channel of dirty) this.#flush(channel)
  }

  /**
   * Writes the queued frames of one member, before something else is written to it: a reply need not wait for the writes to
   * all other members. If many channels are queued, flushing them is cheaper than searching them for the member.
   */
  flushFor (member: Member): void {
    if (this.#dirty.length > SCAN_MAX_CHANNELS) this.flush()
    for (const channel of this.#dirty) this.delivered += channel.flushFor(member)
    for (const channel of this.#paused.keys()) this.delivered += channel.flushFor(member)
  }

  /** The largest durable id on a channel that has members here; null if it must be read from the log. */
  latestId (key: ChannelKey): number | null {
    return this.#channels.get(key)?.latestId ?? null
  }

  /** The largest id according to the log. Live frames that arrived during the read may have larger ids. */
  noteLatestId (key: ChannelKey, id: number): void {
    this.#channels.get(key)?.learnHead(id)
  }

  /**
   * Whether a client that has seen `id` has seen everything on this channel: `id` is the latest, and no lower id can have
   * reached this node or another one after it.
   */
  isSettledAt (key: ChannelKey, id: number): boolean {
    const channel = this.#channels.get(key)
    return channel !== undefined && channel.latestId === id && channel.isSettled
  }

  /** Number of durable events that have arrived on a channel, for {@link settle}. */
  arrivals (key: ChannelKey): number {
    return this.#channels.get(key)?.arrivals ?? 0
  }

  /** The log has no late events below `id`, the latest. `arrivals`: the number of arrived events when the log was read. */
  settle (key: ChannelKey, id: number, arrivals: number): void {
    const channel = this.#channels.get(key)
    if (channel !== undefined && channel.latestId === id && channel.arrivals === arrivals) channel.isSettled = true
  }

  /** Forgets all ids: they belong to an earlier epoch of the log. */
  forgetIds (): void {
    for (const channel of this.#channels.values()) channel.forgetIds()
  }


  /** A change that is sent to everyone: watchers of the user get it, too, once. */
  #share (everyone: LocalChannel, frame: OutgoingEvent): LocalEvent {
    const watch = this.#channels.get(everyone.key.slice(0, -PRESENCE_CHANNEL.length) + watchChannel(frame.about as unknown as Id) as ChannelKey)
    if (watch === undefined) return frame
    // If the reply to `presence:watch` is not written yet, the change follows it.
    const waiting = [...watch.joining].filter((member) => everyone.includes(member))
    this.#accept(watch, [{ ...frame, skip: new Set([...watch.members].filter((member) => everyone.includes(member))) }])
    return waiting.length === 0 ? frame : { ...frame, skip: new Set(waiting) }
  }

  #accept (channel: LocalChannel, frames: readonly LocalEvent[]): void {
    const wasClean = channel.queued === 0
    for (const frame of frames) {
      if (frame.messageId > this.newest) {
        this.newest = frame.messageId
        this.newestFrame = frame
      }
      if (!channel.accept(frame.about !== undefined && channel.watches > 0 ? this.#share(channel, frame) : frame)) this.repeated(channel.key, frame)
    }
    if (channel.isHidden) channel.latest = frames.at(-1)?.payload ?? null
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

/** The channel `presence` of the tenant of a hidden channel. */
const everyoneOf = (key: ChannelKey): ChannelKey => key.slice(0, key.indexOf('/') + 1) + PRESENCE_CHANNEL as ChannelKey

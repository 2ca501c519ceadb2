import type { OutgoingEvent } from '../lib/backplane/contract.js'
import { systemClock } from '../lib/clock.js'
import type { Batch } from '../lib/delivery/batch.js'
import { Hub, type Joining, type Member } from '../lib/delivery/hub.js'
import type { ChannelKey } from '../lib/keys.js'
import { websocketFrame } from '../lib/wire/websocket-frame.js'

/** Where a line was received: on a channel, or written to the member directly. */
export interface Line { on: string, text: string }

/** A member that notes what it was sent, and checks that both forms of it agree. */
export class Listener implements Member {
  readonly lines: Line[] = []
  readonly writes: Array<{ count: number, ephemeral: boolean }> = []
  broken = ''

  waitsOn = 0

  constructor (readonly id: string) {}

  write ({ wire, payloads, isEphemeral: ephemeral }: Batch): void {
    if (!wire.equals(Buffer.concat(payloads.map(websocketFrame)))) this.broken = `${this.id}: the wire form is not that of its payloads`
    const lines = payloads.map((payload) => JSON.parse(payload.toString()) as Line & { id: number })
    if (ephemeral !== lines.every(({ id }) => id === 0)) this.broken = `${this.id}: ephemeral is ${ephemeral}`
    this.lines.push(...lines.map(({ on, text }) => ({ on, text })))
    this.writes.push({ count: payloads.length, ephemeral })
  }

  hold (): boolean {
    return true
  }

  release (): void {}

  texts (): string[] {
    return this.lines.map(({ text }) => text)
  }
}

export const frameOn = (on: string, text: string, rest: Partial<OutgoingEvent> = {}): OutgoingEvent => {
  const frame = { messageId: 0, excludeConnectionId: null, isRetry: false, ...rest }
  return { ...frame, payload: Buffer.from(JSON.stringify({ on, text, id: frame.messageId })) }
}

/** A hub on a backplane that notes what is subscribed, and takes as long for it as `subscribing` does. */
export function newHub (subscribing: () => Promise<void> = async () => {}): { hub: Hub, subscribed: Set<string> } {
  const subscribed = new Set<string>()
  const hub = new Hub({
    subscribe: async (key) => {
      subscribed.add(key)
      await subscribing()
    },
    unsubscribe: (key) => { subscribed.delete(key) }
  }, systemClock)
  return { hub, subscribed }
}

interface Waiting {
  /** One for each reply that may be written: its join is through. */
  joinings: Joining[]
  /** Replies that are awaited, and whether there was one. */
  replies: number
  hasReply: boolean
  held: OutgoingEvent[]
}

interface Place {
  members: Set<Listener>
  waiting: Map<Listener, Waiting>
  seen: Set<number>
  /** Frames behind a gap. */
  gap: OutgoingEvent[] | null
}

/** The hub once more, without coalescing: what each member must have heard, on each channel, in order. */
export class Model {
  readonly expected = new Map<Listener, Line[]>()
  readonly places = new Map<ChannelKey, Place>()

  /** Returns whom to tell when the hub's own `join` is through. */
  joined (key: ChannelKey, member: Listener): Waiting {
    const place = this.places.get(key) ?? { members: new Set(), waiting: new Map(), seen: new Set(), gap: null }
    this.places.set(key, place)
    place.members.delete(member)
    const waiting = place.waiting.get(member) ?? { joinings: [], replies: 0, hasReply: false, held: [] }
    waiting.replies++
    place.waiting.set(member, waiting)
    return waiting
  }

  /** Only the last reply lets everything through; the first, what is for those who listen now. */
  replied (key: ChannelKey, member: Listener): void {
    const place = this.places.get(key)
    const waiting = place?.waiting.get(member)
    if (place === undefined || waiting === undefined) return
    waiting.replies--
    waiting.hasReply = true
    const isLive = waiting.replies === 0
    const passing = isLive ? waiting.held : waiting.held.filter(({ messageId }) => messageId === 0)
    waiting.held = waiting.held.filter(({ messageId }) => messageId > 0)
    for (const frame of passing) this.#hears(member, frame)
    if (!isLive) return
    place.waiting.delete(member)
    place.members.add(member)
  }

  left (key: ChannelKey, member: Listener): void {
    const place = this.places.get(key)
    place?.members.delete(member)
    place?.waiting.delete(member)
    if (place?.members.size === 0 && place.waiting.size === 0) this.places.delete(key)
  }

  delivered (key: ChannelKey, frames: readonly OutgoingEvent[]): void {
    const place = this.places.get(key)
    if (place === undefined) return
    if (place.gap === null) for (const frame of frames) this.#passes(place, frame)
    else place.gap.push(...frames)
  }

  held (key: ChannelKey): void {
    const place = this.places.get(key)
    if (place !== undefined) place.gap ??= []
  }

  filled (key: ChannelKey, missed: readonly OutgoingEvent[]): void {
    const place = this.places.get(key)
    const gap = place?.gap ?? []
    if (place !== undefined) place.gap = null
    this.delivered(key, [...missed, ...gap])
  }

  wrote (member: Listener, line: Line): void {
    this.expected.set(member, [...this.expected.get(member) ?? [], line])
  }

  /** What differs, on any channel of any member: order holds within a channel, and between it and what was written directly. */
  differences (members: readonly Listener[], keys: readonly string[]): string[] {
    return members.flatMap((member) => [...member.broken === '' ? [] : [member.broken], ...keys.flatMap((key) => {
      const of = (lines: readonly Line[]): string => lines.filter(({ on }) => on === key || on === 'direct').map(({ text }) => text).join()
      const [expected, actual] = [of(this.expected.get(member) ?? []), of(member.lines)]
      return expected === actual ? [] : [`${member.id} on ${key} should hear\n${expected}\nand heard\n${actual}`]
    })])
  }

  #passes ({ members, waiting, seen }: Place, frame: OutgoingEvent): void {
    if (frame.messageId > 0 && seen.has(frame.messageId) && !frame.isRetry) return
    seen.add(frame.messageId)
    for (const member of members) this.#hears(member, frame)
    for (const [member, { hasReply, held }] of waiting) {
      if (hasReply && frame.messageId === 0) this.#hears(member, frame)
      else held.push(frame)
    }
  }

  #hears (member: Listener, frame: OutgoingEvent): void {
    if (frame.excludeConnectionId !== member.id) this.wrote(member, JSON.parse(frame.payload.toString()) as Line)
  }
}

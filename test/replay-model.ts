import type { OutgoingEvent } from '../lib/backplane/contract.js'
import { privateOwner } from '../lib/channel-names.js'
import { systemClock } from '../lib/clock.js'
import { Batch } from '../lib/delivery/batch.js'
import { Hub } from '../lib/delivery/hub.js'
import type { Joining, Page } from '../lib/delivery/joining.js'
import { Replayer, type PagePlace, type PageReader, type PageSource, type Reader } from '../lib/delivery/replayer.js'
import { Ids } from '../lib/ids.js'
import { channelOf, type ChannelKey } from '../lib/keys.js'

const integers = new Ids('integer')

/** A durable event on its way: its id is given when its insert begins, then it is committed, handed on, and arrives. */
export interface Event {
  id: number
  key: ChannelKey
  /** The sender's own channel, which is told as well. */
  copyTo: ChannelKey | null
  sender: number
  origin: number
  createdAt: number
  committed: boolean
  handedAt: number | null
  confirmed: boolean
  /** It was sent again since: at no place in the order. */
  sentAgain: boolean
  /** The connection that sent it and need not get it. */
  except: string | null
}

const NEVER = Number.MAX_SAFE_INTEGER
/** As it is told on one of its channels. */
const textOf = ({ id }: Event, on: string): Buffer => Buffer.from(JSON.stringify({ id, on, text: 'x'.repeat(id % 7 * 10) }))
export const frameOf = (event: Event, on: string, rest: Partial<OutgoingEvent> = {}): OutgoingEvent =>
  ({ payload: textOf(event, on), messageId: event.id, excludeConnectionId: null, isRetry: false, ...rest })

const isOn = ({ key, copyTo }: Event, channel: ChannelKey): boolean => key === channel || copyTo === channel

/** What is in the log, as replays read it: each read has what was committed when it is answered, some time after it was asked. */
export class Log implements PageReader {
  readonly pageBytes = 200
  readonly events: Event[] = []
  now = 0
  /** Now and then a read does. */
  fails = true
  /** Answers one read that waits. */
  readonly #waiting: Array<() => void> = []
  readonly #random: (n: number) => number

  constructor (random: (n: number) => number) {
    this.#random = random
  }

  get reads (): number {
    return this.#waiting.length
  }

  answer (): void {
    this.#waiting.splice(this.#random(this.#waiting.length), 1)[0]?.()
  }

  async after (key: ChannelKey, since: number, isFurther: boolean): Promise<Page> {
    const below = (): Event[] => this.committed.filter((event) => isFurther && event.key === key && event.id <= since)
    return await this.#read(key, below, () => this.committed.filter((event) => event.id > since &&
      (event.key === key || (event.copyTo === key && privateOwner(channelOf(key), integers) !== null))))
  }

  async byIds (key: ChannelKey, ids: readonly number[]): Promise<Page> {
    return await this.#read(key, () => [], () => this.committed.filter((event) => ids.includes(event.id) && isOn(event, key)))
  }

  async lateBelow (key: ChannelKey, since: number): Promise<number[]> {
    const { events } = await this.#read(key, () => [], () => this.#late(key, since), NEVER)
    return events.map(({ id }) => id)
  }

  isLate (key: ChannelKey, since: number): boolean {
    return this.#late(key, since).length > 0
  }

  async waiting (key: ChannelKey, since: number): Promise<Page> {
    const waiting = (): Event[] => this.committed.filter((event) => event.key === key && !event.confirmed)
    return await this.#read(key, () => waiting().filter(({ id }) => id <= since), () => waiting().filter(({ id }) => id > since))
  }

  get committed (): Event[] {
    return this.events.filter(({ committed }) => committed).sort((a, b) => a.id - b.id)
  }

  async together (places: readonly PagePlace[]): Promise<Page[]> {
    return await Promise.all(places.map(async ({ key, since, isFurther }) => await this.after(key, since, isFurther)))
  }

  #late (key: ChannelKey, since: number): Event[] {
    const last = this.events.find(({ id }) => id === since)
    return last === undefined
      ? []
      : this.committed.filter((event) => event.key === key && event.id < since && event.origin !== last.origin && (event.handedAt ?? NEVER) >= last.createdAt)
  }

  async #read (key: ChannelKey, findBelow: () => Event[], find: () => Event[], most = 1 + this.#random(4)): Promise<Page & { events: Event[] }> {
    if (this.fails && this.#random(10) === 0) throw new Error('the database is away')
    const [found, below] = await new Promise<[Event[], Event[]]>((resolve) => { this.#waiting.push(() => { resolve([find(), findBelow()]) }) })
    // Read, and under way.
    if (this.#random(2) === 0) await new Promise<void>((resolve) => { this.#waiting.push(resolve) })
    const events = found.slice(0, most)
    const payloads = events.map((event) => textOf(event, key))
    return { events, ids: events.map(({ id }) => id), batch: new Batch(payloads, false, events.at(-1)?.id ?? 0), more: found.length > most, below: below.map(({ id }) => id) }
  }
}

/** A reader that takes what it is sent when it is told to, and may have so much waiting. */
export class SlowReader implements Reader {
  readonly capacity = 1200
  readonly heard = new Map<string, Event[]>()
  readonly replayer: Replayer
  closed = false
  waiting = 0
  waitsOn = 0
  aside = 0
  most = 0
  readonly #rooms: Array<() => void> = []
  readonly #log: Log

  constructor (readonly id: string, log: Log, again: (key: ChannelKey, first: PageSource) => void) {
    this.#log = log
    this.replayer = new Replayer(this, log, again)
  }

  write ({ payloads, isEphemeral: ephemeral }: Batch): void {
    if (this.closed || ephemeral) return
    this.waiting += payloads.reduce((sum, { length }) => sum + length, 0)
    if (this.waiting + this.aside > this.capacity) this.giveUp()
    else this.#note(payloads)
  }

  hold (bytes: number): boolean {
    if (this.aside + bytes > this.capacity / 4 || this.waiting + this.aside + bytes > this.capacity) return false
    this.aside += bytes
    this.most = Math.max(this.most, this.waiting + this.aside)
    return true
  }

  release (bytes: number): void {
    this.aside -= bytes
  }

  room (bytes: number): undefined | Promise<void> {
    if (this.closed || this.#hasRoom(bytes)) return
    return new Promise((resolve) => { this.#rooms.push(resolve) })
  }

  giveUp (): void {
    this.closed = true
    this.take(Infinity)
  }

  replayed (): void {}

  take (bytes: number): void {
    this.waiting = Math.max(0, this.waiting - bytes)
    if (this.closed || this.#hasRoom(this.#log.pageBytes)) for (const resolve of this.#rooms.splice(0)) resolve()
  }

  #hasRoom (bytes: number): boolean {
    return this.waiting === 0 || this.waiting + bytes <= this.capacity / 4
  }

  #note (payloads: readonly Buffer[]): void {
    this.most = Math.max(this.most, this.waiting + this.aside)
    for (const payload of payloads) {
      const { id, on } = JSON.parse(payload.toString()) as { id: number, on: string }
      const event = this.#log.events.find((one) => one.id === id)
      if (event === undefined) continue
      const heard = this.heard.get(on)
      if (heard === undefined) this.heard.set(on, [event])
      else heard.push(event)
    }
  }
}

/** What one subscription must have brought in the end. */
export interface Subscription {
  reader: SlowReader
  key: ChannelKey
  joining: Joining
  /** Where reading the log began for an earlier one, at the most. */
  startedBefore: number
  /** Replies that are still to be written, with what each promised. */
  replies: Array<{ since?: number | undefined, isLate?: boolean, first?: PageSource | undefined }>
  /** What its client has seen before; null: it asked for nothing of before. */
  seen: ReadonlySet<number> | null
  /** It was promised what waited for the user. */
  withWaiting: boolean
  /** Arrived here since it joined. */
  arrived: Set<Event>
  /** What was heard until then is of an earlier subscription. */
  heardBefore: number
  /** What waited for the user could not be read at first, and came behind live events. */
  isLate: boolean
}

/** What a subscription still lacks, once everything is committed, handed on, read and taken. */
export function lacking ({ reader, key, seen, withWaiting, arrived }: Subscription, log: Log): number[] {
  const has = new Set([...seen ?? [], ...(reader.heard.get(key) ?? []).map(({ id }) => id)])
  return log.events
    .filter((event) => event.except !== reader.id && (arrived.has(event) || (event.key === key && (seen !== null || (withWaiting && !event.confirmed)))))
    .map(({ id }) => id).filter((id) => !has.has(id))
}

/**
 * Events of one sender that came for the first time after later ones of the same sender. Not of where reading the log began:
 * what is committed right then below it may come behind. And not of copies, which stand on other channels.
 */
export function disordered ({ reader, key, joining, startedBefore, seen, withWaiting, arrived, heardBefore, isLate }: Subscription): string[] {
  if (isLate) return []
  const start = Math.max(joining.start, startedBefore)
  const newest = new Map<number, number>()
  const known = new Set<number>(seen)
  return (reader.heard.get(key) ?? []).slice(heardBefore).flatMap((event) => {
    const { id, sender } = event
    // Nobody asked for it: it came before, and again with what was dropped.
    if (seen === null && !(withWaiting && !event.confirmed) && !arrived.has(event)) return []
    if (event.sentAgain || event.except === reader.id || event.key !== key || id <= start || known.has(id)) return []
    known.add(id)
    const before = newest.get(sender) ?? 0
    newest.set(sender, Math.max(before, id))
    return id < before ? [`${id} of sender ${sender} after ${before}`] : []
  })
}

export const newHub = (): Hub => new Hub({ subscribe: () => undefined, unsubscribe: () => {} }, systemClock)

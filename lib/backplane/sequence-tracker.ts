import { setTimeout as wait } from 'node:timers/promises'
import type { ChannelKey } from '../keys.js'

/**
 * Each channel's durable messages are numbered by a counter in Redis, by which a node finds out that it missed some.
 * Messages without durable events have no number: nobody reads them later, so nobody need know that one was lost, and
 * their channels leave no keys.
 *
 * A counter ends when nothing was numbered for COUNTER_TTL or a little longer, so that channels nobody uses leave no keys
 * either. The next
 * message then begins a new counter, at a number taken from Redis' clock and marked as its first. That is no gap if the
 * counter ended because of its age and everything before was heard, and both can be told:
 *
 * - Of age: its last number was given at least COUNTER_TTL ago. Where a counter is gone earlier, it was evicted or flushed, and
 *   messages may have been numbered and lost meanwhile: that is a gap.
 * - All heard: a message that was lost silently kept the counter for at least COUNTER_TTL from then on, with a number that
 *   the next comparison with Redis, every few seconds, finds to be larger than the one here. So where such a comparison
 *   was made within the last COUNTER_TTL, nothing is missing; else (Redis could not be asked for so long) it is a gap.
 *
 * In doubt it is a gap: the log is read once in vain. What cannot be told is the loss of a new counter's first message
 * when the counter is evicted too, before the next comparison. Numbers of a new counter never continue those of the old one, since
 * a channel has fewer messages than there are microseconds.
 */
export const COUNTER_TTL = 120_000

/** What is under way is not lost: a lag is looked at again after this time. */
const LAG_PAUSE_MS = 1000
/** Between giving a number and hearing it; a counter may end this much earlier than reckoned here. */
const SLACK = 2000
/** Instead of a number: there is no counter. */
const NONE = 0

/** What Redis says of a channel's counter. */
export interface Counter {
  /** The last number; 0: there is no counter. */
  number: number
  /** Milliseconds until it ends. */
  ttl: number
}

const sleep = async (ms: number): Promise<void> => { await wait(ms) }

interface Sequence {
  /** The last number seen; null while none is known. */
  last: number | null
  /** It was asked for, not seen: messages up to it may still be under way. */
  isUpperBound: boolean
  /** When it was last known that nothing is missing, and when the counter ends unless it is used. */
  provenAt: number
  endsAt: number
}

/** The numbers of each channel that this node has heard. */
export class SequenceTracker {
  readonly #sequences = new Map<ChannelKey, Sequence>()
  readonly #read: (keys: ChannelKey[]) => Promise<Counter[]>
  readonly #now: () => number
  readonly #pause: (ms: number) => Promise<void>

  /** `read` asks Redis for the counter of each channel; the others are time, which tests move. */
  constructor (read: (keys: ChannelKey[]) => Promise<Counter[]>, now = (): number => performance.now(), pause = sleep) {
    this.#read = read
    this.#now = now
    this.#pause = pause
  }

  add (key: ChannelKey): void {
    this.#sequences.set(key, { last: null, isUpperBound: false, provenAt: 0, endsAt: 0 })
  }

  delete (key: ChannelKey): void {
    this.#sequences.delete(key)
  }

  /** Of no channel is a number known any more. */
  reset (): void {
    for (const sequence of this.#sequences.values()) sequence.last = null
  }

  /** Notes the number of a message, `first` of a new counter; false: one before it was missed. */
  accept (key: ChannelKey, number: number, first: boolean): boolean {
    const sequence = this.#sequences.get(key)
    if (sequence === undefined) return true
    const { last, isUpperBound } = sequence
    if (isUpperBound && last !== null && number <= last) return true
    const follows = last === null || (first ? this.#mayHaveEnded(sequence) : number === last + 1)
    sequence.last = number
    sequence.isUpperBound = false
    sequence.provenAt = this.#now()
    sequence.endsAt = sequence.provenAt + COUNTER_TTL
    return follows
  }

  /** Where each channel begins. Without it the loss of a channel's first message could not be seen. */
  async initialise (keys: ChannelKey[]): Promise<void> {
    const counters = await this.#read(keys)
    keys.forEach((key, i) => {
      const sequence = this.#sequences.get(key)
      const counter = counters[i]
      if (sequence !== undefined && counter !== undefined && (sequence.last ?? -1) < counter.number) this.#take(sequence, counter)
    })
  }

  /** Finds a loss on channels where no later message shows it: the number here lags, now and a moment later too. */
  async findGaps (keys: ChannelKey[] = [...this.#sequences.keys()]): Promise<ChannelKey[]> {
    const lagging = await this.#lagging(keys)
    if (lagging.size === 0) return []
    await this.#pause(LAG_PAUSE_MS)
    const lost: ChannelKey[] = []
    for (const [key, { last, counter }] of await this.#lagging([...lagging.keys()])) {
      const sequence = this.#sequences.get(key)
      // Moved on meanwhile: what looked lost was under way.
      if (sequence === undefined || lagging.get(key)?.last !== last) continue
      this.#take(sequence, counter)
      lost.push(key)
    }
    return lost
  }

  async #lagging (keys: ChannelKey[]): Promise<Map<ChannelKey, { last: number, counter: Counter }>> {
    const lagging = new Map<ChannelKey, { last: number, counter: Counter }>()
    const askedAt = this.#now()
    const counters = await this.#read(keys)
    keys.forEach((key, i) => {
      const sequence = this.#sequences.get(key)
      const counter = counters[i]
      if (sequence === undefined || counter === undefined) return
      const { last } = sequence
      if (last === null || (counter.number === NONE && this.#mayHaveEnded(sequence))) this.#take(sequence, counter)
      else if (last === counter.number) Object.assign(sequence, { provenAt: askedAt, endsAt: askedAt + counter.ttl })
      else lagging.set(key, { last, counter })
    })
    return lagging
  }

  /** From here on this is what Redis has. */
  #take (sequence: Sequence, { number, ttl }: Counter): void {
    const now = this.#now()
    Object.assign(sequence, { last: number, asked: true, provenAt: now, endsAt: now + ttl })
  }

  /** There is no counter because of its age, or there was none before, and nothing that was counted is missing here. */
  #mayHaveEnded ({ last, provenAt, endsAt }: Sequence): boolean {
    const now = this.#now()
    return now - provenAt <= COUNTER_TTL - SLACK && (last === NONE || now >= endsAt - SLACK)
  }
}

import { setTimeout as wait } from 'node:timers/promises'
import type { ChannelKey } from '../keys.js'

/**
 * A counter in Redis numbers each channel's messages with durable events, so that a node notices that it missed one.
 * Messages with ephemeral events alone have no number: a lost one cannot be read again, and their channels need no keys.
 *
 * A counter expires COUNTER_TTL_MS after its last number, or a little later, so that unused channels leave no keys. The next
 * message starts a new counter, at a number taken from Redis' clock, and is marked as its first. That is not a gap if the
 * counter expired because of its age and this node received everything before. Both can be checked:
 *
 * - Age: the last number was given at least COUNTER_TTL_MS ago. A counter that is gone earlier was evicted or flushed, and
 *   messages may have been numbered and lost meanwhile: that is a gap.
 * - Completeness: a lost message kept the counter alive for at least COUNTER_TTL_MS, with a number that is larger than the one
 *   known here. The comparison with Redis every few seconds notices that. So if there was a comparison within the last
 *   COUNTER_TTL_MS, nothing is missing; otherwise (Redis could not be reached for that long) it is a gap.
 *
 * If in doubt it is a gap, and the log is read in vain. One loss cannot be noticed: that of a new counter's first message if
 * the counter is evicted as well before the next comparison. The numbers of a new counter never continue those of the old
 * one, because a channel has fewer messages than there are microseconds.
 */
export const COUNTER_TTL_MS = 120_000

/** A message may still be on its way: a lag is checked again after this time. */
const LAG_PAUSE_MS = 1000
/** Milliseconds from the numbering of a message to its arrival: a counter may expire this much earlier than calculated here. */
const SLACK_MS = 2000
/** The number of a counter that does not exist. */
const NO_COUNTER = 0

/** A channel's counter in Redis. */
export interface Counter {
  /** The last number; 0 if there is no counter. */
  number: number
  /** Milliseconds until it expires. */
  ttl: number
}

const sleep = async (ms: number): Promise<void> => { await wait(ms) }

interface Sequence {
  /** The last known number; null if none is known. */
  last: number | null
  /** It was read from Redis: messages up to this number may still be on their way. */
  isUpperBound: boolean
  /** The last time at which nothing was missing, and the time at which the counter expires unless it is used. */
  provenAt: number
  expiresAt: number
}

/** The numbers of each channel that this node has received. */
export class SequenceTracker {
  readonly #sequences = new Map<ChannelKey, Sequence>()
  readonly #read: (keys: ChannelKey[]) => Promise<Counter[]>
  readonly #now: () => number
  readonly #pause: (ms: number) => Promise<void>

  /** `read` reads the counters of channels from Redis. `now` and `pause` are replaced in tests. */
  constructor (read: (keys: ChannelKey[]) => Promise<Counter[]>, now = (): number => performance.now(), pause = sleep) {
    this.#read = read
    this.#now = now
    this.#pause = pause
  }

  add (key: ChannelKey): void {
    this.#sequences.set(key, { last: null, isUpperBound: false, provenAt: 0, expiresAt: 0 })
  }

  delete (key: ChannelKey): void {
    this.#sequences.delete(key)
  }

  /** Forgets the numbers of all channels. */
  reset (): void {
    for (const sequence of this.#sequences.values()) sequence.last = null
  }

  /** Records the number of a message. Returns false if a message before it was missed. `isFirst`: it starts a new counter. */
  accept (key: ChannelKey, number: number, isFirst: boolean): boolean {
    const sequence = this.#sequences.get(key)
    if (sequence === undefined) return true
    const { last, isUpperBound } = sequence
    if (isUpperBound && last !== null && number <= last) return true
    const follows = last === null || (isFirst ? this.#mayHaveExpired(sequence) : number === last + 1)
    sequence.last = number
    sequence.isUpperBound = false
    sequence.provenAt = this.#now()
    sequence.expiresAt = sequence.provenAt + COUNTER_TTL_MS
    return follows
  }

  /** Reads where channels start. Without it, the loss of a channel's first message would not be noticed. */
  async initialise (keys: ChannelKey[]): Promise<void> {
    const counters = await this.#read(keys)
    keys.forEach((key, i) => {
      const sequence = this.#sequences.get(key)
      const counter = counters[i]
      if (sequence !== undefined && counter !== undefined && (sequence.last ?? -1) < counter.number) this.#adopt(sequence, counter)
    })
  }

  /** Finds losses that no later message has revealed: the number here is behind Redis' now, and still is a moment later. */
  async findGaps (keys: ChannelKey[] = [...this.#sequences.keys()]): Promise<ChannelKey[]> {
    const lagging = await this.#lagging(keys)
    if (lagging.size === 0) return []
    await this.#pause(LAG_PAUSE_MS)
    const lost: ChannelKey[] = []
    for (const [key, { last, counter }] of await this.#lagging([...lagging.keys()])) {
      const sequence = this.#sequences.get(key)
      // The number has changed: the message was on its way.
      if (sequence === undefined || lagging.get(key)?.last !== last) continue
      this.#adopt(sequence, counter)
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
      if (last === null || (counter.number === NO_COUNTER && this.#mayHaveExpired(sequence))) this.#adopt(sequence, counter)
      else if (last === counter.number) Object.assign(sequence, { provenAt: askedAt, expiresAt: askedAt + counter.ttl })
      else lagging.set(key, { last, counter })
    })
    return lagging
  }

  /** Continues with the counter that Redis has. */
  #adopt (sequence: Sequence, { number, ttl }: Counter): void {
    const now = this.#now()
    Object.assign(sequence, { last: number, isUpperBound: true, provenAt: now, expiresAt: now + ttl })
  }

  /** The counter expired because of its age, or there was none before, and this node received everything that was numbered. */
  #mayHaveExpired ({ last, provenAt, expiresAt }: Sequence): boolean {
    const now = this.#now()
    return now - provenAt <= COUNTER_TTL_MS - SLACK_MS && (last === NO_COUNTER || now >= expiresAt - SLACK_MS)
  }
}

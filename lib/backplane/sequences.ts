import type { ChannelKey } from '../channels.js'

/** What is under way is not lost: a lag is looked at again after this time. */
const LAG_PAUSE = 1000

interface Sequence {
  /** The last number seen; null while none is known. */
  last: number | null
  /** It was asked for, not seen: messages up to it may still be under way. */
  asked: boolean
}

/** The numbers that Redis gives to the messages of each channel, by which a node finds out that it missed some. */
export class Sequences {
  readonly #sequences = new Map<ChannelKey, Sequence>()
  readonly #read: (keys: ChannelKey[]) => Promise<number[]>

  /** `read` asks Redis for the last number of each channel. */
  constructor (read: (keys: ChannelKey[]) => Promise<number[]>) {
    this.#read = read
  }

  add (key: ChannelKey): void {
    this.#sequences.set(key, { last: null, asked: false })
  }

  delete (key: ChannelKey): void {
    this.#sequences.delete(key)
  }

  /** Of no channel is a number known any more. */
  forget (): void {
    for (const sequence of this.#sequences.values()) sequence.last = null
  }

  /** Notes the number of a message; false: one before it was missed. */
  follows (key: ChannelKey, number: number): boolean {
    const sequence = this.#sequences.get(key)
    if (sequence === undefined) return true
    const { last, asked } = sequence
    if (asked && last !== null && number <= last) return true
    sequence.last = number
    sequence.asked = false
    return last === null || number === last + 1
  }

  /** Where each channel begins. Without it the loss of a channel's first message could not be seen. */
  async begin (keys: ChannelKey[]): Promise<void> {
    const numbers = await this.#read(keys)
    keys.forEach((key, i) => {
      const sequence = this.#sequences.get(key)
      const number = numbers[i] ?? 0
      if (sequence !== undefined && (sequence.last ?? -1) < number) Object.assign(sequence, { last: number, asked: true })
    })
  }

  /** Finds a loss on channels where no later message shows it: the number here lags, now and a moment later too. */
  async lost (): Promise<ChannelKey[]> {
    const lagging = await this.#lagging([...this.#sequences.keys()])
    if (lagging.size === 0) return []
    await new Promise((resolve) => setTimeout(resolve, LAG_PAUSE))
    const lost: ChannelKey[] = []
    for (const [key, { last, number }] of await this.#lagging([...lagging.keys()])) {
      const sequence = this.#sequences.get(key)
      // Moved on meanwhile: what looked lost was under way.
      if (sequence === undefined || lagging.get(key)?.last !== last) continue
      Object.assign(sequence, { last: number, asked: true })
      lost.push(key)
    }
    return lost
  }

  async #lagging (keys: ChannelKey[]): Promise<Map<ChannelKey, { last: number, number: number }>> {
    const lagging = new Map<ChannelKey, { last: number, number: number }>()
    const numbers = await this.#read(keys)
    keys.forEach((key, i) => {
      const sequence = this.#sequences.get(key)
      const number = numbers[i] ?? 0
      if (sequence === undefined) return
      sequence.last ??= number
      if (sequence.last !== number) lagging.set(key, { last: sequence.last, number })
    })
    return lagging
  }
}

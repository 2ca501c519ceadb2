import type { ChannelKey } from '../keys.js'
import type { OutgoingEvent } from './contract.js'

interface Batch {
  channels: Map<ChannelKey, OutgoingEvent[]>
  done: Promise<void>
}

/** Gathers what is published within one turn of the event loop, so that each channel's frames leave as one message. */
export class Batches {
  readonly #send: (channels: Array<[ChannelKey, OutgoingEvent[]]>) => Promise<void>
  #batch: Batch | null = null

  constructor (send: (channels: Array<[ChannelKey, OutgoingEvent[]]>) => Promise<void>) {
    this.#send = send
  }

  /** Resolves or rejects as the whole batch does. */
  add (key: ChannelKey, frame: OutgoingEvent): Promise<void> {
    const batch = this.#batch ??= this.#begin()
    const frames = batch.channels.get(key)
    if (frames === undefined) batch.channels.set(key, [frame])
    else frames.push(frame)
    return batch.done
  }

  /** What was added before is sent, or has failed. */
  async flushed (): Promise<void> {
    await this.#batch?.done.catch(() => {})
  }

  #begin (): Batch {
    let settle: (result: Promise<void>) => void = () => {}
    const done = new Promise<void>((resolve) => { settle = resolve })
    // Ephemeral publishers do not look at the outcome.
    done.catch(() => {})
    const batch: Batch = { channels: new Map(), done }
    setImmediate(() => {
      this.#batch = null
      settle(this.#send([...batch.channels]))
    })
    return batch
  }
}

import type { ChannelKey } from '../keys.js'
import type { OutgoingEvent } from './contract.js'

/** Events of this turn, by channel. */
interface PendingBatch {
  channels: Map<ChannelKey, OutgoingEvent[]>
  done: Promise<void>
}

/** Collects events that are published within one turn of the event loop, so that each channel's events are sent as one message. */
export class Batches {
  readonly #send: (channels: Array<[ChannelKey, OutgoingEvent[]]>) => Promise<void>
  #batch: PendingBatch | null = null

  constructor (send: (channels: Array<[ChannelKey, OutgoingEvent[]]>) => Promise<void>) {
    this.#send = send
  }

  /** Settles together with the whole batch. */
  add (key: ChannelKey, event: OutgoingEvent): Promise<void> {
    const batch = this.#batch ??= this.#begin()
    const events = batch.channels.get(key)
    if (events === undefined) batch.channels.set(key, [event])
    else events.push(event)
    return batch.done
  }

  /** Resolves when everything that was added before has been sent or has failed. */
  async flushed (): Promise<void> {
    await this.#batch?.done.catch(() => {})
  }

  #begin (): PendingBatch {
    let settle: (result: Promise<void>) => void = () => {}
    const done = new Promise<void>((resolve) => { settle = resolve })
    // Publishers of ephemeral events ignore the outcome.
    done.catch(() => {})
    const batch: PendingBatch = { channels: new Map(), done }
    setImmediate(() => {
      this.#batch = null
      settle(this.#send([...batch.channels]))
    })
    return batch
  }
}

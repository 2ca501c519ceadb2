import type { ChannelKey } from '../keys.js'
import type { OutgoingEvent } from './contract.js'

/** Past this many on one channel they are delivered at once; the hub remembers enough ids to drop what still comes. */
const MAX_AWAITED = 500

/**
 * Durable frames that this node published and has not heard back yet. Its own members get them by way of Redis, as
 * everybody does. When that way breaks they are delivered from here, oldest first, so that nothing newer passes them.
 */
export class UnconfirmedPublishes {
  readonly #awaited = new Map<ChannelKey, Map<number, OutgoingEvent>>()
  readonly #deliver: (key: ChannelKey, frames: OutgoingEvent[]) => void

  /** `deliver` is called where too many are awaited. */
  constructor (deliver: (key: ChannelKey, frames: OutgoingEvent[]) => void) {
    this.#deliver = deliver
  }

  add (key: ChannelKey, frame: OutgoingEvent): void {
    const awaited = this.#awaited.get(key)
    if (awaited === undefined) {
      this.#awaited.set(key, new Map([[frame.messageId, frame]]))
      return
    }
    awaited.set(frame.messageId, frame)
    if (awaited.size >= MAX_AWAITED) this.#deliver(key, this.drain(key))
  }

  /** These came by way of Redis. What this node published before them will not come any more: it is filled from the log. */
  acknowledge (key: ChannelKey, frames: readonly OutgoingEvent[]): void {
    const awaited = this.#awaited.get(key)
    if (awaited === undefined) return
    for (const { messageId } of frames) {
      if (!awaited.has(messageId)) continue
      for (const id of awaited.keys()) {
        awaited.delete(id)
        if (id === messageId) break
      }
    }
    if (awaited.size === 0) this.#awaited.delete(key)
  }

  /** What is awaited on one channel, oldest first; from now on it is not. */
  drain (key: ChannelKey): OutgoingEvent[] {
    const awaited = this.#awaited.get(key)
    this.#awaited.delete(key)
    return awaited === undefined ? [] : [...awaited.values()]
  }

  drainAll (): Array<[ChannelKey, OutgoingEvent[]]> {
    return [...this.#awaited.keys()].map((key) => [key, this.drain(key)])
  }

  forget (key: ChannelKey): void {
    this.#awaited.delete(key)
  }
}

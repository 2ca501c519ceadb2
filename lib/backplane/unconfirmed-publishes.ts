import type { ChannelKey } from '../keys.js'
import type { OutgoingEvent } from './contract.js'

/** With this many on one channel they are delivered at once. The hub remembers enough ids to drop those that arrive after all. */
const MAX_UNCONFIRMED = 500

/**
 * Durable events that this node published and has not received back. This node's members get them through Redis, like those
 * of all nodes. If that fails, they are delivered from here, oldest first, so that no newer event overtakes them.
 */
export class UnconfirmedPublishes {
  readonly #unconfirmed = new Map<ChannelKey, Map<number, OutgoingEvent>>()
  readonly #deliver: (key: ChannelKey, events: OutgoingEvent[]) => void

  /** `deliver` is called with all events of a channel when there are too many. */
  constructor (deliver: (key: ChannelKey, events: OutgoingEvent[]) => void) {
    this.#deliver = deliver
  }

  add (key: ChannelKey, event: OutgoingEvent): void {
    const unconfirmed = this.#unconfirmed.get(key)
    if (unconfirmed === undefined) {
      this.#unconfirmed.set(key, new Map([[event.messageId, event]]))
      return
    }
    unconfirmed.set(event.messageId, event)
    if (unconfirmed.size >= MAX_UNCONFIRMED) this.#deliver(key, this.drain(key))
  }

  /** These events arrived through Redis. Earlier ones that did not are lost; they are read from the log. */
  acknowledge (key: ChannelKey, events: readonly OutgoingEvent[]): void {
    const unconfirmed = this.#unconfirmed.get(key)
    if (unconfirmed === undefined) return
    for (const { messageId } of events) {
      if (!unconfirmed.has(messageId)) continue
      for (const id of unconfirmed.keys()) {
        unconfirmed.delete(id)
        if (id === messageId) break
      }
    }
    if (unconfirmed.size === 0) this.#unconfirmed.delete(key)
  }

  /** Removes and returns the events of a channel, oldest first. */
  drain (key: ChannelKey): OutgoingEvent[] {
    const unconfirmed = this.#unconfirmed.get(key)
    this.#unconfirmed.delete(key)
    return unconfirmed === undefined ? [] : [...unconfirmed.values()]
  }

  drainAll (): Array<[ChannelKey, OutgoingEvent[]]> {
    return [...this.#unconfirmed.keys()].map((key) => [key, this.drain(key)])
  }

  forget (key: ChannelKey): void {
    this.#unconfirmed.delete(key)
  }
}

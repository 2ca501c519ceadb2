/** A place in the order of replies; filled once, with the reply or with nothing where success is silent. */
export class ReplySlot {
  filled = false
  reply: Buffer | null = null
  afterwards: (() => void) | undefined = undefined
  readonly #queue: ReplyQueue

  constructor (queue: ReplyQueue) {
    this.#queue = queue
  }

  fill (reply: Buffer | null, afterwards?: () => void): void {
    this.filled = true
    this.reply = reply
    this.afterwards = afterwards
    this.#queue.release()
  }
}

/**
 * Replies leave in the order of their frames, although a durable send is answered only after its commit and the frames
 * behind it are handled meanwhile.
 */
export class ReplyQueue {
  readonly #slots: ReplySlot[] = []
  readonly #receiver: { send (reply: Buffer): void }

  constructor (receiver: { send (reply: Buffer): void }) {
    this.#receiver = receiver
  }

  open (): ReplySlot {
    const slot = new ReplySlot(this)
    this.#slots.push(slot)
    return slot
  }

  /** Writes the replies that have come to their turn. */
  release (): void {
    while (this.#slots[0]?.filled === true) {
      const slot = this.#slots.shift()
      if (slot === undefined) return
      if (slot.reply !== null) this.#receiver.send(slot.reply)
      slot.afterwards?.()
    }
    // Lets go of the room that it took: a connection is mostly quiet.
    if (this.#slots.length === 0) this.#slots.length = 0
  }
}

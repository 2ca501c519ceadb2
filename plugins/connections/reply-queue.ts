/** A position in the order of replies. It is filled once, with the reply, or with null if there is none. */
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
 * Writes replies in the order of their frames. The reply to a durable send waits for its commit, while the frames after it are
 * already being handled.
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

  /** Writes all replies that have no unfilled slot before them. */
  release (): void {
    while (this.#slots[0]?.filled === true) {
      const slot = this.#slots.shift()
      if (slot === undefined) return
      if (slot.reply !== null) this.#receiver.send(slot.reply)
      slot.afterwards?.()
    }
    // idle memory: releases the capacity of the array, because most connections are quiet.
    if (this.#slots.length === 0) this.#slots.length = 0
  }
}

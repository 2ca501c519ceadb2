/** Durable ids that are remembered. Past it repeats are the client's to drop, by id. */
const SIZE = 1024

/**
 * The newest ids that came by on a channel. They mostly ascend, so that one comparison says that an id is new; only one
 * from below is looked for. A ring of numbers: a set for each private channel was much garbage that lived long.
 */
export class DedupeWindow {
  readonly #ids: number[] = []
  #at = 0
  #largest = 0

  /** Remembers an id. False where it is known. */
  add (id: number): boolean {
    if (this.has(id)) return false
    if (id > this.#largest) this.#largest = id
    if (this.#ids.length < SIZE) {
      this.#ids.push(id)
    } else {
      this.#ids[this.#at] = id
      this.#at = (this.#at + 1) % SIZE
    }
    return true
  }

  has (id: number): boolean {
    return id <= this.#largest && this.#ids.includes(id)
  }
}

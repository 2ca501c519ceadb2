/** Number of ids that are remembered. Clients drop older repetitions by their id. */
const SIZE = 1024

/**
 * The most recent ids of a channel. Ids mostly ascend, so one comparison usually shows that an id is new; only lower ids are
 * searched for. A ring of numbers, because a set per private channel was much long-lived garbage.
 */
export class DedupeWindow {
  readonly #ids: number[] = []
  #at = 0
  #largest = 0

  /** Remembers an id. False if it was remembered already. */
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

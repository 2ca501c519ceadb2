/** Random choices that can be repeated: the same seed makes the same choices. */
export class Chance {
  #state: number

  constructor (seed: number) {
    this.#state = seed >>> 0
  }

  /** From 0 to below 1. */
  next (): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0
    let mixed = this.#state
    mixed = Math.imul(mixed ^ (mixed >>> 15), mixed | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }

  below (limit: number): number {
    return Math.floor(this.next() * limit)
  }

  is (probability: number): boolean {
    return this.next() < probability
  }

  pick<T> (from: readonly T[]): T {
    return from[this.below(from.length)] as T
  }
}

import type { ChannelKey } from '../keys.js'

/** Channels that were left in one turn of the event loop: their subscriptions end with one command, unless they were begun again. */
export class Leaving {
  readonly #keys = new Set<ChannelKey>()
  readonly #isBack: (key: ChannelKey) => boolean
  readonly #leave: (keys: ChannelKey[]) => void

  constructor (isBack: (key: ChannelKey) => boolean, leave: (keys: ChannelKey[]) => void) {
    this.#isBack = isBack
    this.#leave = leave
  }

  add (key: ChannelKey): void {
    this.#keys.add(key)
    if (this.#keys.size > 1) return
    setImmediate(() => {
      const keys = [...this.#keys].filter((key) => !this.#isBack(key))
      this.#keys.clear()
      if (keys.length > 0) this.#leave(keys)
    })
  }
}

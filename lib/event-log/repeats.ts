import { setTimeout as sleep } from 'node:timers/promises'
import type { Frame } from '../backplane/contract.js'
import type { ChannelKey } from '../channels.js'
import type { Hub } from '../hub.js'

/** More are true repeats: of what a node hands on once more after it could not reach the others. */
const MOST = 1000
/** Pause before the log is looked at again where the database does not answer. */
const RETRY = 1000

/**
 * Frames that the hub dropped because their id had come before. Mostly that is the same event once more; but where the log
 * went back, and another node did not know it yet, it is a new event under an old id. The log is looked at, and where a new
 * epoch has begun the frames are delivered after all.
 */
export class Repeats {
  readonly #hub: Hub
  readonly #look: () => Promise<unknown>
  #frames: Array<[ChannelKey, Frame]> = []
  #looking = false
  #stopped = false

  constructor (hub: Hub, look: () => Promise<unknown>) {
    this.#hub = hub
    this.#look = look
    hub.repeated = (key, frame) => {
      if (this.#frames.length < MOST) this.#frames.push([key, frame])
      if (!this.#looking) void this.#ask()
    }
  }

  /** A new epoch has begun. */
  release (): void {
    const frames = this.#frames
    this.#frames = []
    for (const [key, frame] of frames) this.#hub.deliver(key, [frame])
  }

  stop (): void {
    this.#stopped = true
  }

  async #ask (): Promise<void> {
    this.#looking = true
    while (this.#frames.length > 0 && !this.#stopped) {
      const asked = this.#frames
      const { length } = asked
      const looked = await this.#look().then(() => true, () => false)
      if (!looked) await sleep(RETRY, undefined, { ref: false })
      // Not released meanwhile: all that had come when it was asked came before, indeed.
      else if (this.#frames === asked) asked.splice(0, length)
    }
    this.#looking = false
  }
}

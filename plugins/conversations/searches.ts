import { FairQueue } from '../../lib/async/fair-queue.js'
import type { Identity } from '../../lib/identity.js'
import type { Internals } from '../../lib/internals.js'
import { rateKey } from '../../lib/keys.js'

/** Windows of messages that may be scanned for one user per minute, over all nodes. */
const PER_MINUTE = 300

/**
 * Messages with a label are searched a window at a time, and no index helps. A node searches one window at a time, for tenants
 * and their users in turn, so that many searches for rare labels do not block the database for others.
 */
export class Searches {
  readonly #sharedRates: Internals['sharedRates']
  readonly #waiting = new FairQueue<() => void>()
  #isBusy = false

  constructor ({ sharedRates }: Pick<Internals, 'sharedRates'>) {
    this.#sharedRates = sharedRates
  }

  /** Searches one window when it is the user's turn. Rejects with `RT_RATE_LIMITED`. */
  async run<T> (identity: Identity, search: () => Promise<T>): Promise<T> {
    this.#sharedRates.take(rateKey('searches', identity), 1, PER_MINUTE)
    if (this.#isBusy) await new Promise<void>((resolve) => { this.#waiting.push(identity.tenantId, identity.userId, resolve) })
    this.#isBusy = true
    try {
      return await search()
    } finally {
      const next = this.#waiting.take()
      this.#isBusy = next !== undefined
      next?.()
    }
  }
}

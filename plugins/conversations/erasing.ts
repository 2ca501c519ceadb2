import type { FastifyBaseLogger } from 'fastify'
import { sleep } from '../../lib/async/timers.js'
import type { Internals } from '../../lib/internals.js'
import type { UserRef } from '../../lib/keys.js'
import { eraseUser, type Erased } from '../../lib/upkeep/erasure.js'

/** Milliseconds in which a closed connection leaves its last rows. */
const TO_LEAVE_MS = 2000
/** Milliseconds between two looks for connections that are left. */
const LOOK_MS = 100
/** How long the connections of a user may take to close, in milliseconds. */
const TO_CLOSE_MS = 5000

/** Erases users who may be connected: their connections are ended first, and what those leave behind is erased a little later. */
export class Erasing {
  readonly #internals: Internals
  readonly #close: (user: UserRef) => Promise<void>
  readonly #log: FastifyBaseLogger
  readonly #timers = new Set<NodeJS.Timeout>()

  constructor (internals: Internals, close: (user: UserRef) => Promise<void>, log: FastifyBaseLogger) {
    this.#internals = internals
    this.#close = close
    this.#log = log
  }

  async erase (user: UserRef): Promise<Erased> {
    const { settings } = this.#internals
    const wasConnected = await this.#disconnect(user)
    const erased = await this.#run(user)
    if (wasConnected) this.#eraseAgain(user, settings.presenceGrace + TO_LEAVE_MS)
    return erased
  }

  close (): void {
    for (const timer of this.#timers) clearTimeout(timer)
    this.#timers.clear()
  }

  /** Going offline is the last thing that is written of a user. */
  #eraseAgain (user: UserRef, delay: number): void {
    const timer = setTimeout(() => {
      this.#timers.delete(timer)
      this.#run(user).catch((err: unknown) => { this.#log.error({ err }, 'Could not erase what an erased user’s connections left behind: erase the user again') })
    }, delay).unref()
    this.#timers.add(timer)
  }

  async #run (user: UserRef): Promise<Erased> {
    const { database, ids } = this.#internals
    return await eraseUser(database.slow, ids, user)
  }

  async #disconnect (user: UserRef): Promise<boolean> {
    const { roster } = this.#internals
    const connections = async (): Promise<number> => (await roster.connectionsOf(user.tenantId, user.userId).catch(() => [])).length
    if (await connections() === 0) return false
    await this.#close(user)
    for (const deadline = performance.now() + TO_CLOSE_MS; await connections() > 0 && performance.now() < deadline;) await sleep(LOOK_MS)
    return true
  }
}

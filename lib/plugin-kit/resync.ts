import type { FastifyBaseLogger } from 'fastify'
import { MAX_TIMER_MS } from '../async/timers.js'

/** Milliseconds until the first attempt: the other nodes reconnect at the same time. */
const FIRST_MS = 1000

/**
 * Sends clients the changes they missed while this node received nothing from other nodes: soon after the reconnect, and again
 * after two leases, when every node has written its state.
 */
export class Resync {
  readonly #run: () => Promise<void>
  readonly #lease: number
  readonly #log: FastifyBaseLogger
  #timers: NodeJS.Timeout[] = []

  constructor (run: () => Promise<void>, lease: number, log: FastifyBaseLogger) {
    this.#run = run
    this.#lease = lease
    this.#log = log
  }

  begin (): void {
    this.close()
    this.#timers = [FIRST_MS, this.#lease / 2, this.#lease, 2 * this.#lease].map((delay) => setTimeout(() => {
      this.#run().catch((err: unknown) => { this.#log.debug({ err }, 'Could not read missed changes, retrying') })
    }, Math.min(delay, MAX_TIMER_MS)).unref())
  }

  close (): void {
    for (const timer of this.#timers) clearTimeout(timer)
  }
}

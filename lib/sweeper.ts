import type { FastifyBaseLogger } from 'fastify'
import type { EventLog } from './event-log/index.js'
import type { Lifecycle } from './lifecycle.js'
import type { Maintenance } from './maintenance.js'
import type { Roster } from './roster/contract.js'

export interface SweeperOptions {
  roster: Roster
  eventLog: EventLog
  maintenance: Maintenance
  events: Lifecycle
  log: FastifyBaseLogger
  /** Milliseconds between two renewals of this node's lease. */
  renewEvery: number
  /** Whether this node looks after what others left behind. */
  enabled: boolean
}

/** Milliseconds. Promises with a time in them (typing told when it expires, offline after the grace) hold to within this. */
export const SWEEP_INTERVAL = 500
/** The lock of the node that sweeps; another takes over when it is not renewed. */
const LOCK_TTL = 5000
const PURGE_EVERY = 3600_000

/**
 * The clockwork: renews the lease, tells what became due, reaps dead nodes; beside it, on its own beat, sends again and
 * purges. Two beats, because a database that hangs must not cost this node its lease.
 */
export class Sweeper {
  readonly #options: SweeperOptions
  readonly #beats: Beat[]
  #renewedAt = 0
  #purgedAt = Date.now()

  constructor (options: SweeperOptions) {
    this.#options = options
    this.#beats = [
      new Beat(async () => { await this.#lookAfterRoster() }, options.log),
      new Beat(async () => { await this.#lookAfterEvents() }, options.log)
    ]
  }

  start (): void {
    this.#renewedAt = Date.now()
    for (const beat of this.#beats) beat.start()
  }

  /** Redis is back: what it may have lost is written back at the next beat. */
  hurry (): void {
    this.#renewedAt = 0
  }

  async stop (): Promise<void> {
    await Promise.all(this.#beats.map(async (beat) => { await beat.stop() }))
  }

  async #lookAfterRoster (): Promise<void> {
    const { roster, events, renewEvery, enabled } = this.#options
    // Also while Redis is away: typing of this node runs out as ever.
    const told = enabled ? this.#tellDue() : Promise.resolve()
    told.catch(() => {}) // awaited below, unless the renewal fails first
    if (Date.now() - this.#renewedAt >= renewEvery) {
      const renewedAt = Date.now()
      for (const entry of await roster.renew()) events.emit('online', entry)
      this.#renewedAt = renewedAt
    }
    await told
    if (enabled && await roster.lock('reaper', LOCK_TTL)) await roster.reap()
  }

  async #lookAfterEvents (): Promise<void> {
    const { roster, eventLog, maintenance, enabled } = this.#options
    if (!enabled || !eventLog.healthy || !await roster.lock('sweeper', LOCK_TTL)) return
    await eventLog.outbox.sweep()
    if (Date.now() - this.#purgedAt < PURGE_EVERY) return
    this.#purgedAt = Date.now()
    await maintenance.run()
  }

  async #tellDue (): Promise<void> {
    const { roster, events } = this.#options
    for (const { tenantId, offline, typing, lapsed } of await roster.due()) {
      for (const entry of lapsed) events.emit('lapsed', entry)
      for (const entry of typing) events.emit('typingExpired', entry)
      for (const userId of offline) events.emit('offline', { tenantId, userId })
      // Only now, after it was told: a crash before leaves them due for another node.
      for (const userId of await roster.settle(tenantId, offline)) events.emit('online', { tenantId, userId, connectionId: null })
    }
  }
}

/** One task again and again, never twice at a time. A failure is logged once and tried again at the next beat. */
class Beat {
  readonly #task: () => Promise<void>
  readonly #log: FastifyBaseLogger
  #timer: NodeJS.Timeout | null = null
  #running: Promise<void> | null = null
  #failing = false

  constructor (task: () => Promise<void>, log: FastifyBaseLogger) {
    this.#task = task
    this.#log = log
  }

  start (): void {
    this.#timer = setInterval(() => {
      this.#running ??= this.#run().finally(() => { this.#running = null })
    }, SWEEP_INTERVAL)
  }

  async stop (): Promise<void> {
    if (this.#timer !== null) clearInterval(this.#timer)
    this.#timer = null
    await this.#running
  }

  async #run (): Promise<void> {
    try {
      await this.#task()
      this.#failing = false
    } catch (err) {
      if (!this.#failing) this.#log.warn({ err }, 'sweep failed: trying again')
      this.#failing = true
    }
  }
}

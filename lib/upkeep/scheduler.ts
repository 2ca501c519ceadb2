import type { FastifyBaseLogger } from 'fastify'
import type { Backfill } from '../event-log/backfill.js'
import type { EventLog } from '../event-log/index.js'
import type { LifecycleBus } from '../lifecycle/events.js'
import type { Roster } from '../roster/contract.js'
import type { Maintenance } from './maintenance.js'
import { RosterSweeper } from './roster-sweeper.js'

export interface SchedulerOptions {
  roster: Roster
  eventLog: EventLog
  maintenance: Maintenance
  backfill: Backfill
  events: LifecycleBus
  log: FastifyBaseLogger
  /** Within this time, in milliseconds, everything that this node holds is compared with the roster once. */
  compareWithin: number
  /** Whether this node takes part in periodic work for the cluster. */
  enabled: boolean
}

/** Interval of the periodic tasks, in milliseconds. Everything that happens at a time (typing expires, a user goes offline) is at most this late. */
export const TICK_INTERVAL_MS = 500
/** How long the node that sweeps holds its lock; another node takes over when it is not renewed. */
const LOCK_TTL_MS = 5000
const PURGE_INTERVAL_MS = 3600_000

/**
 * Runs the periodic tasks: one for the roster, one for events, one for upkeep. They are separate, because a database that
 * hangs must not cost this node its lease.
 */
export class Scheduler {
  readonly #options: SchedulerOptions
  readonly #tasks: PeriodicTask[]
  #purgedAt = performance.now()
  #isFilled = false

  constructor (options: SchedulerOptions) {
    this.#options = options
    const { roster, events, compareWithin, enabled, log } = options
    const rosterSweeper = new RosterSweeper({ roster, events, share: Math.min(TICK_INTERVAL_MS / compareWithin, 1), enabled })
    this.#tasks = [
      new PeriodicTask(async () => { await rosterSweeper.sweep() }, log),
      new PeriodicTask(async () => { await this.#eventsTick() }, log),
      new PeriodicTask(async () => { await this.#upkeepTick() }, log)
    ]
  }

  start (): void {
    for (const task of this.#tasks) task.start()
  }

  /** Redis is back: writes back state that it may have lost. */
  renewSoon (): void {
    this.#tasks[0]?.run()
  }

  async stop (): Promise<void> {
    await Promise.all(this.#tasks.map(async (task) => { await task.stop() }))
  }

  async #eventsTick (): Promise<void> {
    const { roster, eventLog, enabled } = this.#options
    if (!enabled || !eventLog.healthy) return
    if (await roster.lock('sweeper', LOCK_TTL_MS)) await eventLog.sweep()
  }

  /** Separate from the other tasks, so that no event waits for a long purge. */
  async #upkeepTick (): Promise<void> {
    const { roster, eventLog, maintenance, backfill, enabled } = this.#options
    if (!enabled || !eventLog.healthy) return
    await eventLog.pendingLimit.look()
    if (!this.#isFilled && await roster.lock('backfill', LOCK_TTL_MS)) this.#isFilled = await backfill.run()
    if (performance.now() - this.#purgedAt < PURGE_INTERVAL_MS || !await roster.lock('maintenance', LOCK_TTL_MS)) return
    this.#purgedAt = performance.now()
    await maintenance.run()
  }
}

/** Repeats one task, never twice at a time. It is retried after a failure; of consecutive failures only the first is logged. */
class PeriodicTask {
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
    this.#timer = setInterval(() => { this.run() }, TICK_INTERVAL_MS)
  }

  /** Runs the task now, unless it is running or was not started. */
  run (): void {
    if (this.#timer !== null) this.#running ??= this.#run().finally(() => { this.#running = null })
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
      if (!this.#failing) this.#log.warn({ err }, 'Periodic task failed, retrying')
      this.#failing = true
    }
  }
}

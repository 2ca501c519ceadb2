import type { FastifyBaseLogger } from 'fastify'
import type { Clock } from '../clock.js'
import type { Database, Dialect } from '../database/dialect.js'
import { toSqlTime } from '../database/time.js'
import { MAX_PENDING_AGE_MS, TOO_OLD } from '../event-log/next-step.js'
import { EventPurge } from './event-purge.js'

/** Rows of one statement. */
export const CHUNK = 1000
const DAY_MS = 24 * 3600_000

/** Removes obsolete rows of one plugin, which registers it. */
export interface Purge {
  /** The name of the purged rows, in results and log lines. */
  readonly name: string
  /**
   * Deletes them in chunks, and returns their number. `before` is the end of the retention, as stored in columns; `aliveNodes`
   * are the boot ids of living nodes, null if unknown (the command line).
   */
  run (scope: PurgeScope): Promise<number>
}

export interface PurgeScope { before: string, aliveNodes: readonly string[] | null }

export interface MaintenanceOptions {
  db: Database
  dialect: Dialect
  clock: Clock
  log: Pick<FastifyBaseLogger, 'info'>
  retentionDays: number
  /** Boot ids of living nodes; null if unknown (the command line). */
  aliveNodes: () => Promise<string[] | null>
  /** Read at each run: plugins add theirs when they are registered. */
  purges: readonly Purge[]
}

/** Purges old rows, in chunks that never hold a lock for long. Runs periodically on one node, or from the command line. */
export class Maintenance {
  readonly #options: MaintenanceOptions
  readonly #events: EventPurge

  constructor (options: MaintenanceOptions) {
    this.#options = options
    this.#events = new EventPurge(options)
  }

  /** Resolves to the number of changed rows by kind. */
  async run (): Promise<Record<string, number>> {
    const { log, purges, aliveNodes } = this.#options
    const done: Record<string, number> = { failed: await this.#failOld(), events: await this.#events.run() }
    const scope = { before: this.#retained, aliveNodes: await aliveNodes() }
    for (const purge of purges) done[purge.name] = await purge.run(scope)
    log.info(done, 'Maintenance done')
    return done
  }

  /** Rows from before this time are not kept. */
  get #retained (): string {
    const { clock, retentionDays } = this.#options
    return toSqlTime(clock.now() - retentionDays * DAY_MS)
  }

  /** They stay due, so that the sweeper of a node emits `failed`. */
  async #failOld (): Promise<number> {
    const { db, clock } = this.#options
    const now = clock.now()
    return await inChunks(
      async () => await db.selectFrom('websocket_events').select('id')
        .where('status', '=', 'pending').where('created_at', '<', toSqlTime(now - MAX_PENDING_AGE_MS)).limit(CHUNK).execute(),
      async (ids) => {
        await db.updateTable('websocket_events')
          .set({ status: 'failed', error_message: TOO_OLD, due_at: toSqlTime(now), updated_at: toSqlTime(now) })
          .where('id', 'in', ids).where('status', '=', 'pending').execute()
      }
    )
  }
}

/** Changes rows by their ids until none is left, so that no statement takes long or locks more than it changes. `next` selects at most {@link CHUNK}. */
export async function inChunks (next: () => Promise<Array<{ id: number }>>, change: (ids: number[]) => Promise<void>): Promise<number> {
  let changed = 0
  for (;;) {
    const rows = await next()
    if (rows.length > 0) await change(rows.map(({ id }) => id))
    changed += rows.length
    if (rows.length < CHUNK) return changed
  }
}

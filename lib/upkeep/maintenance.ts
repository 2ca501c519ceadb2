import type { FastifyBaseLogger } from 'fastify'
import type { Clock } from '../clock.js'
import type { Database, Dialect } from '../database/dialect.js'
import { toSqlTime } from '../database/time.js'
import { upsert } from '../database/upsert.js'
import { MAX_PENDING_AGE_MS } from '../event-log/outbox.js'
import type { Id } from '../ids.js'
import { channelKey, type ChannelKey } from '../keys.js'

/** Rows of one statement. */
export const CHUNK = 1000
const DAY_MS = 24 * 3600_000

/** Removes obsolete rows of one plugin, which registers it. */
export interface Purge {
  /** What is purged, as results and log lines name it. */
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

  constructor (options: MaintenanceOptions) {
    this.#options = options
  }

  /** Resolves to the number of changed rows by kind. */
  async run (): Promise<Record<string, number>> {
    const { log, purges, aliveNodes } = this.#options
    const done: Record<string, number> = { failed: await this.#failOld(), events: await this.#purgeEvents() }
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

  async #failOld (): Promise<number> {
    const { db, clock } = this.#options
    const now = clock.now()
    return await inChunks(
      async () => await db.selectFrom('websocket_events').select('id')
        .where('status', '=', 'pending').where('created_at', '<', toSqlTime(now - MAX_PENDING_AGE_MS)).limit(CHUNK).execute(),
      async (ids) => {
        await db.updateTable('websocket_events')
          .set({ status: 'failed', error_message: 'not confirmed within 7 days', due_at: null, updated_at: toSqlTime(now) })
          .where('id', 'in', ids).where('status', '=', 'pending').execute()
      }
    )
  }

  /** Each chunk raises the floors of its channels in the same transaction, so that a recovery from below is never reported as complete. */
  async #purgeEvents (): Promise<number> {
    const { db, dialect } = this.#options
    const before = this.#retained
    // The newest row is kept, whatever its age: its id is the end of the log.
    const newest = await db.selectFrom('websocket_events').select((eb) => eb.fn.max('id').as('id')).executeTakeFirst()
    let purged = 0
    for (;;) {
      const rows = await db.selectFrom('websocket_events').select(['id', 'tenant_id', 'channel', 'durable'])
        .where('status', 'in', ['delivered', 'failed']).where('created_at', '<', before).where('id', '<', Number(newest?.id ?? 0)).limit(CHUNK).execute()
      if (rows.length === 0) return purged
      const floors = new Map<ChannelKey, { tenant_id: Id, channel: string, purged_id: number }>()
      for (const { id, tenant_id, channel, durable } of rows) {
        if (Number(durable) === 0) continue
        const key = channelKey(tenant_id, channel)
        const floor = floors.get(key)
        floors.set(key, { tenant_id, channel, purged_id: Math.max(Number(id), floor?.purged_id ?? 0) })
      }
      await db.transaction().execute(async (trx) => {
        // A chunk may hold an older id than one before: floors only rise.
        const known = await this.#floors(trx, [...floors.values()])
        const rising = [...floors.values()].filter((floor) => floor.purged_id > (known.get(channelKey(floor.tenant_id, floor.channel)) ?? 0))
        await upsert(trx, dialect, 'websocket_channel_floors', rising, { keys: ['tenant_id', 'channel'], update: ['purged_id'] })
        await trx.deleteFrom('websocket_events').where('id', 'in', rows.map(({ id }) => id)).execute()
      })
      purged += rows.length
    }
  }

  async #floors (db: Database, channels: Array<{ tenant_id: Id, channel: string }>): Promise<Map<ChannelKey, number>> {
    if (channels.length === 0) return new Map()
    const rows = await db.selectFrom('websocket_channel_floors').selectAll()
      .where('tenant_id', 'in', [...new Set(channels.map(({ tenant_id }) => tenant_id))])
      .where('channel', 'in', [...new Set(channels.map(({ channel }) => channel))]).execute()
    return new Map(rows.map((row) => [channelKey(row.tenant_id, row.channel), Number(row.purged_id)]))
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

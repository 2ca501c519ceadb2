import type { FastifyBaseLogger } from 'fastify'
import type { Clock } from '../clock.js'
import type { Database, Dialect } from '../database/dialect.js'
import { toSqlTime } from '../database/time.js'
import { upsert } from '../database/upsert.js'
import { MAX_PENDING_AGE_MS } from '../event-log/outbox.js'
import type { Id } from '../ids.js'

const CHUNK = 1000
const DAY_MS = 24 * 3600_000

export interface MaintenanceOptions {
  db: Database
  dialect: Dialect
  clock: Clock
  log: Pick<FastifyBaseLogger, 'info'>
  retentionDays: number
  /** Boot ids of living nodes; null where nobody knows (the command line): connections are then left alone. */
  aliveNodes: () => Promise<string[] | null>
}

/** Purges what is old, in chunks that never hold a lock for long. Runs by itself on one node, or by hand. */
export class Maintenance {
  readonly #options: MaintenanceOptions

  constructor (options: MaintenanceOptions) {
    this.#options = options
  }

  async run (): Promise<{ events: number, connections: number, failed: number, typing: number }> {
    const failed = await this.#failOld()
    const purged = {
      failed, events: await this.#purgeEvents(), connections: await this.#purgeConnections(), typing: await this.cleanupTyping()
    }
    await this.#closeOrphans()
    this.#options.log.info(purged, 'maintenance done')
    return purged
  }

  /** Typing that ran out, as far as rows still say otherwise. */
  async cleanupTyping (): Promise<number> {
    const { db, clock } = this.#options
    const before = toSqlTime(clock.now())
    return await inChunks(
      async () => await db.selectFrom('websocket_typing_indicators').select('id').where('expires_at', '<', before).limit(CHUNK).execute(),
      async (ids) => { await db.deleteFrom('websocket_typing_indicators').where('id', 'in', ids).where('expires_at', '<', before).execute() }
    )
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

  /** Each chunk raises the floors of its channels in the same transaction: recovery then never hides the hole. */
  async #purgeEvents (): Promise<number> {
    const { db, dialect, clock, retentionDays } = this.#options
    const before = toSqlTime(clock.now() - retentionDays * DAY_MS)
    // The newest row stays, whatever its age: its id says how far the log went.
    const newest = await db.selectFrom('websocket_events').select((eb) => eb.fn.max('id').as('id')).executeTakeFirst()
    let purged = 0
    for (;;) {
      const rows = await db.selectFrom('websocket_events').select(['id', 'tenant_id', 'channel', 'durable'])
        .where('status', 'in', ['delivered', 'failed']).where('created_at', '<', before).where('id', '<', Number(newest?.id ?? 0)).limit(CHUNK).execute()
      if (rows.length === 0) return purged
      const floors = new Map<string, { tenant_id: Id, channel: string, purged_id: number }>()
      for (const { id, tenant_id, channel, durable } of rows) {
        if (Number(durable) === 0) continue
        const floor = floors.get(`${tenant_id}/${channel}`)
        floors.set(`${tenant_id}/${channel}`, { tenant_id, channel, purged_id: Math.max(Number(id), floor?.purged_id ?? 0) })
      }
      await db.transaction().execute(async (trx) => {
        // A chunk may hold an older id than one before: floors only rise.
        const known = await this.#floors(trx, [...floors.values()])
        const rising = [...floors.values()].filter((floor) => floor.purged_id > (known.get(`${floor.tenant_id}/${floor.channel}`) ?? 0))
        await upsert(trx, dialect, 'websocket_channel_floors', rising, { keys: ['tenant_id', 'channel'], update: ['purged_id'] })
        await trx.deleteFrom('websocket_events').where('id', 'in', rows.map(({ id }) => id)).execute()
      })
      purged += rows.length
    }
  }

  async #floors (db: Database, channels: Array<{ tenant_id: Id, channel: string }>): Promise<Map<string, number>> {
    if (channels.length === 0) return new Map()
    const rows = await db.selectFrom('websocket_channel_floors').selectAll()
      .where('tenant_id', 'in', [...new Set(channels.map(({ tenant_id }) => tenant_id))])
      .where('channel', 'in', [...new Set(channels.map(({ channel }) => channel))]).execute()
    return new Map(rows.map((row) => [`${row.tenant_id}/${row.channel}`, Number(row.purged_id)]))
  }

  async #purgeConnections (): Promise<number> {
    const { db, clock, retentionDays } = this.#options
    const before = toSqlTime(clock.now() - retentionDays * DAY_MS)
    return await inChunks(
      async () => await db.selectFrom('websocket_connections').select('id')
        .where('status', '=', 'disconnected').where('last_activity_at', '<', before).limit(CHUNK).execute(),
      async (ids) => { await db.deleteFrom('websocket_connections').where('id', 'in', ids).execute() }
    )
  }

  /** Rows of nodes that died: their roster entries are gone, the history still says connected. */
  async #closeOrphans (): Promise<void> {
    const { db, clock, aliveNodes } = this.#options
    const alive = await aliveNodes()
    if (alive === null) return
    const now = toSqlTime(clock.now())
    await inChunks(
      async () => await db.selectFrom('websocket_connections').select('id')
        .where('status', '=', 'connected').where('node_id', 'not in', ['', ...alive]).limit(CHUNK).execute(),
      async (ids) => {
        await db.updateTable('websocket_connections').set({ status: 'disconnected', disconnected_at: now, updated_at: now })
          .where('id', 'in', ids).where('node_id', 'not in', ['', ...alive]).execute()
      }
    )
  }
}

/** Changes rows by their ids until none is left, so that no statement takes long or locks more than it changes. */
async function inChunks (next: () => Promise<Array<{ id: number }>>, change: (ids: number[]) => Promise<void>): Promise<number> {
  let changed = 0
  for (;;) {
    const rows = await next()
    if (rows.length > 0) await change(rows.map(({ id }) => id))
    changed += rows.length
    if (rows.length < CHUNK) return changed
  }
}

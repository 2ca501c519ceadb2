import type { Clock } from '../clock.js'
import type { Database, Dialect } from '../database/dialect.js'
import { toSqlTime } from '../database/time.js'
import { upsert } from '../database/upsert.js'
import { isPrivate, privateChannel } from '../channel-names.js'
import { retentionsIn } from '../event-log/retentions.js'
import type { Id } from '../ids.js'
import { channelKey, type ChannelKey } from '../keys.js'

/** Rows of one statement. */
const CHUNK = 1000
const DAY_MS = 24 * 3600_000
/** Days after which an event is delivered or failed for certain, with a day to spare. */
const SETTLED_DAYS = 8
/** All rows are checked again after this time, in milliseconds, because old rows may be added. */
const WHOLE_INTERVAL_MS = DAY_MS

export interface EventPurgeOptions {
  db: Database
  dialect: Dialect
  clock: Clock
  retentionDays: number
}

interface Row { id: number, tenant_id: Id, user_id: Id, channel: string, durable: number, retention_days: number | null, created_at: string }

/**
 * Deletes events whose retention has ended. Each retention has a pass of its own, which only reads rows that have reached its age
 * since the last pass. So rows that are kept longer are read once per pass, not every hour.
 */
export class EventPurge {
  readonly #options: EventPurgeOptions
  /** For each retention, the time up to which its events were purged. */
  #done = new Map<number | null, string>()
  #wholeAt = -Infinity

  constructor (options: EventPurgeOptions) {
    this.#options = options
  }

  /** Resolves to the number of deleted events. */
  async run (): Promise<number> {
    const { db, clock, retentionDays } = this.#options
    const now = clock.now()
    if (now - this.#wholeAt > WHOLE_INTERVAL_MS) {
      this.#done = new Map()
      this.#wholeAt = now
    }
    // The newest row is kept, whatever its age: its id is the end of the log.
    const newest = Number((await db.selectFrom('websocket_events').select((eb) => eb.fn.max('id').as('id')).executeTakeFirst())?.id ?? 0)
    let purged = 0
    for (const retention of [null, ...await retentionsIn(db)]) {
      const days = retention ?? retentionDays
      const before = toSqlTime(now - days * DAY_MS)
      const from = this.#done.get(retention) ?? ''
      for (const status of ['delivered', 'failed'] as const) purged += await this.#purge({ status, retention, from, before, newest })
      // Younger ones may still be pending.
      this.#done.set(retention, toSqlTime(now - Math.max(days, SETTLED_DAYS) * DAY_MS))
      await this.#purgeDeleted(retention, before)
    }
    return purged
  }

  async #purge ({ status, retention, from, before, newest }: { status: 'delivered' | 'failed', retention: number | null, from: string, before: string, newest: number }): Promise<number> {
    const { db } = this.#options
    let purged = 0
    for (let at = from, id = 0; ;) {
      const rows: Row[] = await db.selectFrom('websocket_events').select(['id', 'tenant_id', 'user_id', 'channel', 'durable', 'retention_days', 'created_at'])
        .where('status', '=', status).where('created_at', '>=', at === '' ? '1970-01-01 00:00:00.000' : at).where('created_at', '<', before)
        .where((eb) => eb.or([eb('created_at', '>', at === '' ? '1970-01-01 00:00:00.000' : at), eb('id', '>', id)]))
        .orderBy('created_at').orderBy('id').limit(CHUNK).execute()
      const over = rows.filter((row) => Number(row.id) < newest && (row.retention_days === null ? null : Number(row.retention_days)) === retention)
      await this.#delete(over)
      purged += over.length
      const last = rows.at(-1)
      if (last === undefined || rows.length < CHUNK) return purged
      at = last.created_at
      id = Number(last.id)
    }
  }

  /** Each chunk raises the floors of its channels in the same transaction, so that a recovery from below is never reported as complete. */
  async #delete (rows: readonly Row[]): Promise<void> {
    const { db, dialect } = this.#options
    if (rows.length === 0) return
    const floors = new Map<ChannelKey, { tenant_id: Id, channel: string, purged_id: number }>()
    const raise = (tenantId: Id, channel: string, id: number): void => {
      const key = channelKey(tenantId, channel)
      floors.set(key, { tenant_id: tenantId, channel, purged_id: Math.max(id, floors.get(key)?.purged_id ?? 0) })
    }
    for (const { id, tenant_id, user_id, channel, durable } of rows) {
      if (Number(durable) === 0) continue
      raise(tenant_id, channel, Number(id))
      // The sender's own channel contained a copy.
      if (isPrivate(channel)) raise(tenant_id, privateChannel(user_id), Number(id))
    }
    await db.transaction().execute(async (trx) => {
      // A chunk may hold an older id than one before: floors only rise.
      const known = await this.#floors(trx, [...floors.values()])
      const rising = [...floors.values()].filter((floor) => floor.purged_id > (known.get(channelKey(floor.tenant_id, floor.channel)) ?? 0))
      await upsert(trx, dialect, 'websocket_channel_floors', rising, { keys: ['tenant_id', 'channel'], update: ['purged_id'] })
      await trx.deleteFrom('websocket_events').where('id', 'in', rows.map(({ id }) => id)).execute()
    })
  }

  async #floors (db: Database, channels: Array<{ tenant_id: Id, channel: string }>): Promise<Map<ChannelKey, number>> {
    if (channels.length === 0) return new Map()
    const rows = await db.selectFrom('websocket_channel_floors').selectAll()
      .where('tenant_id', 'in', [...new Set(channels.map(({ tenant_id }) => tenant_id))])
      .where('channel', 'in', [...new Set(channels.map(({ channel }) => channel))]).execute()
    return new Map(rows.map((row) => [channelKey(row.tenant_id, row.channel), Number(row.purged_id)]))
  }

  /** The marks of deleted messages in history are kept as long as the messages would have been. */
  async #purgeDeleted (retention: number | null, before: string): Promise<void> {
    const { db } = this.#options
    for (;;) {
      const rows = await db.selectFrom('websocket_deleted_messages').select(['tenant_id', 'conversation', 'id'])
        .where('retention_days', retention === null ? 'is' : '=', retention).where('created_at', '<', before).limit(CHUNK).execute()
      for (const row of rows) {
        await db.deleteFrom('websocket_deleted_messages').where('tenant_id', '=', row.tenant_id).where('conversation', '=', row.conversation).where('id', '=', row.id).execute()
      }
      if (rows.length < CHUNK) return
    }
  }
}

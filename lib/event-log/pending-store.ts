import { CompiledQuery, sql } from 'kysely'
import type { Database } from '../database/dialect.js'
import { toSqlTime } from '../database/time.js'
import type { Id, Ids } from '../ids.js'

/** Rows of one statement. */
const CHUNK = 500

interface Recipient { tenantId: Id, channel: string }

/** Reads unconfirmed events, and gives them up (websocket_events). */
export class PendingStore {
  readonly #db: Database
  readonly #ids: Ids

  constructor (db: Database, ids: Ids) {
    this.#db = db
    this.#ids = ids
  }

  /** The number of unconfirmed events of each of these recipients, counted up to `most`, in the order given. */
  async countPending (recipients: readonly Recipient[], most: number): Promise<number[]> {
    const text = recipients.map((_, n) => `select ${n} as n, count(*) as found from (
      select 1 as one from websocket_events where tenant_id = ? and status = 'pending' and channel = ? limit ${most}) as p${n}`).join(' union all ')
    const { rows } = await this.#db.executeQuery<{ n: number, found: number }>(
      CompiledQuery.raw(text, recipients.flatMap(({ tenantId, channel }) => [tenantId, channel])))
    const found = new Map(rows.map((row) => [Number(row.n), Number(row.found)]))
    return recipients.map((_, n) => found.get(n) ?? 0)
  }

  /** The unconfirmed events of a recipient, with their senders, oldest first. */
  async pendingOf ({ tenantId, channel }: Recipient, limit: number): Promise<Array<{ id: number, userId: Id }>> {
    const rows = await this.#db.selectFrom('websocket_events').select(['id', 'user_id'])
      .where('tenant_id', '=', tenantId).where('status', '=', 'pending').where('channel', '=', channel).where('durable', '=', 1)
      .orderBy('id').limit(limit).execute()
    return rows.map((row) => ({ id: Number(row.id), userId: this.#ids.parse(row.user_id) }))
  }

  /** Marks the unconfirmed ones of these events as failed, and returns their number. They stay due, so that the sweeper emits `failed` once for each. */
  async giveUp (ids: readonly number[], reason: string, now: number): Promise<number> {
    let ended = 0
    for (let at = 0; at < ids.length; at += CHUNK) {
      const { numUpdatedRows } = await this.#db.updateTable('websocket_events')
        .set({ status: 'failed', error_message: reason, due_at: toSqlTime(now), updated_at: toSqlTime(now) })
        .where('id', 'in', ids.slice(at, at + CHUNK)).where(sql<boolean>`case when status = 'pending' then 1 else 0 end = 1`).executeTakeFirst()
      ended += Number(numUpdatedRows)
    }
    return ended
  }
}

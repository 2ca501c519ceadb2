import { CompiledQuery, sql } from 'kysely'
import type { Database, Dialect } from '../database/dialect.js'
import { toSqlTime } from '../database/time.js'
import { privateChannel } from '../channel-names.js'
import type { Id, Ids } from '../ids.js'
import type { UserRef } from '../keys.js'

/** Unconfirmed events of users who left that are read by one statement. */
const MAX_WAITING = 1000

/** An unconfirmed event of a recipient who may be away. */
export interface Unconfirmed { id: number, tenantId: Id, channel: string }

/** Claims of events, so that one node emits the lifecycle event of each (websocket_events). */
export class ClaimStore {
  readonly #db: Database
  readonly #dialect: Dialect
  readonly #ids: Ids

  constructor (db: Database, dialect: Dialect, ids: Ids) {
    this.#db = db
    this.#dialect = dialect
    this.#ids = ids
  }

  /** Claims those of these events that are due and still have this status: they are due again at `until`. Each is returned to one node only. */
  async claimDue (ids: readonly number[], status: 'pending' | 'failed', now: number, until: number): Promise<Set<number>> {
    if (ids.length === 0) return new Set()
    return await this.#db.transaction().execute(async (trx) => {
      const { rows } = await trx.executeQuery<{ id: number }>(CompiledQuery.raw(`
        select id from websocket_events where id in (${marksOf(ids)}) and status = ? and due_at <= ?
        ${this.#dialect === 'mysql' ? ' for update' : ''}`, [...ids, status, toSqlTime(now)]))
      const claimed = rows.map(({ id }) => Number(id))
      if (claimed.length > 0) await trx.updateTable('websocket_events').set({ due_at: toSqlTime(until) }).where('id', 'in', claimed).execute()
      return new Set(claimed)
    })
  }

  /**
   * `waiting` was emitted for these events: they wait until their recipients connect, unless these connected meanwhile, which
   * changes the time of the claim.
   */
  async markAnnounced (ids: readonly number[], claimedUntil: number | null, now: number): Promise<void> {
    if (ids.length === 0) return
    await this.#db.updateTable('websocket_events').set({
      waiting_at: toSqlTime(now),
      due_at: claimedUntil === null
        ? sql<string | null>`case when due_at <= ${toSqlTime(now)} then null else due_at end`
        : sql<string | null>`case when due_at = ${toSqlTime(claimedUntil)} then null else due_at end`,
      updated_at: toSqlTime(now)
    }).where('id', 'in', ids).where(sql<boolean>`case when status = 'pending' then 1 else 0 end = 1`).execute()
  }

  /** `failed` was emitted for these events. */
  async settleFailed (ids: readonly number[]): Promise<void> {
    if (ids.length > 0) await this.#db.updateTable('websocket_events').set({ due_at: null }).where('id', 'in', ids).where('status', '=', 'failed').execute()
  }

  /** Records that an event was published. True on the node that is the first to do so. */
  async claimPublished (id: number, now: number): Promise<boolean> {
    const { numUpdatedRows } = await this.#db.updateTable('websocket_events').set({ handed_at: toSqlTime(now) })
      .where('id', '=', id).where('handed_at', 'is', null).executeTakeFirst()
    return Number(numUpdatedRows) === 1
  }

  /** Published, unconfirmed events of these users without an emitted `waiting`, not due yet. */
  async unannounced (users: readonly UserRef[], now: number): Promise<Unconfirmed[]> {
    const of = users.map(() => "(tenant_id = ? and status = 'pending' and channel = ?)").join(' or ')
    const { rows } = await this.#db.executeQuery<{ id: number, tenant_id: Id, channel: string }>(CompiledQuery.raw(`
      select id, tenant_id, channel from websocket_events
      where (${of}) and waiting_at is null and due_at > ? and handed_at is not null limit ${MAX_WAITING}`,
    [...users.flatMap(({ tenantId, userId }) => [tenantId, privateChannel(userId)]), toSqlTime(now)]))
    return rows.map(({ id, tenant_id: tenantId, channel }) => ({ id: Number(id), tenantId: this.#ids.parse(tenantId), channel }))
  }

  /** Lets the sweeper process these events now. */
  async makeDue (ids: readonly number[], now: number): Promise<void> {
    if (ids.length === 0) return
    await this.#db.updateTable('websocket_events').set({ due_at: toSqlTime(now) })
      .where('id', 'in', ids).where('due_at', 'is not', null).where(sql<boolean>`case when status = 'pending' then 1 else 0 end = 1`).execute()
  }
}

const marksOf = (values: readonly unknown[]): string => `?${', ?'.repeat(values.length - 1)}`

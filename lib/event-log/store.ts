import { CompiledQuery, sql, type SelectQueryBuilder } from 'kysely'
import { privateChannel, privateOwner } from '../channel-names.js'
import { systemClock } from '../clock.js'
import type { Database, Dialect, Executor } from '../database/dialect.js'
import { isDeadlock } from '../database/failures.js'
import type { Tables } from '../database/tables.js'
import { fromSqlTime, toSqlTime } from '../database/time.js'
import { upsert } from '../database/upsert.js'
import type { Id, Ids } from '../ids.js'
import type { UserRef } from '../keys.js'
import { clientKey } from './client-key.js'
import { consecutiveRanges } from './consecutive-ranges.js'
import type { Confirmation, Confirmed, DueEvent, StoredEvent } from './contract.js'
import { countByStatus, type StatusCounts } from './count-by-status.js'
import { dedupeKey, InsertStore, type EventKey, type KnownIds } from './insert-store.js'
import type { AuditRow, EventRow } from './inserts.js'
import type { Copies } from './replay-store.js'
import { handedAt, STORED_COLUMNS, toStored, type StoredRow } from './rows.js'

/** Events that a node may have missed on channels of one tenant. */
export interface GapRange {
  tenantId: Id
  channels: string[]
  /** Return events with a greater id. */
  since: number
  /** Events up to this id are known to have arrived, unless they are unpublished or were published at `publishedSince` or later. */
  complete: number
  /** Milliseconds since 1970. */
  publishedSince: number
  limit: number
}

/** Repeating a send with the same dedupe id within this time returns the original result. */
export const DEDUPE_WINDOW_MS = 5 * 60_000
/** Whether an event of this time is still the result of a repeated send under its key. */
export const isRepeatable = (createdAt: number, now: number): boolean => createdAt > now - DEDUPE_WINDOW_MS

/**
 * A condition that no index can be used for. By an index on the status, an update would visit and lock all pending rows and
 * block inserts.
 */
const STILL_PENDING = "case when status = 'pending' then 1 else 0 end = 1"
/** For events that were confirmed before they were known to be published. */
const CONFIRMED_IS_NOT_DUE = "due_at = case when status = 'delivered' then null else due_at end"
const stillPending = sql.raw<boolean>(STILL_PENDING)
const stored = [...STORED_COLUMNS, handedAt]

/** A query of whole events. */
type EventsQuery = SelectQueryBuilder<Tables, 'websocket_events', StoredRow>

/** Reads and updates events (websocket_events). */
export class EventStore {
  readonly #db: Database
  readonly #dialect: Dialect
  readonly #ids: Ids
  readonly #origin: string
  readonly #inserts: InsertStore
  readonly #toStored = (row: StoredRow): StoredEvent => toStored(row, this.#ids)

  /** `consecutiveIds`: the ids of one insert are consecutive; otherwise they are read back. */
  constructor (db: Database, dialect: Dialect, ids: Ids, origin: string, known: KnownIds, consecutiveIds = true) {
    this.#ids = ids
    this.#db = db
    this.#dialect = dialect
    this.#origin = origin
    this.#inserts = new InsertStore(db, dialect, ids, origin, known, consecutiveIds)
  }

  /** Inserts all rows with one statement and returns their ids, in order. */
  insert (rows: readonly EventRow[]): Promise<number[]> {
    return this.#inserts.insert(rows)
  }

  /** Inserts events that change messages, and changes those, in one transaction. Null for an event whose message is gone. */
  insertChanges (rows: readonly EventRow[]): Promise<Array<number | null>> {
    return this.#inserts.insertChanges(rows)
  }

  /** Inserts a row in a transaction of the host; the sweeper finds it after the commit. */
  insertInTransaction (transaction: Executor, row: EventRow): Promise<number> {
    return this.#inserts.insertWithin(transaction, row)
  }

  /** Inserts rows of ephemeral events as a record; they are neither recovered nor sent again. */
  insertAudit (rows: readonly AuditRow[]): Promise<void> {
    return this.#inserts.insertAudit(rows)
  }

  /** Stored events with these keys, by `{tenant}/{user}/{key}`, and when they were stored. */
  findByKey (keys: readonly EventKey[]): Promise<Map<string, { event: StoredEvent, createdAt: number }>> {
    return this.#inserts.findByKey(keys)
  }

  /** The event that a user stored under a client's key, and when, if the dedupe window is not over; null without one. */
  async original ({ tenantId, userId }: UserRef, dedupeId: string, now: number): Promise<{ event: StoredEvent, createdAt: number } | null> {
    const key = { tenantId, userId, dedupeId: clientKey(dedupeId) }
    const found = (await this.findByKey([key])).get(dedupeKey(key))
    return found !== undefined && isRepeatable(found.createdAt, now) ? found : null
  }

  /** Removes the keys of rows whose dedupe window is over. */
  forgetKeys (ids: number[]): Promise<void> {
    return this.#inserts.forgetKeys(ids)
  }

  /** Marks events as published. With `done` they are delivered; otherwise they stay pending until they are confirmed. */
  async markPublished (ids: readonly number[], at: number, done: boolean): Promise<void> {
    const time = toSqlTime(at)
    const { ranges, singles } = consecutiveRanges(ids)
    const mark = async (where: string, values: readonly number[]): Promise<void> => {
      await this.#db.executeQuery(CompiledQuery.raw(`
        update websocket_events set ${done ? "status = 'delivered', due_at = null" : CONFIRMED_IS_NOT_DUE}, handed_at = ?, updated_at = ?
        where ${where} and ${done ? STILL_PENDING : 'handed_at is null'}`, [time, time, ...values]))
    }
    for (const range of ranges) await mark('id between ? and ?', range)
    for (const some of singles) await mark(`id in (${placeholders(some)})`, some)
  }

  /** Sets when the sweeper processes these rows again; null: not before their recipient connects. */
  async reschedule (ids: number[], dueAt: number | null, now: number, { retried = false } = {}): Promise<void> {
    if (ids.length === 0) return
    await this.#db.updateTable('websocket_events')
      .set((eb) => ({
        due_at: dueAt === null ? null : toSqlTime(dueAt),
        handed_at: eb.fn.coalesce('handed_at', sql<string>`${toSqlTime(now)}`),
        updated_at: toSqlTime(now),
        ...(retried ? { retry_count: eb('retry_count', '+', 1) } : {})
      }))
      .where('id', 'in', ids).where(stillPending).execute()
  }

  /** Moves the due time of rows that have one to `dueAt`, if it is earlier. */
  async postpone (ids: readonly number[], dueAt: number, now: number): Promise<void> {
    await this.#db.updateTable('websocket_events').set({ due_at: toSqlTime(dueAt), updated_at: toSqlTime(now) })
      .where('id', 'in', ids).where('due_at', 'is not', null).where('due_at', '<', toSqlTime(dueAt)).where(stillPending).execute()
  }

  async markFailed (ids: number[], reason: string, now: number): Promise<void> {
    if (ids.length === 0) return
    await this.#db.updateTable('websocket_events')
      .set({ status: 'failed', error_message: reason, due_at: null, updated_at: toSqlTime(now) })
      .where('id', 'in', ids).where(stillPending).execute()
  }

  /**
   * Records confirmations, those of many recipients with one commit, and returns the events found on the recipients'
   * channels. `allPublished`: every event of this node is known to be published. Otherwise only the row's own `handed_at`
   * counts, so that an event confirmed on one connection is still delivered to the user's others.
   */
  async confirm (confirmations: readonly Confirmation[], now: number, allPublished: boolean): Promise<Confirmed[]> {
    try {
      return await this.#confirm(confirmations, now, allPublished)
    } catch (err) {
      // The database aborted one of several statements on these rows. Hundreds of recipients must not see that as an error.
      if (!isDeadlock(err)) throw err
      return await this.#confirm(confirmations, now, allPublished)
    }
  }

  async #confirm (confirmations: readonly Confirmation[], now: number, allPublished: boolean): Promise<Confirmed[]> {
    const wanted = new Map(confirmations.map((one) => [`${one.id}/${one.tenantId}/${privateChannel(one.userId)}`, one]))
    // In the same order on every node, to avoid deadlocks.
    const ids = [...new Set(confirmations.map(({ id }) => id))].sort((a, b) => a - b)
    return await this.#db.transaction().execute(async (trx) => {
      // With a lock, so that exactly one of two tabs is the first to confirm.
      const { rows } = await trx.executeQuery<ConfirmedRow>(CompiledQuery.raw(`
        select id, tenant_id, user_id, channel, status from websocket_events
        where id in (${placeholders(ids)}) and durable = 1${this.#dialect === 'mysql' ? ' for update' : ''}`, ids))
      const found = rows.flatMap((row) => {
        const one = wanted.get(`${row.id}/${row.tenant_id}/${row.channel}`)
        return one === undefined ? [] : { ...one, senderId: this.#ids.parse(row.user_id), fresh: row.status !== 'delivered' }
      })
      const fresh = found.filter((one) => one.fresh).map(({ id }) => id)
      if (fresh.length > 0) {
        const known = `(handed_at is not null or (origin = ? and ${allPublished ? '1 = 1' : '1 = 0'}))`
        const time = toSqlTime(now)
        await trx.executeQuery(CompiledQuery.raw(`
          update websocket_events set status = 'delivered', error_message = null, updated_at = ?,
            due_at = case when ${known} then null else due_at end, handed_at = case when ${known} then coalesce(handed_at, ?) else null end
          where id in (${placeholders(fresh)})`, [time, this.#origin, this.#origin, time, ...fresh]))
      }
      return found
    })
  }

  /** Durable events above `since` that a user sent to others and that are published to the user's own connections, too, oldest first. */
  async copiesAfter (tenantId: Id, { userId, types }: Copies, channel: string, since: number, limit: number): Promise<StoredEvent[]> {
    const rows = await this.#db.selectFrom('websocket_events').select(stored)
      .where('tenant_id', '=', tenantId).where('user_id', '=', userId).where('durable', '=', 1).where('event_type', 'in', types)
      .where('channel', '<>', channel).where('channel', 'like', 'private-user.%').where('id', '>', since).orderBy('id').limit(limit).execute()
    return rows.map(this.#toStored)
  }

  /** Durable events of one channel above `since`, oldest first. */
  async after (tenantId: Id, channel: string, since: number, limit: number): Promise<StoredEvent[]> {
    const rows = await this.#db.selectFrom('websocket_events').select(stored)
      .where('tenant_id', '=', tenantId).where('channel', '=', channel).where('durable', '=', 1)
      .where('id', '>', since).orderBy('id').limit(limit).execute()
    return rows.map(this.#toStored)
  }

  /** The existing ones of these durable events, oldest first. */
  async byIds (ids: readonly number[]): Promise<StoredEvent[]> {
    const rows = await this.#db.selectFrom('websocket_events').select(stored).where('id', 'in', ids).where('durable', '=', 1).orderBy('id').execute()
    return rows.map(this.#toStored)
  }

  /** Durable events of several channels in a range, oldest first; with events of the types `copied` that the owners of private channels sent. */
  async readGap ({ tenantId, channels, since, complete, publishedSince, limit }: GapRange, copied: readonly string[]): Promise<StoredEvent[]> {
    const owners = channels.flatMap((channel) => privateOwner(channel, this.#ids) ?? [])
    const own = await this.#readGap({ tenantId, channels, since, complete, publishedSince, limit }, (query) => query.where('channel', 'in', channels))
    if (owners.length === 0 || copied.length === 0) return own
    const copies = await this.#readGap({ tenantId, channels, since, complete, publishedSince, limit },
      (query) => query.where('user_id', 'in', owners).where('event_type', 'in', copied).where('channel', 'like', 'private-user.%'))
    return [...new Map([...own, ...copies].map((event) => [event.id, event])).values()].sort((a, b) => a.id - b.id).slice(0, limit)
  }

  async #readGap ({ tenantId, since, complete, publishedSince, limit }: GapRange, of: (query: EventsQuery) => EventsQuery): Promise<StoredEvent[]> {
    const rows = await of(this.#db.selectFrom('websocket_events').select(stored)).where('tenant_id', '=', tenantId).where('durable', '=', 1).where('id', '>', since)
      .where((eb) => eb.or([eb('id', '>', complete), eb('handed_at', 'is', null), eb('handed_at', '>=', toSqlTime(publishedSince))]))
      .orderBy('id').limit(limit).execute()
    return rows.map(this.#toStored)
  }

  /** The newest id of all channels. */
  async newest (): Promise<number> {
    const row = await this.#db.selectFrom('websocket_events').select((eb) => eb.fn.max('id').as('id')).executeTakeFirst()
    return Number(row?.id ?? 0)
  }

  /** The id up to which a channel's events were purged. */
  async purgedThrough (tenantId: Id, channel: string): Promise<number> {
    const row = await this.#db.selectFrom('websocket_channel_floors').select('purged_id')
      .where('tenant_id', '=', tenantId).where('channel', '=', channel).executeTakeFirst()
    return Number(row?.purged_id ?? 0)
  }

  /** Pending events that are due, and failed ones without an emitted `failed`: those that became due first, or last. Ordered by id. */
  async due (now: number, limit: number, which: 'first' | 'last' = 'first'): Promise<DueEvent[]> {
    const order = which === 'first' ? 'asc' : 'desc'
    const rows = await this.#db.selectFrom('websocket_events').select([...stored, 'status', 'error_message', 'waiting_at', sql<string>`cast(created_at as char)`.as('created')])
      .where('due_at', '<=', toSqlTime(now)).where('status', 'in', ['pending', 'failed']).orderBy('due_at', order).orderBy('id', order).limit(limit).execute()
    return rows.map((row) => ({ ...this.#toStored(row), createdAt: fromSqlTime(row.created), isAnnounced: row.waiting_at !== null, failure: row.status === 'failed' ? row.error_message ?? '' : null }))
      .sort((a, b) => a.id - b.id)
  }

  /** Unpublished events of this node, oldest first, confirmed or not. */
  async unpublished (limit: number): Promise<StoredEvent[]> {
    const rows = await this.#db.selectFrom('websocket_events').select(stored)
      .where('due_at', 'is not', null).where('handed_at', 'is', null).where('origin', '=', this.#origin).where('status', 'in', ['pending', 'delivered'])
      .orderBy('id').limit(limit).execute()
    return rows.map(this.#toStored)
  }

  /** The unpublished ones of these events, oldest first. */
  async unpublishedAmong (ids: number[]): Promise<StoredEvent[]> {
    const rows = await this.#db.selectFrom('websocket_events').select(stored)
      .where('id', 'in', ids).where('status', '=', 'pending').where('handed_at', 'is', null).orderBy('id').execute()
    return rows.map(this.#toStored)
  }

  /** The unconfirmed ones of these events, oldest first, with their current content. */
  async pendingAmong (ids: readonly number[]): Promise<StoredEvent[]> {
    const rows = await this.#db.selectFrom('websocket_events').select(stored).where('id', 'in', ids).where('status', '=', 'pending').orderBy('id').execute()
    return rows.map(this.#toStored)
  }

  async countByStatus (tenantId: Id): Promise<StatusCounts> {
    return await countByStatus(this.#db, tenantId)
  }

  /**
   * Checks everything that storing an event needs, without storing one: the permission to insert, locks, and a commit. Rejects
   * if the database responds and cannot do that.
   */
  async probe (): Promise<void> {
    await this.checkWritable()
    await upsert(this.#db, this.#dialect, 'websocket_meta', [{ name: 'probe', value: toSqlTime(systemClock.now()) }], { keys: ['name'], update: ['value'] })
  }

  /** The part of `probe` that does not write: rejects if the server is read-only, or if the user has no permission to insert. */
  async checkWritable (): Promise<void> {
    await sql`insert into websocket_events (tenant_id, user_id, event_type, channel, payload, created_at, updated_at, origin)
      select 0, 0, name, name, '{}', name, name, name from websocket_meta where 1 = 0`.execute(this.#db)
  }
}

const placeholders = (values: readonly unknown[]): string => `?${', ?'.repeat(values.length - 1)}`

interface ConfirmedRow { id: number, tenant_id: Id, user_id: Id, channel: string, status: string }

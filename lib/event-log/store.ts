import { CompiledQuery, sql } from 'kysely'
import { privateChannel } from '../channel-names.js'
import { systemClock } from '../clock.js'
import type { Database, Dialect, Executor } from '../database/dialect.js'
import { isDeadlock } from '../database/failures.js'
import { toSqlTime } from '../database/time.js'
import { upsert } from '../database/upsert.js'
import type { Id, Ids } from '../ids.js'
import { consecutiveRanges } from './consecutive-ranges.js'
import type { Confirmation, Confirmed, StoredEvent } from './contract.js'
import { InsertStore, type EventKey, type KnownIds } from './insert-store.js'
import type { AuditRow, EventRow } from './inserts.js'
import { handedAt, STORED_COLUMNS, toStored, type StoredRow } from './rows.js'

/** What one node may have missed on channels of one tenant. */
export interface GapRange {
  tenantId: Id
  channels: string[]
  /** Ids above this are looked at, */
  since: number
  /** and taken above this, or where they were not handed on yet, or only since then (milliseconds since 1970). */
  complete: number
  publishedSince: number
  limit: number
}

/** How long a client's dedupe id answers the first result. */
export const DEDUPE_WINDOW_MS = 5 * 60_000

/** How far clocks of nodes may differ, for what ordering by id alone could hide (see `lateCommitsBelow`). */
const CLOCK_SKEW_MS = 1000
/** How far below `since` late rows are looked for. */
const LATE_COMMIT_ROWS = 1000

/**
 * Beside ids, in a form no index answers: by an index on the status an update would visit, and lock, all that is pending,
 * and keep new events from being inserted meanwhile.
 */
const STILL_PENDING = "case when status = 'pending' then 1 else 0 end = 1"
/** Confirmed before it was known to be handed on to all. */
const CONFIRMED_IS_NOT_DUE = "due_at = case when status = 'delivered' then null else due_at end"
const stillPending = sql.raw<boolean>(STILL_PENDING)
const stored = [...STORED_COLUMNS, handedAt]

/** The SQL of events (websocket_events): what becomes of their rows, and who reads them. */
export class EventStore {
  readonly #db: Database
  readonly #dialect: Dialect
  readonly #ids: Ids
  readonly #origin: string
  readonly #inserts: InsertStore
  readonly #toStored = (row: StoredRow): StoredEvent => toStored(row, this.#ids)

  /** With `consecutiveIds` the ids of one insert follow one another; otherwise they are read back. */
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

  /** Inserts a row within a transaction of the host's; it exists for the sweeper once that is committed. */
  insertInTransaction (transaction: Executor, row: EventRow): Promise<number> {
    return this.#inserts.insertWithin(transaction, row)
  }

  /** Rows of ephemeral events, for the record only: never recovered, never sent again. */
  insertAudit (rows: readonly AuditRow[]): Promise<void> {
    return this.#inserts.insertAudit(rows)
  }

  /** What is already stored under these keys: `{tenant}/{user}/{key}` → the event, and when it was stored. */
  findByKey (keys: readonly EventKey[]): Promise<Map<string, { event: StoredEvent, createdAt: number }>> {
    return this.#inserts.findByKey(keys)
  }

  /** Frees the client's keys of rows whose window is over. */
  forgetKeys (ids: number[]): Promise<void> {
    return this.#inserts.forgetKeys(ids)
  }

  /** Handed to every node: done for most events, while those to be confirmed stay pending. */
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

  /** When these rows are to be looked at again; null: not before their user connects. */
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

  /** Rows that are due some time are so no earlier than this. */
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
   * Events that their recipients confirm now, those of many with one commit; answers those found on the recipient's channel.
   * With `handed`, this node's are known to be handed on; of others, and while this node is behind, only the row says so:
   * what one connection has confirmed is still handed to the others.
   */
  async confirm (confirmations: readonly Confirmation[], now: number, allPublished: boolean): Promise<Confirmed[]> {
    try {
      return await this.#confirm(confirmations, now, allPublished)
    } catch (err) {
      // One of many statements that touch these rows must give way: not hundreds of recipients.
      if (!isDeadlock(err)) throw err
      return await this.#confirm(confirmations, now, allPublished)
    }
  }

  async #confirm (confirmations: readonly Confirmation[], now: number, allPublished: boolean): Promise<Confirmed[]> {
    const wanted = new Map(confirmations.map((one) => [`${one.id}/${one.tenantId}/${privateChannel(one.userId)}`, one]))
    // In one order on every node, so that no two wait for each other's rows.
    const ids = [...new Set(confirmations.map(({ id }) => id))].sort((a, b) => a - b)
    return await this.#db.transaction().execute(async (trx) => {
      // Locked, so that of two tabs that confirm at once one is the first.
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

  /** Durable events of one channel above `since`, oldest first. */
  async after (tenantId: Id, channel: string, since: number, limit: number): Promise<StoredEvent[]> {
    const rows = await this.#db.selectFrom('websocket_events').select(stored)
      .where('tenant_id', '=', tenantId).where('channel', '=', channel).where('durable', '=', 1)
      .where('id', '>', since).orderBy('id').limit(limit).execute()
    return rows.map(this.#toStored)
  }

  /**
   * What ordering by id can hide. Ids are given when an insert begins, but seen when it is committed and handed on: node A
   * may take id 10, node B id 11, and B's be delivered first. A client that saw 11 and left would ask for what is above
   * 11 and never get 10. It can only have missed a row below `since` if that row was handed on after the client saw
   * `since`, hence after the row `since` was made. Rows of one node are committed and handed on one after the other,
   * in order of their ids; so only rows of other nodes qualify. These, below `since`, handed on later than `since` was made
   * (less the skew of clocks), or not yet, are replayed too; a client drops those it has by their id.
   */
  async lateCommitsBelow (tenantId: Id, channel: string, since: number): Promise<StoredEvent[]> {
    const { rows } = await sql<StoredRow>`
      select ${sql.join(STORED_COLUMNS.map((name) => sql.ref(`e.${name}`)))}, cast(e.handed_at as char) as handed_at from (
        select * from websocket_events
        where tenant_id = ${tenantId} and channel = ${channel} and durable = 1 and id < ${since}
        order by id desc limit ${LATE_COMMIT_ROWS}
      ) as e join websocket_events as s on s.id = ${since} and s.tenant_id = ${tenantId} and s.origin <> e.origin
      where e.handed_at is null or e.handed_at >= ${this.#minus(sql.ref('s.created_at'), CLOCK_SKEW_MS)}
      order by e.id`.execute(this.#db)
    return rows.map(this.#toStored)
  }

  /** Durable events of several channels above `since`, oldest first: those above `complete`, or handed on late. */
  async readGap ({ tenantId, channels, since, complete, publishedSince, limit }: GapRange): Promise<StoredEvent[]> {
    const rows = await this.#db.selectFrom('websocket_events').select(stored)
      .where('tenant_id', '=', tenantId).where('channel', 'in', channels).where('durable', '=', 1).where('id', '>', since)
      .where((eb) => eb.or([eb('id', '>', complete), eb('handed_at', 'is', null), eb('handed_at', '>=', toSqlTime(publishedSince))]))
      .orderBy('id').limit(limit).execute()
    return rows.map(this.#toStored)
  }

  /** The newest id of all. */
  async newest (): Promise<number> {
    const row = await this.#db.selectFrom('websocket_events').select((eb) => eb.fn.max('id').as('id')).executeTakeFirst()
    return Number(row?.id ?? 0)
  }

  /** Up to where a channel's events were purged. */
  async purgedThrough (tenantId: Id, channel: string): Promise<number> {
    const row = await this.#db.selectFrom('websocket_channel_floors').select('purged_id')
      .where('tenant_id', '=', tenantId).where('channel', '=', channel).executeTakeFirst()
    return Number(row?.purged_id ?? 0)
  }

  /** Rows that the sweeper must look at. */
  async due (now: number, limit: number): Promise<StoredEvent[]> {
    const rows = await this.#db.selectFrom('websocket_events').select(stored)
      .where('due_at', '<=', toSqlTime(now)).where('status', '=', 'pending').orderBy('due_at').orderBy('id').limit(limit).execute()
    return rows.map(this.#toStored).sort((a, b) => a.id - b.id)
  }

  /** This node's rows that no other node was handed, oldest first; confirmed or not. */
  async unpublished (limit: number): Promise<StoredEvent[]> {
    const rows = await this.#db.selectFrom('websocket_events').select(stored)
      .where('due_at', 'is not', null).where('handed_at', 'is', null).where('origin', '=', this.#origin).where('status', 'in', ['pending', 'delivered'])
      .orderBy('id').limit(limit).execute()
    return rows.map(this.#toStored)
  }

  /** Those of these events that are there and that nobody was handed yet, oldest first. */
  async unhandedAmong (ids: number[]): Promise<StoredEvent[]> {
    const rows = await this.#db.selectFrom('websocket_events').select(stored)
      .where('id', 'in', ids).where('status', '=', 'pending').where('handed_at', 'is', null).orderBy('id').execute()
    return rows.map(this.#toStored)
  }

  /** Pending and failed events of a tenant. */
  async counts (tenantId: Id): Promise<{ pending: number, failed: number }> {
    const rows = await this.#db.selectFrom('websocket_events').select(['status', (eb) => eb.fn.countAll<number>().as('count')])
      .where('tenant_id', '=', tenantId).where('status', 'in', ['pending', 'failed']).groupBy('status').execute()
    const of = (status: string): number => Number(rows.find((row) => row.status === status)?.count ?? 0)
    return { pending: of('pending'), failed: of('failed') }
  }

  /**
   * Does what an event needs, without leaving one: the right to insert into the log, its locks, and a commit. Rejects where
   * the database only answers.
   */
  async probe (): Promise<void> {
    await this.checkWritable()
    await upsert(this.#db, this.#dialect, 'websocket_meta', [{ name: 'probe', value: toSqlTime(systemClock.now()) }], { keys: ['name'], update: ['value'] })
  }

  /** The part of `probe` that writes nothing: rejects where the server is read-only, or this user may not insert. */
  async checkWritable (): Promise<void> {
    await sql`insert into websocket_events (tenant_id, user_id, event_type, channel, payload, created_at, updated_at, origin)
      select 0, 0, name, name, '{}', name, name, name from websocket_meta where 1 = 0`.execute(this.#db)
  }

  #minus (time: ReturnType<typeof sql.ref>, ms: number): ReturnType<typeof sql> {
    return this.#dialect === 'mysql'
      ? sql`${time} - interval ${ms * 1000} microsecond`
      : sql`strftime('%Y-%m-%d %H:%M:%f', ${time}, ${`-${ms / 1000} seconds`})`
  }
}

const placeholders = (values: readonly unknown[]): string => `?${', ?'.repeat(values.length - 1)}`

interface ConfirmedRow { id: number, tenant_id: Id, user_id: Id, channel: string, status: string }

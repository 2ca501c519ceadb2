import { sql, type RawBuilder } from 'kysely'
import type { Database, Dialect, Executor } from '../database/dialect.js'
import { fromSqlTime } from '../database/time.js'
import { RealtimeError } from '../errors.js'
import type { Ids } from '../ids.js'
import type { StoredEvent } from './contract.js'
import { Changes } from './changes.js'
import { auditInsert, durableInsert, type AuditRow, type EventRow } from './inserts.js'
import { HOST_ORIGIN, STORED_COLUMNS, toStored, type StoredRow } from './rows.js'

/**
 * Audit rows of one statement: each commits by itself, and a few large ones cost a server much less than many small ones.
 * SQLite has a limit of parameters, and holds up the process meanwhile.
 */
export const MAX_AUDIT_ROWS = { mysql: 2000, sqlite: 500 } as const

/** Bytes of payload in one statement of audit rows. */
const MAX_AUDIT_BYTES = 512 * 1024

/** The client's key of an event, or one of the node's own. */
export type EventKey = Pick<EventRow, 'tenantId' | 'userId' | 'dedupeId'>

/** The key under which a client's send is found again. */
export const dedupeKey = ({ tenantId, userId, dedupeId }: EventKey): string => `${tenantId}/${userId}/${dedupeId}`

/** What is known of ids that were given out (see LogEpoch). */
export interface KnownIds {
  readonly current: string
  readonly newest: number
  inserted (id: number, createdAt: number): void
  verify (doubt: { known: number | null }): Promise<void>
}

/** Rows that got ids which are not above one that was given out before. */
interface Suspects { rows: readonly EventRow[], epoch: string, known: number }

/** Puts events into the table (websocket_events), each under an id that no event had before. */
export class InsertStore {
  readonly #db: Database
  readonly #dialect: Dialect
  readonly #ids: Ids
  readonly #origin: string
  readonly #known: KnownIds
  readonly #consecutiveIds: boolean
  /** The last insert failed, and the next one may reach another server, or its ids were suspect: compared before anything is stored. */
  #doubt = false
  #suspects: Suspects[] = []

  /** With `consecutiveIds` the ids of one insert follow one another; otherwise they are read back. */
  constructor (db: Database, dialect: Dialect, ids: Ids, origin: string, known: KnownIds, consecutiveIds: boolean) {
    this.#ids = ids
    this.#db = db
    this.#dialect = dialect
    this.#origin = origin
    this.#known = known
    this.#consecutiveIds = consecutiveIds
  }

  /** Inserts all rows with one statement and returns their ids, in order. None of them was given out before. */
  async insert (rows: readonly EventRow[]): Promise<number[]> {
    if (this.#doubt) await this.#settleDoubt()
    const { current, newest } = this.#known
    const ids = await this.#insert(this.#db, rows, this.#origin).catch((err: unknown) => {
      this.#doubt = true
      throw err
    })
    if (Number(ids[0]) <= newest) {
      this.#suspects.push({ rows, epoch: current, known: newest })
      return (await this.#settleDoubt()).get(rows) ?? ids
    }
    this.#known.inserted(Number(ids.at(-1)), rows.at(-1)?.createdAt ?? 0)
    return ids
  }

  /**
   * Inserts events that change messages, and changes those, in one transaction. Null for an event that does not apply, because
   * its message was deleted meanwhile.
   */
  async insertChanges (rows: readonly EventRow[]): Promise<Array<number | null>> {
    if (this.#doubt) await this.#settleDoubt()
    const { current, newest } = this.#known
    let applied: EventRow[] = []
    const inserted = await this.#db.transaction().execute(async (transaction) => {
      const changes = new Changes(transaction, this.#dialect, this.#ids)
      const applies = await changes.apply(rows)
      applied = rows.filter((_, i) => applies[i])
      if (applied.length === 0) return []
      const ids = await this.#insert(transaction, applied, this.#origin)
      await changes.write()
      return ids
    }).catch((err: unknown) => {
      this.#doubt = true
      throw err
    })
    let ids = inserted
    if (applied.length > 0 && Number(ids[0]) <= newest) {
      this.#suspects.push({ rows: applied, epoch: current, known: newest })
      ids = (await this.#settleDoubt()).get(applied) ?? ids
    } else if (applied.length > 0) this.#known.inserted(Number(ids.at(-1)), applied.at(-1)?.createdAt ?? 0)
    const idOf = new Map(applied.map((row, i) => [row, ids[i] ?? null]))
    return rows.map((row) => idOf.get(row) ?? null)
  }

  /** Inserts a row within a transaction of the host's; it exists for the sweeper once that is committed. */
  async insertWithin (transaction: Executor, row: EventRow): Promise<number> {
    const { newest } = this.#known
    const [id = 0] = await this.#insert(withoutPlugins(transaction), [row], HOST_ORIGIN)
    if (id <= newest) {
      // Nothing can be looked at from within the transaction, and a new epoch would wait for it: the host tries again.
      this.#doubtAfter(newest)
      throw new RealtimeError('RT_STORAGE_UNAVAILABLE', 'The event log went back: try again', { retryAfter: 1 })
    }
    return id
  }

  /** Rows of ephemeral events, for the record only: never recovered, never sent again. At most MAX_AUDIT_ROWS. */
  async insertAudit (rows: readonly AuditRow[]): Promise<void> {
    for (let at = 0, end = 0; at < rows.length; at = end) {
      for (let size = 0; end < rows.length && size < MAX_AUDIT_BYTES; end++) size += rows[end]?.payload.length ?? 0
      const { newest } = this.#known
      const { insertId = 0n } = await this.#db.executeQuery(auditInsert(this.#dialect, rows.slice(at, end), this.#origin))
      // SQLite answers the last id, MySQL the first.
      const first = Number(insertId) - (this.#dialect === 'sqlite' ? end - at - 1 : 0)
      if (first <= newest) this.#doubtAfter(newest)
    }
  }

  #doubtAfter (known: number): void {
    this.#known.verify({ known }).catch(() => {}) // the next comparison is soon
  }

  /** After a new epoch began meanwhile, suspect rows are stored again; answers the ids they have now. */
  async #settleDoubt (): Promise<Map<readonly EventRow[], number[]>> {
    const suspects = this.#suspects
    await this.#known.verify({ known: suspects.at(-1)?.known ?? null })
    const moved = new Map<readonly EventRow[], number[]>()
    for (const { rows, epoch } of suspects) if (epoch !== this.#known.current) moved.set(rows, await this.#storeAgain(rows))
    this.#suspects = this.#suspects.slice(suspects.length)
    this.#doubt = this.#suspects.length > 0
    return moved
  }

  /** By their keys: an answer that was lost may have left them stored again already. */
  async #storeAgain (rows: readonly EventRow[]): Promise<number[]> {
    const ids = await this.#db.transaction().execute(async (transaction) => {
      await transaction.deleteFrom('websocket_events').where('origin', '=', this.#origin).where(this.#keysOf(rows)).execute()
      return await this.#insert(transaction, rows, this.#origin)
    })
    this.#known.inserted(Number(ids.at(-1)), rows.at(-1)?.createdAt ?? 0)
    return ids
  }

  #keysOf (keys: readonly EventKey[]): RawBuilder<boolean> {
    const tuples = sql.join(keys.map((key) => sql`(${key.tenantId}, ${key.userId}, ${key.dedupeId})`))
    return sql<boolean>`(tenant_id, user_id, dedupe_id) in (${this.#dialect === 'sqlite' ? sql`values ${tuples}` : tuples})`
  }

  async #insert (db: Executor, rows: readonly EventRow[], origin: string): Promise<number[]> {
    if (this.#dialect === 'sqlite') {
      const result = await db.executeQuery<{ id: number }>(durableInsert('sqlite', rows, origin))
      return result.rows.map(({ id }) => Number(id)).sort((a, b) => a - b)
    }
    const result = await db.executeQuery(durableInsert('mysql', rows, origin))
    const first = Number(result.insertId ?? 0)
    // The ids of one simple insert are consecutive in every innodb_autoinc_lock_mode, but on some clusters.
    if (this.#consecutiveIds || rows.length === 1) return rows.map((_, i) => first + i)
    const stored = await this.#find(rows, db)
    return rows.map((row) => stored.get(dedupeKey(row))?.event.id ?? 0)
  }

  /** What is already stored under these keys: `{tenant}/{user}/{key}` → the event, and when it was stored. */
  async findByKey (keys: readonly EventKey[]): Promise<Map<string, { event: StoredEvent, createdAt: number }>> {
    if (keys.length === 0) return new Map()
    // What was stored under an id of another event is no event yet.
    if (this.#doubt) await this.#settleDoubt()
    return await this.#find(keys)
  }

  async #find (keys: readonly EventKey[], db: Executor = this.#db): Promise<Map<string, { event: StoredEvent, createdAt: number }>> {
    const { rows } = await db.executeQuery(sql<StoredRow & { dedupe_id: string, created_at: string }>`
      select ${sql.join(STORED_COLUMNS.map((name) => sql.ref(name)))}, cast(handed_at as char) as handed_at, dedupe_id,
        cast(created_at as char) as created_at
      from websocket_events
      where ${this.#keysOf(keys)}`.compile(this.#db))
    return new Map(rows.map((row) =>
      [dedupeKey({ tenantId: this.#ids.parse(row.tenant_id), userId: this.#ids.parse(row.user_id), dedupeId: row.dedupe_id }), { event: toStored(row, this.#ids), createdAt: fromSqlTime(row.created_at) }]))
  }

  /** Frees the client's keys of rows whose window is over. */
  async forgetKeys (ids: number[]): Promise<void> {
    if (ids.length === 0) return
    await this.#db.updateTable('websocket_events').set({ dedupe_id: null }).where('id', 'in', ids).execute()
  }
}

/** The host's plugins may rename and change what it reads of its own tables. */
function withoutPlugins (executor: Executor): Executor {
  const { withoutPlugins } = executor as Partial<Database>
  return withoutPlugins === undefined ? executor : withoutPlugins.call(executor)
}

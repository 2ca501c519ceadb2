import { CompiledQuery } from 'kysely'
import { drawEpoch, drawIdentity } from '../database/meta.js'
import type { Database, Dialect, Executor } from '../database/dialect.js'
import { fromSqlTime, toSqlTime } from '../database/time.js'

/** A marker row moves the ids at least this far past every id known. */
const STEP = 1_000_000
/** Ids beyond this are not believed: with the step they would soon be no safe integers any more. */
export const MAX_ID = 2 ** 52
/** The type of marker rows. Like the rows of ephemeral events they are not durable: nobody recovers or counts them. */
const MARKER = 'realtime:epoch'
/** Rows of one look whose times are read, so that it is one statement, always the same. */
export const MAX_SAMPLES = 5

/** What the database says of the log, all read at one moment. */
export interface LogFacts {
  epoch: string
  identity: string
  /** The newest id of the whole log, 0 while it is empty, and when that row was stored. */
  newest: number
  newestAt: number
  /** When each row that was asked for was stored; null: there is no such row. */
  samples: ReadonlyArray<number | null>
}

/** An epoch to begin, and how to make sure inside the transaction that it must. */
export interface NextEpoch {
  /** The epoch that it replaces; where it was replaced by another node meanwhile nothing is done. */
  from: string
  to: string
  /** Ids up to this were given out. */
  past: number
  samples: readonly number[]
  /** Whether these facts still say that the log went back. */
  wentBack (facts: LogFacts): boolean
}

/** The SQL of epochs: what the log is now, and the marker row that begins a new epoch (websocket_meta, websocket_events). */
export class EpochStore {
  readonly #db: Database
  readonly #dialect: Dialect
  readonly #origin: string

  constructor (db: Database, dialect: Dialect, origin: string) {
    this.#db = db
    this.#dialect = dialect
    this.#origin = origin
  }

  /** One statement, a few looks into primary keys. `samples` are at most MAX_SAMPLES ids. */
  async facts (samples: readonly number[], db: Executor = this.#db): Promise<LogFacts> {
    const ids = Array.from({ length: MAX_SAMPLES }, (_, i) => samples[i] ?? null)
    const timeOf = (id: string): string => `(select cast(created_at as char) from websocket_events where id = ${id})`
    const { rows: [row] } = await db.executeQuery<FactsRow>(CompiledQuery.raw(`
      select (select value from websocket_meta where name = 'epoch') as epoch,
        (select value from websocket_meta where name = 'identity') as identity,
        (select max(id) from websocket_events) as newest,
        ${timeOf('(select max(id) from websocket_events)')} as newest_at,
        ${ids.map((_, i) => `${timeOf('?')} as s${i}`).join(', ')}`, ids))
    if (typeof row?.epoch !== 'string' || typeof row.identity !== 'string') throw new Error('websocket_meta lacks its rows: run npx fastify-realtime migrate')
    return {
      epoch: row.epoch,
      identity: row.identity,
      newest: Number(row.newest ?? 0),
      newestAt: typeof row.newest_at === 'string' ? fromSqlTime(row.newest_at) : 0,
      samples: samples.map((_, i) => {
        const time = row[`s${i}`]
        return typeof time === 'string' ? fromSqlTime(time) : null
      })
    }
  }

  /** Begins an epoch, on one node of those that try; false: another one was first, or the log did not go back after all. */
  async begin (next: NextEpoch, db: Executor | null = null): Promise<boolean> {
    // All of it on one connection: behind a proxy, what is read within a transaction is read from the primary.
    if (db === null) return await this.#db.connection().execute(async (connection) => await this.#begin(next, connection))
    return await this.#begin(next, db)
  }

  async #begin ({ from, to, past, samples, wentBack }: NextEpoch, db: Executor): Promise<boolean> {
    return await this.#inTransaction(db, async () => {
      const { numAffectedRows } = await db.executeQuery(CompiledQuery.raw(
        "update websocket_meta set value = ? where name = 'epoch' and value = ?", [to, from]))
      if (numAffectedRows !== 1n) return false
      const facts = await this.facts(samples, db)
      if (!wentBack({ ...facts, epoch: from })) return false
      await this.#mark(db, Math.max(past, facts.newest))
      return true
    })
  }

  /**
   * For an operator who restored the database while no node ran, and without Redis: a new epoch, a new identity, ids past
   * all that were given out. Resolves to the marker's id.
   */
  async restored (past: number): Promise<{ identity: string, epoch: string, marker: number }> {
    return await this.#db.connection().execute(async (db) => {
      const { epoch: before } = await this.facts([], db)
      const meta = { identity: drawIdentity(), epoch: drawEpoch([before]) }
      let marker = 0
      await this.#inTransaction(db, async () => {
        for (const name of ['epoch', 'identity'] as const) {
          await db.executeQuery(CompiledQuery.raw('update websocket_meta set value = ? where name = ?', [meta[name], name]))
        }
        const { newest } = await this.facts([], db)
        marker = await this.#mark(db, Math.max(past, newest))
        return true
      })
      return { ...meta, marker }
    })
  }

  /** Whether no event ever had this id in this log, because a marker jumped over it: the cursor is another epoch's. */
  async isSkipped (id: number): Promise<boolean> {
    if (id === 0) return false
    const { rows: [next] } = await this.#db.executeQuery<{ event_type: string, durable: number }>(CompiledQuery.raw(
      'select event_type, durable from websocket_events where id >= ? order by id limit 1', [id]))
    return next?.event_type === MARKER && Number(next.durable) === 0
  }

  /** An explicit id, which every database then counts on from; a row that no reader of events takes for one. */
  async #mark (db: Executor, past: number): Promise<number> {
    const id = past + STEP
    if (id > MAX_ID) throw new Error(`ids are used up: ${past} were given out`)
    const now = toSqlTime(Date.now())
    await db.executeQuery(CompiledQuery.raw(`
      insert into websocket_events
        (id, tenant_id, user_id, event_type, channel, payload, status, created_at, updated_at, durable, origin, handed_at)
      values (?, 0, 0, ?, 'epoch', '{}', 'delivered', ?, ?, 0, ?, ?)`, [id, MARKER, now, now, this.#origin, now]))
    return id
  }

  /** By its own statements: a connection that the pool just opened is no Kysely instance. True commits. */
  async #inTransaction (db: Executor, task: () => Promise<boolean>): Promise<boolean> {
    const run = async (statement: string): Promise<void> => { await db.executeQuery(CompiledQuery.raw(statement)) }
    await run(this.#dialect === 'mysql' ? 'start transaction' : 'begin immediate')
    try {
      const done = await task()
      await run(done ? 'commit' : 'rollback')
      return done
    } catch (err) {
      await run('rollback').catch(() => {}) // the connection broke, and its transaction with it
      throw err
    }
  }
}

/** With the samples as s0, s1 … */
type FactsRow = Record<'epoch' | 'identity' | 'newest_at' | `s${number}`, string | null> & { newest: number | null }

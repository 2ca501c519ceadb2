import { CompiledQuery } from 'kysely'
import { systemClock } from '../clock.js'
import { drawEpoch, drawIdentity } from '../database/meta.js'
import type { Database, Executor } from '../database/dialect.js'
import { fromSqlTime, toSqlTime } from '../database/time.js'
import type { Ids } from '../ids.js'

/** A marker row moves the ids at least this far past every id known. */
const STEP = 1_000_000
/** Ids above this are ignored: with the step added they would soon exceed the safe integers. */
export const MAX_ID = 2 ** 52
/** The type of marker rows. Like the audit rows of ephemeral events they are neither recovered nor counted. */
const MARKER = 'realtime:epoch'
/** Rows whose times are read by one check; fixed, so that the statement is always the same. */
export const MAX_SAMPLES = 5

/** The state of the log in the database, read at one moment. */
export interface LogFacts {
  epoch: string
  identity: string
  /** The newest id of the whole log, 0 while it is empty, and when that row was stored. */
  newest: number
  newestAt: number
  /** When each requested row was stored; null if it does not exist. */
  samples: ReadonlyArray<number | null>
}

/** An epoch to begin, and how to make sure inside the transaction that it must. */
export interface NextEpoch {
  /** The epoch that it replaces. If another node has replaced it meanwhile, nothing is done. */
  from: string
  to: string
  /** Ids up to this one were assigned. */
  past: number
  samples: readonly number[]
  /** Whether these facts still show that the log went back. */
  wentBack (facts: LogFacts): boolean
}

/** The SQL of epochs: the state of the log, and the marker row that begins a new epoch (websocket_meta, websocket_events). */
export class EpochStore {
  readonly #db: Database
  readonly #ids: Pick<Ids, 'system'>
  readonly #origin: string

  constructor (db: Database, ids: Pick<Ids, 'system'>, origin: string) {
    this.#ids = ids
    this.#db = db
    this.#origin = origin
  }

  /** One statement, with a few lookups by primary key. `samples` are at most MAX_SAMPLES ids. */
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

  /** Begins an epoch. If several nodes try, one succeeds. False: another node was first, or the log did not go back after all. */
  async begin ({ from, to, past, samples, wentBack }: NextEpoch): Promise<boolean> {
    return await this.#inTransaction(async (db) => {
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
   * For an operator who restored the database while no node ran, and without Redis: a new epoch, a new identity, ids past all
   * that were assigned. Resolves to the marker's id.
   */
  async restored (past: number): Promise<{ identity: string, epoch: string, marker: number }> {
    const { epoch: before } = await this.facts([])
    const meta = { identity: drawIdentity(), epoch: drawEpoch([before]) }
    let marker = 0
    await this.#inTransaction(async (db) => {
      for (const name of ['epoch', 'identity'] as const) {
        await db.executeQuery(CompiledQuery.raw('update websocket_meta set value = ? where name = ?', [meta[name], name]))
      }
      const { newest } = await this.facts([], db)
      marker = await this.#mark(db, Math.max(past, newest))
      return true
    })
    return { ...meta, marker }
  }

  /** Whether no event ever had this id in this log, because a marker jumped over it: the cursor is another epoch's. */
  async isSkipped (id: number): Promise<boolean> {
    const { rows: [next] } = await this.#db.executeQuery<{ event_type: string, durable: number }>(CompiledQuery.raw(
      'select event_type, durable from websocket_events where id >= ? order by id limit 1', [id]))
    return next?.event_type === MARKER && Number(next.durable) === 0
  }

  /** Inserts a row with an explicit id, from which every database continues. No reader takes the row for an event. */
  async #mark (db: Executor, past: number): Promise<number> {
    const id = past + STEP
    if (id > MAX_ID) throw new Error(`ids are used up: ${past} were given out`)
    const now = toSqlTime(systemClock.now())
    const { system } = this.#ids
    await db.executeQuery(CompiledQuery.raw(`
      insert into websocket_events
        (id, tenant_id, user_id, event_type, channel, payload, status, created_at, updated_at, durable, origin, handed_at)
      values (?, ?, ?, ?, 'epoch', '{}', 'delivered', ?, ?, 0, ?, ?)`, [id, system, system, MARKER, now, now, this.#origin, now]))
    return id
  }

  /** False rolls back. */
  async #inTransaction (task: (db: Executor) => Promise<boolean>): Promise<boolean> {
    try {
      await this.#db.transaction().execute(async (transaction) => {
        if (!await task(transaction)) throw new NothingToDo()
      })
      return true
    } catch (err) {
      if (err instanceof NothingToDo) return false
      throw err
    }
  }
}

/** Leaves a transaction without a trace. */
class NothingToDo extends Error {}

/** With the samples as s0, s1 … */
type FactsRow = Record<'epoch' | 'identity' | 'newest_at' | `s${number}`, string | null> & { newest: number | null }

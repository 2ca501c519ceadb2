import { sql, type Kysely } from 'kysely'
import * as initial from '../../migrations/001-initial.js'
import * as eventsByStatus from '../../migrations/002-events-by-status.js'
import * as meta from '../../migrations/003-meta.js'
import * as access from '../../migrations/004-access.js'
import * as ids from '../../migrations/005-ids.js'
import * as conversations from '../../migrations/006-conversations.js'
import * as invisible from '../../migrations/007-invisible.js'
import { sleep } from '../async/timers.js'
import type { IdKind } from '../ids.js'
import type { Database, Dialect } from './dialect.js'
import { isReadOnly } from './failures.js'
import { requireStoredKind, storedIdKind } from './id-columns.js'
import { freshSockets } from './older-nodes.js'
import { openDatabase, type OpenDatabase } from './open.js'

interface Migration { up (db: Kysely<unknown>, ids: IdKind): Promise<void>, down (db: Kysely<unknown>): Promise<void> }

const migrations: Record<string, Migration> = {
  '001-initial': initial, '002-events-by-status': eventsByStatus, '003-meta': meta, '004-access': access, '005-ids': ids,
  '006-conversations': conversations, '007-invisible': invisible
}

/** All migrations, in their order. */
export const migrationNames: readonly string[] = Object.keys(migrations)

/** The table of completed migrations: separate from the host's, and the same as in version 0.1. */
const TABLE = 'websocket_migrations'
/** Seconds to wait for another node that migrates; below Fastify's own limit for a plugin. */
const LOCK_WAIT = 5
/** Seconds that a step waits for statements that use its table. */
const TABLE_WAIT = 60
/** Tries to begin a transaction while another process holds an SQLite file, and milliseconds between them. */
const BUSY_TRIES = 300
const BUSY_PAUSE = 100

/** Describes a running node of version 0.1 that uses this database; null if there is none. */
export type OlderNode = (opened: OpenDatabase) => Promise<string | null>

export interface MigrateOptions {
  /** Looks for running nodes of version 0.1, before the migration with which they are incompatible. */
  olderNode?: OlderNode
  /** The kind of ids of tenants and users. By default that of the database, or `integer` if it is empty. */
  ids?: IdKind | undefined
}

/** Why the tables cannot be brought up to date, and what to do about it. */
export class MigrationError extends Error {
  override readonly name = 'MigrationError'
}

/**
 * Brings the tables up to date, or reverts the last migration. It may be interrupted at any point and started again, and
 * several nodes may run it at the same time: every step is skipped if it is done. Resolves to the names of the migrations that
 * this call ran. Rejects with a {@link MigrationError} that says what to do, or with an `OptionError` if the database has
 * another kind of ids. Accepts the same values as the option `database`.
 */
export async function migrate (
  database: unknown, direction: 'up' | 'down' = 'up', { olderNode = freshSockets, ids }: MigrateOptions = {}
): Promise<string[]> {
  const opened = openDatabase(database)
  const { db, dialect, close } = opened
  try {
    if (direction === 'up') await refuseOlderNode(opened, olderNode)
    return dialect === 'mysql'
      ? await db.connection().execute(async (connection) => await locked(connection, async () => await run(connection, dialect, direction, ids)))
      : await exclusively(db, async (transaction) => await run(transaction, dialect, direction, ids))
  } catch (err) {
    throw explained(err)
  } finally {
    if (typeof database === 'string') await close()
  }
}

/** The names of the migrations that are not done yet. Rejects with a {@link MigrationError} if the database is newer. */
export async function missingMigrations ({ db, dialect }: Pick<OpenDatabase, 'db' | 'dialect'>): Promise<string[]> {
  const done = await exists(db, dialect) ? await namesOf(db) : []
  return migrationNames.filter((name) => !done.includes(name))
}

/** Nodes of version 0.1 cannot work with later versions: all of them must be stopped first. */
async function refuseOlderNode (opened: OpenDatabase, olderNode: OlderNode): Promise<void> {
  const missing = await missingMigrations(opened)
  if (missing.includes('001-initial') || !missing.includes('003-meta')) return
  const found = await olderNode(opened)
  if (found !== null) {
    throw new MigrationError(`a node of fastify-realtime 0.1 is still running on this database (${found}): ` +
      'stop all nodes of that version first, then start this one again')
  }
}

async function run (db: Database, dialect: Dialect, direction: 'up' | 'down', asked: IdKind | undefined): Promise<string[]> {
  if (!await exists(db, dialect)) {
    if (direction === 'down') return []
    await db.schema.createTable(TABLE).ifNotExists()
      .addColumn('name', 'varchar(255)', (column) => column.primaryKey().notNull())
      .addColumn('timestamp', 'varchar(255)', (column) => column.notNull())
      .execute()
  }
  const done = await namesOf(db)
  if (direction === 'down') return await down(db, done)
  const stored = await storedIdKind(db, dialect)
  if (asked !== undefined && stored !== null) requireStoredKind(asked, stored)
  return await up(db, dialect, done, stored ?? asked ?? 'integer')
}

async function up (db: Database, dialect: Dialect, done: string[], ids: IdKind): Promise<string[]> {
  const made: string[] = []
  for (const [name, migration] of Object.entries(migrations)) {
    if (done.includes(name)) continue
    await migration.up(db as unknown as Kysely<unknown>, ids)
    const { numAffectedRows } = await sql`
      insert ${sql.raw(dialect === 'mysql' ? 'ignore' : 'or ignore')} into ${sql.table(TABLE)} (name, timestamp)
      values (${name}, ${new Date().toISOString()})`.execute(db)
    // Otherwise another node was faster.
    if (numAffectedRows === 1n) made.push(name)
  }
  return made
}

async function down (db: Database, done: string[]): Promise<string[]> {
  const last = done.at(-1)
  if (last === undefined) return []
  await migrations[last]?.down(db as unknown as Kysely<unknown>)
  await sql`delete from ${sql.table(TABLE)} where name = ${last}`.execute(db)
  return [last]
}

/** The migrations that are done, in their order. */
async function namesOf (db: Database): Promise<string[]> {
  const { rows } = await sql<{ name: string }>`select name from ${sql.table(TABLE)} order by name`.execute(db)
  const names = rows.map(({ name }) => name)
  const unknown = names.filter((name) => !(name in migrations))
  if (unknown.length > 0) {
    throw new MigrationError(`the database was migrated by a newer version of fastify-realtime (${unknown.join(', ')}): ` +
      'update this node, or restore the database as it was before')
  }
  return names
}

async function exists (db: Database, dialect: Dialect): Promise<boolean> {
  const query = dialect === 'mysql'
    ? sql`select 1 from information_schema.tables where table_schema = database() and table_name = ${TABLE}`
    : sql`select 1 from sqlite_master where type = 'table' and name = ${TABLE}`
  return (await query.execute(db)).rows.length > 0
}

/**
 * Lets one node migrate at a time. This is an optimization: steps that two nodes take at the same time have the effect of one.
 * So a node does not wait long for a lock whose owner was killed or is frozen, and servers without named locks are supported.
 */
async function locked (db: Database, task: () => Promise<string[]>): Promise<string[]> {
  const name = sql`concat('rt:', sha1(database()))`
  await sql`select get_lock(${name}, ${LOCK_WAIT})`.execute(db).catch(() => {})
  const { rows } = await sql<{ wait: number }>`select @@lock_wait_timeout as wait`.execute(db)
  const before = Number(rows[0]?.wait)
  await sql`set lock_wait_timeout = ${sql.lit(Math.max(before, TABLE_WAIT))}`.execute(db)
  try {
    return await task()
  } finally {
    await sql`set lock_wait_timeout = ${sql.lit(before)}`.execute(db).catch(() => {})
    await sql`do release_lock(${name})`.execute(db).catch(() => {})
  }
}

/** In SQLite the whole migration is one transaction, of one process at a time. */
async function exclusively (db: Database, task: (transaction: Database) => Promise<string[]>): Promise<string[]> {
  for (let tries = 1; ; tries++) {
    let began = false
    try {
      return await db.transaction().execute(async (transaction) => {
        began = true
        return await task(transaction)
      })
    } catch (err) {
      const busy = err instanceof Error && 'code' in err && /^SQLITE_(BUSY|LOCKED)/.test(String(err.code))
      if (!busy || began || tries === BUSY_TRIES) throw err
      await sleep(BUSY_PAUSE)
    }
  }
}

const RIGHTS = 'the migrations need CREATE, ALTER, INDEX, DROP, SELECT, INSERT, UPDATE and DELETE on this database'

/** An error that says what to do if the cause is known, otherwise the error itself. */
function explained (err: unknown): unknown {
  if (err instanceof MigrationError || !(err instanceof Error)) return err
  const right = /^([A-Z ]+) command denied/.exec(err.message)?.[1] ?? /Access denied .* to database|you need .*privilege/.exec(err.message)?.[0]
  if (right !== undefined) {
    return new MigrationError(`the database user lacks the right ${right}: grant it and start again; completed steps are kept (${RIGHTS})`, { cause: err })
  }
  if (isReadOnly(err)) return new MigrationError(`the database is read-only: ${err.message}`, { cause: err })
  return err
}

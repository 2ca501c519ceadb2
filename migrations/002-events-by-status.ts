import { sql, type Kysely } from 'kysely'

const isSqlite = (db: Kysely<unknown>): boolean => !sql.id('x').compile(db).sql.startsWith('`')

/**
 * One index of events by tenant, status and channel replaces two: it finds the unconfirmed events of a user, and counts those of
 * a tenant. Each index is a tenth of the database's cost of storing an event.
 */
const TABLE = 'websocket_events'
const one = ['tenant_id', 'status', 'channel']
const two = [['tenant_id', 'channel', 'status'], ['tenant_id', 'status']]

export async function up (db: Kysely<unknown>): Promise<void> {
  await create(db, one)
  for (const columns of two) await drop(db, columns)
}

export async function down (db: Kysely<unknown>): Promise<void> {
  for (const columns of two) await create(db, columns)
  await drop(db, one)
}

const nameOf = (columns: string[]): string => `${TABLE}_${columns.join('_')}`

/**
 * Either may be there: MySQL commits each by itself, so a migration that was interrupted starts again with some of it
 * done, and another node may do the same at this moment.
 */
async function create (db: Kysely<unknown>, columns: string[]): Promise<void> {
  if (await exists(db, nameOf(columns))) return
  await db.schema.createIndex(nameOf(columns)).on(TABLE).columns(columns).execute().catch(unless('ER_DUP_KEYNAME'))
}

async function drop (db: Kysely<unknown>, columns: string[]): Promise<void> {
  const name = nameOf(columns)
  if (!await exists(db, name)) return
  // SQLite's indexes have names of their own, MySQL's those of their table.
  const builder = db.schema.dropIndex(name)
  await (isSqlite(db) ? builder : builder.on(TABLE)).execute().catch(unless('ER_CANT_DROP_FIELD_OR_KEY'))
}

const unless = (code: string) => (err: Error & { code?: string }): void => { if (err.code !== code) throw err }

async function exists (db: Kysely<unknown>, name: string): Promise<boolean> {
  const query = isSqlite(db)
    ? sql`select 1 from pragma_index_list(${TABLE}) where name = ${name}`
    : sql`select 1 from information_schema.statistics where table_schema = database() and table_name = ${TABLE} and index_name = ${name}`
  return (await query.execute(db)).rows.length > 0
}

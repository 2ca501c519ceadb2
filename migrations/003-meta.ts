import { randomBytes } from 'node:crypto'
import { sql, type Kysely } from 'kysely'

/**
 * Facts about this database, one row each:
 *
 * - `identity`: a random name. Redis keys and topics carry it, so that two databases on one Redis never meet.
 * - `epoch`: a random name of the event log, part of every cursor. A new one is drawn when the log turns out to be older
 *   than what nodes or clients have already seen (a restored backup, a replica that lagged).
 */
const TABLE = 'websocket_meta'

export async function up (db: Kysely<unknown>): Promise<void> {
  const isMysql = sql.id('x').compile(db).sql.startsWith('`')
  const table = db.schema.createTable(TABLE).ifNotExists()
    .addColumn('name', 'varchar(64)', (column) => column.primaryKey().notNull())
    .addColumn('value', 'varchar(255)', (column) => column.notNull())
  const found = await (isMysql
    ? sql`select 1 from information_schema.tables where table_schema = database() and table_name = ${TABLE}`
    : sql`select 1 from sqlite_master where name = ${TABLE}`).execute(db)
  if (found.rows.length === 0) await (isMysql ? table.modifyEnd(sql`engine = innodb default charset = utf8mb4 collate = utf8mb4_bin`) : table).execute()
  for (const name of ['identity', 'epoch']) {
    const known = await sql`select 1 from ${sql.table(TABLE)} where name = ${name}`.execute(db)
    if (known.rows.length > 0) continue
    // Another node may be faster.
    await sql`insert ${sql.raw(isMysql ? 'ignore' : 'or ignore')} into ${sql.table(TABLE)} (name, value)
      values (${name}, ${randomBytes(9).toString('base64url')})`.execute(db)
  }
}

export async function down (db: Kysely<unknown>): Promise<void> {
  await db.schema.dropTable(TABLE).ifExists().execute()
}

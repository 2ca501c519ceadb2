import { sql, type Kysely } from 'kysely'

/**
 * Notes the kind of ids in websocket_meta: `integer` or `string`, for all tenants and users of this database. The columns
 * have it from the first migration on (001-initial.ts), and it never changes.
 */
const TABLE = 'websocket_meta'
const NAME = 'ids'

export async function up (db: Kysely<unknown>, ids: 'integer' | 'string'): Promise<void> {
  const isMysql = sql.id('x').compile(db).sql.startsWith('`')
  const known = await sql`select 1 from ${sql.table(TABLE)} where name = ${NAME}`.execute(db)
  if (known.rows.length > 0) return
  // Another node may be faster.
  await sql`insert ${sql.raw(isMysql ? 'ignore' : 'or ignore')} into ${sql.table(TABLE)} (name, value) values (${NAME}, ${ids})`.execute(db)
}

export async function down (db: Kysely<unknown>): Promise<void> {
  await sql`delete from ${sql.table(TABLE)} where name = ${NAME}`.execute(db)
}

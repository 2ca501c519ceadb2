import { sql, type Insertable } from 'kysely'
import type { Database, Dialect } from './dialect.js'
import type { Tables } from './tables.js'

/** Rows of one statement: far below every server's limit of parameters and packet size. */
const ROWS_PER_STATEMENT = 200

/** Inserts rows, and where `keys` stand already sets the columns in `update` to the new values instead. */
export async function upsert<T extends keyof Tables & string> (
  db: Database, dialect: Dialect, table: T, rows: Array<Insertable<Tables[T]>>,
  { keys, update }: { keys: Array<keyof Tables[T] & string>, update: Array<keyof Tables[T] & string> }
): Promise<void> {
  const first = rows[0]
  if (first === undefined) return
  const columns = Object.keys(first) as Array<keyof typeof first>
  const names = sql.join(columns.map((column) => sql.ref(String(column))))
  const set = sql.join(update.map((column) => dialect === 'mysql'
    ? sql`${sql.ref(column)} = values(${sql.ref(column)})`
    : sql`${sql.ref(column)} = excluded.${sql.ref(column)}`))
  const onConflict = dialect === 'mysql'
    ? sql`on duplicate key update ${set}`
    : sql`on conflict (${sql.join(keys.map((key) => sql.ref(key)))}) do update set ${set}`
  for (let at = 0; at < rows.length; at += ROWS_PER_STATEMENT) {
    const values = sql.join(rows.slice(at, at + ROWS_PER_STATEMENT).map((row) =>
      sql`(${sql.join(columns.map((column) => sql.val(row[column])))})`))
    await sql`insert into ${sql.table(table)} (${names}) values ${values} ${onConflict}`.execute(db)
  }
}

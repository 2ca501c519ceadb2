import { sql, type Insertable } from 'kysely'
import type { Database, Dialect } from './dialect.js'
import type { Tables } from './tables.js'

/** Rows of one statement: far below every server's limit of parameters and packet size. */
const ROWS_PER_STATEMENT = 200

/**
 * Inserts rows, and where `keys` stand already sets the columns in `update` to the new values instead; with `newest`, a
 * column, only where the new row's is not less: nodes write behind, so an older row may come last.
 */
export async function upsert<T extends keyof Tables & string> (
  db: Database, dialect: Dialect, table: T, rows: Array<Insertable<Tables[T]>>,
  { keys, update, newest }: {
    keys: Array<keyof Tables[T] & string>, update: Array<keyof Tables[T] & string>, newest?: keyof Tables[T] & string
  }
): Promise<void> {
  const first = rows[0]
  if (first === undefined) return
  const columns = Object.keys(first) as Array<keyof typeof first>
  const names = sql.join(columns.map((column) => sql.ref(String(column))))
  const onConflict = dialect === 'mysql'
    ? sql`on duplicate key update ${mysqlSet(update, newest)}`
    : sql`on conflict (${sql.join(keys.map((key) => sql.ref(key)))}) do update set ${sql.join(update.map((column) =>
      sql`${sql.ref(column)} = excluded.${sql.ref(column)}`))} ${newest === undefined
      ? sql``
      : sql`where excluded.${sql.ref(newest)} >= ${sql.ref(`${table}.${newest}`)}`}`
  for (let at = 0; at < rows.length; at += ROWS_PER_STATEMENT) {
    const values = sql.join(rows.slice(at, at + ROWS_PER_STATEMENT).map((row) =>
      sql`(${sql.join(columns.map((column) => sql.val(row[column])))})`))
    await sql`insert into ${sql.table(table)} (${names}) values ${values} ${onConflict}`.execute(db)
  }
}

/** MySQL assigns from left to right and knows no condition: the column that decides comes last. */
function mysqlSet (update: string[], newest: string | undefined): ReturnType<typeof sql.join> {
  const last = [...update].sort((a, b) => Number(a === newest) - Number(b === newest))
  return sql.join(last.map((column) => newest === undefined
    ? sql`${sql.ref(column)} = values(${sql.ref(column)})`
    : sql`${sql.ref(column)} = if(values(${sql.ref(newest)}) >= ${sql.ref(newest)}, values(${sql.ref(column)}), ${sql.ref(column)})`))
}

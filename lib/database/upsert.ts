import { CompiledQuery, type Insertable } from 'kysely'
import type { Dialect, Executor } from './dialect.js'
import { literal } from './literal.js'
import type { Tables } from './tables.js'

/** Rows of one statement: far below every server's limit of parameters and packet size. */
const ROWS_PER_STATEMENT = 200
const BYTES_PER_STATEMENT = 256 * 1024

/** If a row with the same `keys` exists, the columns in `update` are set to the new values; see `newest` in {@link upsert}. */
interface OnConflict<Column extends string> { keys: Column[], update: Column[], newest?: Column }

/**
 * Inserts rows. If a row with the same `keys` exists, sets its columns in `update` to the new values instead; with `newest`, the
 * name of a column, only if the new value of that column is not smaller, because nodes write later and an older row may come
 * last. The text is built here, because Kysely's tree of nodes per value would cost more than the statement itself.
 */
export async function upsert<T extends keyof Tables & string> (
  db: Executor, dialect: Dialect, table: T, rows: Array<Insertable<Tables[T]>>, conflict: OnConflict<keyof Tables[T] & string>
): Promise<void> {
  const first = rows[0]
  if (first === undefined) return
  const columns = Object.keys(first) as Array<keyof typeof first>
  const placeholders = `(${columns.map(() => '?').join(', ')})`
  const into = `insert into ${table} (${columns.join(', ')}) values `
  // The tables' columns take only strings, numbers and null.
  const values = rows.map((row) => columns.map((column) => row[column] as string | number | null))
  if (dialect === 'mysql') {
    const texts = values.map((row) => `(${row.map(literal).join()})`)
    for (const part of parts(texts, (text) => text.length)) {
      await db.executeQuery(CompiledQuery.raw(`${into}${part.join()} ${mysqlSet(conflict)}`))
    }
    return
  }
  for (const part of parts(values, () => 0)) {
    await db.executeQuery(CompiledQuery.raw(`${into}${part.map(() => placeholders).join()} ${sqliteSet(table, conflict)}`, part.flat()))
  }
}

/** Splits rows into parts, one for each statement. */
function * parts<Row> (rows: Row[], sizeOf: (row: Row) => number): Generator<Row[]> {
  for (let at = 0, end = 0; at < rows.length; at = end) {
    for (let size = 0; end < rows.length && end - at < ROWS_PER_STATEMENT && size < BYTES_PER_STATEMENT; end++) size += sizeOf(rows[end] as Row)
    yield rows.slice(at, end)
  }
}

function sqliteSet (table: string, { keys, update, newest }: OnConflict<string>): string {
  const set = update.map((column) => `${column} = excluded.${column}`).join(', ')
  const condition = newest === undefined ? '' : ` where excluded.${newest} >= ${table}.${newest}`
  return `on conflict (${keys.join(', ')}) do update set ${set}${condition}`
}

/** MySQL assigns from left to right and supports no condition, so the column that decides comes last. */
function mysqlSet ({ update, newest }: OnConflict<string>): string {
  const last = [...update].sort((a, b) => Number(a === newest) - Number(b === newest))
  const set = last.map((column) => newest === undefined
    ? `${column} = values(${column})`
    : `${column} = if(values(${newest}) >= ${newest}, values(${column}), ${column})`)
  return `on duplicate key update ${set.join(', ')}`
}

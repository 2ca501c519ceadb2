import { CompiledQuery, type Insertable } from 'kysely'
import type { Dialect, Executor } from './dialect.js'
import { literal } from './literal.js'
import type { Tables } from './tables.js'

/** Rows of one statement: far below every server's limit of parameters and packet size. */
const ROWS_PER_STATEMENT = 200

/** Where `keys` stand already, the columns in `update` are set to the new values; see `newest` in {@link upsert}. */
interface OnConflict<Column extends string> { keys: Column[], update: Column[], newest?: Column }

/**
 * Inserts rows, and where `keys` stand already sets the columns in `update` to the new values instead; with `newest`, a
 * column, only where the new row's is not less: nodes write behind, so an older row may come last. The text is put
 * together here: a tree of nodes for each value would cost more than the statement itself.
 */
export async function upsert<T extends keyof Tables & string> (
  db: Executor, dialect: Dialect, table: T, rows: Array<Insertable<Tables[T]>>, conflict: OnConflict<keyof Tables[T] & string>
): Promise<void> {
  const first = rows[0]
  if (first === undefined) return
  const columns = Object.keys(first) as Array<keyof typeof first>
  const marks = `(${columns.map(() => '?').join(', ')})`
  const into = `insert into ${table} (${columns.join(', ')}) values `
  for (let at = 0; at < rows.length; at += ROWS_PER_STATEMENT) {
    // Strings, numbers and null are all that the tables' columns take.
    const part = rows.slice(at, at + ROWS_PER_STATEMENT).map((row) => columns.map((column) => row[column] as string | number | null))
    await db.executeQuery(dialect === 'mysql'
      ? CompiledQuery.raw(`${into}${part.map((values) => `(${values.map(literal).join()})`).join()} ${mysqlSet(conflict)}`)
      : CompiledQuery.raw(`${into}${part.map(() => marks).join()} ${sqliteSet(table, conflict)}`, part.flat()))
  }
}

function sqliteSet (table: string, { keys, update, newest }: OnConflict<string>): string {
  const set = update.map((column) => `${column} = excluded.${column}`).join(', ')
  const condition = newest === undefined ? '' : ` where excluded.${newest} >= ${table}.${newest}`
  return `on conflict (${keys.join(', ')}) do update set ${set}${condition}`
}

/** MySQL assigns from left to right and knows no condition: the column that decides comes last. */
function mysqlSet ({ update, newest }: OnConflict<string>): string {
  const last = [...update].sort((a, b) => Number(a === newest) - Number(b === newest))
  const set = last.map((column) => newest === undefined
    ? `${column} = values(${column})`
    : `${column} = if(values(${newest}) >= ${newest}, values(${column}), ${column})`)
  return `on duplicate key update ${set.join(', ')}`
}

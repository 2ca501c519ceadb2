import type { Kysely } from 'kysely'
import type { Tables } from './tables.js'

export type Database = Kysely<Tables>
/** Something that runs queries: a Kysely instance or a transaction of it, with any table types. */
export type Executor = Pick<Database, 'executeQuery'>
export type Dialect = 'mysql' | 'sqlite'

/**
 * The SQL dialect of a Kysely instance; null if it is not supported. Determined from a compiled statement, because minified
 * hosts have no class names, and `instanceof` fails for a host's own copy of Kysely.
 */
export function dialectOf (db: Kysely<unknown>): Dialect | null {
  const any = db.withoutPlugins() as Kysely<{ t: { c: number } }>
  const { sql } = any.selectFrom('t').selectAll().where('c', '=', 1).compile()
  if (!sql.endsWith('= ?')) return null
  return sql.includes('`t`') ? 'mysql' : 'sqlite'
}

/** A JSON column as text. Some drivers parse it. */
export const jsonText = (value: unknown): string => typeof value === 'string' ? value : JSON.stringify(value)

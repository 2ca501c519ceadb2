import type { Kysely } from 'kysely'
import type { Tables } from './tables.js'

export type Database = Kysely<Tables>
/** Something that runs queries: a Kysely instance or a transaction of it, whatever tables its owner knows. */
export type Executor = Pick<Database, 'executeQuery'>
export type Dialect = 'mysql' | 'sqlite'

/**
 * Which SQL a Kysely instance speaks. By the adapter's name, not by `instanceof`: a host may bring its own copy of Kysely.
 * Null for a dialect that the suite does not know.
 */
export function dialectOf (db: Database): Dialect | null {
  const name = db.getExecutor().adapter.constructor.name.toLowerCase()
  if (name.includes('mysql')) return 'mysql'
  return name.includes('sqlite') ? 'sqlite' : null
}

/** A JSON column as text, whichever way the driver hands it out. */
export const jsonText = (value: unknown): string => typeof value === 'string' ? value : JSON.stringify(value)

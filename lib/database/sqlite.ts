import { mkdirSync } from 'node:fs'
import { dirname } from 'node:path'
import Libsql from 'libsql'
import type { SqliteDatabase, SqliteStatement } from 'kysely'
import { BoundedMap } from '../async/bounded-map.js'

/** Prepared statements that are kept. */
const MAX_PREPARED = 200
/** Short, because SQLite blocks the whole process while it waits for another process's lock: callers retry instead. */
const BUSY_TIMEOUT_MS = 100

/** Opens an SQLite file, or `:memory:`, for Kysely. */
export function openSqlite (path: string): SqliteDatabase {
  if (path !== ':memory:') mkdirSync(dirname(path), { recursive: true })
  const file = new Libsql(path)
  // A second process may be doing the same.
  file.exec('pragma busy_timeout = 5000')
  // A write-ahead log synced at each commit: an acked event survives a power cut, and readers never block the writer.
  file.exec('pragma journal_mode = wal')
  file.exec('pragma synchronous = full')
  file.exec(`pragma busy_timeout = ${BUSY_TIMEOUT_MS}`)
  const prepared = new BoundedMap<string, SqliteStatement>(MAX_PREPARED)
  return {
    close: () => { file.close() },
    // The same few statements run again and again, and preparing one costs more than running it.
    prepare: (text) => {
      const known = prepared.get(text)
      if (known !== undefined) return known
      // A transaction that reads first and then writes fails where another process wrote in between.
      const statement = file.prepare(text === 'begin' ? 'begin immediate' : text) as unknown as SqliteStatement
      prepared.set(text, statement)
      return statement
    }
  }
}

import { mkdirSync } from 'node:fs'
import { dirname } from 'node:path'
import Libsql from 'libsql'
import type { SqliteDatabase, SqliteStatement } from 'kysely'

/** Statements kept ready. */
const MAX_PREPARED = 200
/** Milliseconds. The whole process stands still while SQLite waits for another one's lock: callers try again instead. */
const BUSY_TIMEOUT = 100

/** Opens an SQLite file, or `:memory:`, for Kysely. */
export function openSqlite (path: string): SqliteDatabase {
  if (path !== ':memory:') mkdirSync(dirname(path), { recursive: true })
  const file = new Libsql(path)
  // A second process may be doing the same.
  file.exec('pragma busy_timeout = 5000')
  // A write-ahead log synced at each commit: an acked event survives a power cut, and readers never block the writer.
  file.exec('pragma journal_mode = wal')
  file.exec('pragma synchronous = full')
  file.exec(`pragma busy_timeout = ${BUSY_TIMEOUT}`)
  const prepared = new Map<string, SqliteStatement>()
  return {
    close: () => { file.close() },
    // The suite says the same few things again and again: preparing them cost more than running them.
    prepare: (text) => {
      const known = prepared.get(text)
      if (known !== undefined) return known
      // A transaction that reads first and then writes fails where another process wrote in between.
      const statement = file.prepare(text === 'begin' ? 'begin immediate' : text) as unknown as SqliteStatement
      prepared.set(text, statement)
      if (prepared.size > MAX_PREPARED) {
        const oldest = prepared.keys().next()
        if (oldest.done !== true) prepared.delete(oldest.value)
      }
      return statement
    }
  }
}

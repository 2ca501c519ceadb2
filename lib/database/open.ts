import { mkdirSync } from 'node:fs'
import { dirname } from 'node:path'
import Libsql from 'libsql'
import { Kysely, MysqlDialect, SqliteDialect, type SqliteDatabase, type SqliteStatement } from 'kysely'
import { createPool, format } from 'mysql2'
import { OptionError } from '../errors.js'
import { dialectOf, type Database, type Dialect, type Executor } from './dialect.js'
import type { Tables } from './tables.js'

export interface OpenDatabase {
  db: Database
  dialect: Dialect
  /** Has every connection that is opened from now on looked at before it is used; none of a host's instance is seen. */
  onConnection (look: (connection: Executor) => Promise<void>): void
  /** Closes what was opened here; does nothing for an instance of the host's. */
  close (): Promise<void>
}

/** Statements of one node at a time: the log's single writer, write-behind, sweeps and reads. */
const POOL_SIZE = 10
/** SQLite statements kept ready. */
const MAX_PREPARED = 200

/**
 * A Kysely instance from the `database` option: the host's own as it is, or one opened for a URL
 * (`mysql://…`, `sqlite:path`, `sqlite::memory:`). Throws {@link OptionError}.
 */
export function openDatabase (database: unknown): OpenDatabase {
  if (typeof database === 'string') return openUrl(database)
  if (typeof database !== 'object' || database === null || !('selectFrom' in database)) {
    throw new OptionError('database', 'must be a Kysely instance or a URL: mysql://…, sqlite:path, sqlite::memory:')
  }
  const db = database as Database
  const dialect = dialectOf(db)
  if (dialect === null) throw new OptionError('database', 'must speak MySQL, MariaDB or SQLite')
  return { db, dialect, onConnection: () => {}, close: async () => {} }
}

function openUrl (url: string): OpenDatabase {
  if (/^(mysql|mariadb):\/\//.test(url)) {
    const pool = createPool({
      uri: url.replace(/^mariadb:/, 'mysql:'),
      timezone: 'Z',
      dateStrings: true,
      supportBigNumbers: true,
      connectionLimit: POOL_SIZE,
      maxPreparedStatements: 1, // none are prepared, and mysql2 sets room for 16,000 aside in each connection: half a megabyte
      queryFormat: fillIn,
      connectTimeout: 5000,
      enableKeepAlive: true
    })
    let opened = async (_connection: Executor): Promise<void> => {}
    const db = new Kysely<Tables>({ dialect: new MysqlDialect({ pool, onCreateConnection: async (connection) => { await opened(connection) } }) })
    return { db, dialect: 'mysql', onConnection: (look) => { opened = look }, close: async () => await db.destroy() }
  }
  if (url.startsWith('sqlite:') && url.length > 'sqlite:'.length) {
    const db = new Kysely<Tables>({ dialect: new SqliteDialect({ database: openSqlite(url.slice('sqlite:'.length)) }) })
    return { db, dialect: 'sqlite', onConnection: () => {}, close: async () => await db.destroy() }
  }
  throw new OptionError('database', 'must be a URL of the form mysql://…, sqlite:path or sqlite::memory:')
}

/** A bulk insert holds its values already: looking through all of it for marks cost as much as escaping them had. */
const fillIn = (text: string, values: Parameters<typeof format>[1]): string =>
  Array.isArray(values) && values.length === 0 ? text : format(text, values, false, 'Z')

function openSqlite (path: string): SqliteDatabase {
  if (path !== ':memory:') mkdirSync(dirname(path), { recursive: true })
  const file = new Libsql(path)
  // A write-ahead log synced at each commit: an acked event survives a power cut, and readers never block the writer.
  file.exec('pragma journal_mode = wal')
  file.exec('pragma synchronous = full')
  file.exec('pragma busy_timeout = 5000')
  const prepared = new Map<string, SqliteStatement>()
  return {
    close: () => { file.close() },
    // The suite says the same few things again and again: preparing them cost more than running them.
    prepare: (text) => {
      const known = prepared.get(text)
      if (known !== undefined) return known
      const statement = file.prepare(text) as unknown as SqliteStatement
      prepared.set(text, statement)
      if (prepared.size > MAX_PREPARED) {
        const oldest = prepared.keys().next()
        if (oldest.done !== true) prepared.delete(oldest.value)
      }
      return statement
    }
  }
}

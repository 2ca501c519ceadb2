import {
  Kysely, MysqlAdapter, MysqlDialect, MysqlIntrospector, MysqlQueryCompiler, SqliteAdapter, SqliteDialect, SqliteIntrospector,
  SqliteQueryCompiler, type Dialect as KyselyDialect, type DialectAdapter
} from 'kysely'
import { OptionError } from '../errors.js'
import { dialectOf, type Database, type Dialect } from './dialect.js'
import { HostConnections } from './host-connections.js'
import { MysqlConnections } from './mysql-pool.js'
import { openSqlite } from './sqlite.js'
import type { Tables } from './tables.js'

/** `HostTables`: the host's own tables in the same database, for its own queries on `db`. */
export interface OpenDatabase<HostTables = unknown> {
  db: Kysely<Tables & HostTables>
  dialect: Dialect
  /**
   * The same database with a time limit per statement, in milliseconds. A statement that exceeds it also closes its connection,
   * unless the host opened the database.
   */
  within (limit: number): Database
  /** Replaces the connections that were opened here: new ones look up the server's name again. */
  discard (): void
  /** Closes connections that were opened here; does nothing for a host's instance. */
  close (): Promise<void>
  /** The host's own instance; null if the database was opened here. */
  host: Kysely<unknown> | null
}

/** An adapter carries its opened database under this name, also in Kysely instances derived from it. */
const OPENED = Symbol('fastify-realtime.opened')

/**
 * Opens the database of the `database` option: a URL (`mysql://…`, `sqlite:path`, `sqlite::memory:`), or a Kysely instance,
 * whose connections are then shared. Throws {@link OptionError}. With `openDatabase<MyTables>(url)` the host's own tables are
 * typed too.
 */
export function openDatabase<HostTables = unknown> (database: unknown): OpenDatabase<HostTables> {
  return open(database) as OpenDatabase<HostTables>
}

function open (database: unknown): OpenDatabase {
  if (typeof database === 'string') return openUrl(database)
  if (typeof database !== 'object' || database === null || !('selectFrom' in database) || !('getExecutor' in database)) {
    throw new OptionError('database', 'must be a Kysely instance or a URL: mysql://…, sqlite:path, sqlite::memory:')
  }
  const host = database as Kysely<unknown>
  const { adapter } = host.getExecutor()
  if (OPENED in adapter) return { ...adapter[OPENED] as OpenDatabase, close: async () => {} }
  const dialect = dialectOf(host)
  if (dialect === null) throw new OptionError('database', 'must speak MySQL, MariaDB or SQLite')
  return openHost(host, dialect)
}

function openHost (host: Kysely<unknown>, dialect: Dialect): OpenDatabase {
  const over = (limit: number | null): Database => new Kysely<Tables>({
    dialect: marked({
      createAdapter: () => dialect === 'mysql' ? new MysqlAdapter() : new SqliteAdapter(),
      createQueryCompiler: () => dialect === 'mysql' ? new MysqlQueryCompiler() : new SqliteQueryCompiler(),
      createIntrospector: (db) => dialect === 'mysql' ? new MysqlIntrospector(db) : new SqliteIntrospector(db),
      createDriver: () => new HostConnections(host, dialect, limit)
    }, () => opened)
  })
  const opened: OpenDatabase = { db: over(null), dialect, within: over, discard: () => {}, close: async () => {}, host }
  return opened
}

function openUrl (url: string): OpenDatabase {
  if (/^(mysql|mariadb):\/\//.test(url)) {
    const connections = new MysqlConnections(url)
    const over = (limit: number | null): Database => new Kysely<Tables>({ dialect: marked(new MysqlDialect({ pool: connections.pool(limit) }), () => opened) })
    const opened: OpenDatabase = {
      db: over(null), dialect: 'mysql', within: over, discard: () => { connections.discard() }, close: async () => { await connections.end() }, host: null
    }
    return opened
  }
  if (url.startsWith('sqlite:') && url.length > 'sqlite:'.length) {
    const db = new Kysely<Tables>({ dialect: marked(new SqliteDialect({ database: openSqlite(url.slice('sqlite:'.length)) }), () => opened) })
    // SQLite runs statements synchronously: there is no time limit, and no connection to replace.
    const opened: OpenDatabase = { db, dialect: 'sqlite', within: () => db, discard: () => {}, close: async () => { await db.destroy() }, host: null }
    return opened
  }
  throw new OptionError('database', 'must be a URL of the form mysql://…, sqlite:path or sqlite::memory:')
}

/** The dialect, with an adapter that carries its {@link OpenDatabase}. */
function marked (dialect: KyselyDialect, opened: () => OpenDatabase): KyselyDialect {
  return {
    createDriver: () => dialect.createDriver(),
    createQueryCompiler: () => dialect.createQueryCompiler(),
    createIntrospector: (db) => dialect.createIntrospector(db),
    createAdapter: (): DialectAdapter => Object.defineProperty(dialect.createAdapter(), OPENED, { get: opened })
  }
}

import { Kysely, MysqlAdapter, MysqlIntrospector, MysqlQueryCompiler, SqliteAdapter, SqliteIntrospector, SqliteQueryCompiler, type CompiledQuery, type DatabaseConnection } from 'kysely'
import type { OpenDatabase } from '../plugins/index.js'

/**
 * A Kysely instance whose process dies after so many statements, of which `counts` says which are counted: none is carried
 * out from then on, not even a rollback.
 */
export function cutAfter ({ db, dialect }: OpenDatabase, statements: number, counts = (_text: string) => true): { db: Kysely<unknown>, cut: () => boolean } {
  let count = 0
  let isCut = false
  const mysql = dialect === 'mysql'
  const wrapped = (connection: DatabaseConnection): DatabaseConnection => ({
    executeQuery: async (query: CompiledQuery) => {
      if (count >= statements) {
        isCut = true
        throw new Error('the process was killed')
      }
      if (counts(query.sql)) count++
      return await connection.executeQuery(query)
    },
    streamQuery: () => { throw new Error('nothing is streamed') }
  })
  const released = new WeakMap<DatabaseConnection, () => void>()
  const cut = new Kysely<unknown>({
    dialect: {
      createAdapter: () => mysql ? new MysqlAdapter() : new SqliteAdapter(),
      createQueryCompiler: () => mysql ? new MysqlQueryCompiler() : new SqliteQueryCompiler(),
      createIntrospector: (db) => mysql ? new MysqlIntrospector(db) : new SqliteIntrospector(db),
      createDriver: () => ({
        init: async () => {},
        acquireConnection: async () => await new Promise((resolve, reject) => {
          db.getExecutor().provideConnection(async (connection) => {
            const one = wrapped(connection)
            const free = new Promise<void>((resolve) => { released.set(one, resolve) })
            resolve(one)
            await free
          }).catch(reject)
        }),
        beginTransaction: async (connection) => { await connection.executeQuery({ sql: 'begin', parameters: [], query: {} } as unknown as CompiledQuery) },
        commitTransaction: async (connection) => { await connection.executeQuery({ sql: 'commit', parameters: [], query: {} } as unknown as CompiledQuery) },
        rollbackTransaction: async (connection) => { await connection.executeQuery({ sql: 'rollback', parameters: [], query: {} } as unknown as CompiledQuery) },
        releaseConnection: async (connection) => { released.get(connection)?.() },
        destroy: async () => {}
      })
    }
  })
  return { db: cut, cut: () => isCut }
}

import type { Executor } from '../database/dialect.js'

/** A connection of any version of Kysely: all statements of a transaction are executed through it, including commit and rollback. */
interface Connection {
  executeQuery (query: { readonly sql: string }, ...rest: unknown[]): Promise<unknown>
}

/** The ids of the events of a transaction. */
export type Inserted = Set<number>

/**
 * Notices when transactions of the host are committed, by listening to the statements of their connections instead of polling
 * the database.
 */
export class Commits {
  readonly #inserted = new WeakMap<Connection, Inserted>()
  readonly #committed: (inserted: Inserted) => void

  /** `committed` is called right after a commit, and never after a rollback; also with events that were rolled back to a savepoint. */
  constructor (committed: (inserted: Inserted) => void) {
    this.#committed = committed
  }

  /** To be called after an insert in a transaction. Does nothing if the connection of the transaction is not accessible. */
  async watch (transaction: Executor, id: number): Promise<void> {
    const connection = await connectionOf(transaction)
    if (connection === null) return
    const known = this.#inserted.get(connection)
    if (known !== undefined) {
      known.add(id)
      return
    }
    this.#inserted.set(connection, new Set([id]))
    this.#listen(connection)
  }

  #listen (connection: Connection): void {
    const { executeQuery } = connection
    const isOwn = Object.hasOwn(connection, 'executeQuery')
    const listening = async (...args: Parameters<Connection['executeQuery']>): Promise<unknown> => {
      const [{ sql }] = args
      const commits = /^\s*commit\b/i.test(sql)
      if (!commits && !/^\s*rollback\b(?!\s+(work\s+)?to\b)/i.test(sql)) return await executeQuery.apply(connection, args)
      const inserted = this.#inserted.get(connection)
      this.#inserted.delete(connection)
      if (connection.executeQuery === listening) {
        if (isOwn) connection.executeQuery = executeQuery
        else delete (connection as Partial<Connection>).executeQuery
      }
      const result = await executeQuery.apply(connection, args)
      if (commits && inserted !== undefined) this.#committed(inserted)
      return result
    }
    connection.executeQuery = listening
  }
}

interface WithExecutor {
  getExecutor (): { provideConnection (use: (connection: Connection) => Promise<Connection>): Promise<Connection> }
}

/** Null if it is not a transaction of Kysely. */
async function connectionOf (transaction: Executor): Promise<Connection | null> {
  const executor = (transaction as Partial<WithExecutor>).getExecutor?.()
  if (typeof executor?.provideConnection !== 'function') return null
  return await executor.provideConnection(async (connection) => connection)
}

import type { Executor } from '../database/dialect.js'

/** A connection of Kysely's, of any version: every statement of a transaction goes through it, the last one too. */
interface Connection {
  executeQuery (query: { readonly sql: string }, ...rest: unknown[]): Promise<unknown>
}

/** What was inserted by a transaction, by id: what to call once it is handed on. */
export type Inserted = Map<number, (() => void) | undefined>

/**
 * Finds out when transactions of the host's are committed, without asking the database again and again: while one is
 * watched, the statements of its connection are listened to.
 */
export class Commits {
  readonly #inserted = new WeakMap<Connection, Inserted>()
  readonly #committed: (inserted: Inserted) => void

  /** `committed` is called right after a commit, and never after a rollback. What a savepoint took back is still named. */
  constructor (committed: (inserted: Inserted) => void) {
    this.#committed = committed
  }

  /** A row was inserted by a transaction. Does nothing for a transaction that does not show its connection. */
  async watch (transaction: Executor, id: number, handed: (() => void) | undefined): Promise<void> {
    const connection = await connectionOf(transaction)
    if (connection === null) return
    const known = this.#inserted.get(connection)
    // An id that a savepoint gave back may be given again, and then is the newer row's.
    if (known !== undefined) {
      known.set(id, handed)
      return
    }
    this.#inserted.set(connection, new Map([[id, handed]]))
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

/** Null for a transaction of something that only looks like Kysely. */
async function connectionOf (transaction: Executor): Promise<Connection | null> {
  const executor = (transaction as Partial<WithExecutor>).getExecutor?.()
  if (typeof executor?.provideConnection !== 'function') return null
  return await executor.provideConnection(async (connection) => connection)
}

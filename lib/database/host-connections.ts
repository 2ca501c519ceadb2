import {
  CompiledQuery, type DatabaseConnection, type Driver, type Kysely, type QueryResult
} from 'kysely'
import type { Dialect, Executor } from './dialect.js'
import { DatabaseTimeout, nothingSent, withoutValues } from './failures.js'

/**
 * Runs statements of fastify-realtime on the connections of a host's own Kysely instance. They are compiled here, so that
 * Kysely plugins of the host, which rename columns or change results, and other versions of Kysely have no effect.
 *
 * A statement that takes longer than `limit` milliseconds is abandoned. Its connection belongs to the host and cannot be closed
 * here: it stays reserved for the statement until the host's driver responds.
 */
export class HostConnections implements Driver {
  readonly #host: Kysely<unknown>
  readonly #dialect: Dialect
  readonly #limit: number | null

  constructor (host: Kysely<unknown>, dialect: Dialect, limit: number | null) {
    this.#host = host.withoutPlugins()
    this.#dialect = dialect
    this.#limit = limit
  }

  async init (): Promise<void> {}

  async acquireConnection (): Promise<DatabaseConnection> {
    return await new Promise<DatabaseConnection>((resolve, reject) => {
      const timer = after(this.#limit, () => { reject(nothingSent(new DatabaseTimeout(`no connection to the database within ${this.#limit} ms`))) })
      this.#host.connection().execute(async (executor) => {
        clearTimeout(timer)
        const connection = new HostConnection(executor, this.#limit)
        resolve(connection)
        await connection.released
      }).catch((err: unknown) => {
        clearTimeout(timer)
        reject(err instanceof Error ? nothingSent(err) : new Error('no connection to the database', { cause: err }))
      })
    })
  }

  async beginTransaction (connection: DatabaseConnection): Promise<void> {
    // In SQLite, a transaction that reads and then writes fails if another process wrote in between.
    await connection.executeQuery(CompiledQuery.raw(this.#dialect === 'sqlite' ? 'begin immediate' : 'begin'))
  }

  async commitTransaction (connection: DatabaseConnection): Promise<void> {
    await connection.executeQuery(CompiledQuery.raw('commit'))
  }

  async rollbackTransaction (connection: DatabaseConnection): Promise<void> {
    await connection.executeQuery(CompiledQuery.raw('rollback'))
  }

  async releaseConnection (connection: DatabaseConnection): Promise<void> {
    (connection as HostConnection).release()
  }

  /** Does nothing: the host closes what it opened. */
  async destroy (): Promise<void> {}
}

class HostConnection implements DatabaseConnection {
  readonly released: Promise<void>
  release: () => void = () => {}
  readonly #executor: Executor
  readonly #limit: number | null

  constructor (executor: Executor, limit: number | null) {
    this.#executor = executor
    this.#limit = limit
    const free = new Promise<void>((resolve) => { this.release = resolve })
    this.released = free.then(async () => { await this.#running })
  }

  /** Running statements, including abandoned ones. */
  #running: Promise<unknown> = Promise.resolve()

  async executeQuery<R> (query: CompiledQuery): Promise<QueryResult<R>> {
    const answer = this.#executor.executeQuery<R>(query)
    const settled = answer.then(() => {}, () => {})
    this.#running = settled
    let timer: NodeJS.Timeout | undefined
    try {
      return await new Promise<QueryResult<R>>((resolve, reject) => {
        timer = after(this.#limit, () => { reject(new DatabaseTimeout(`the database did not respond within ${this.#limit} ms`)) })
        answer.then(resolve, reject)
      })
    } catch (err) {
      throw this.#limit === null ? err : withoutValues(err)
    } finally {
      clearTimeout(timer)
    }
  }

  async * streamQuery<R> (): AsyncIterableIterator<QueryResult<R>> {
    throw new Error('streams are not supported on a host’s connections')
  }
}

const after = (limit: number | null, task: () => void): NodeJS.Timeout | undefined => limit === null ? undefined : setTimeout(task, limit)

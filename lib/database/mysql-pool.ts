import type { Socket } from 'node:net'
import type { MysqlPool, MysqlPoolConnection, MysqlQueryResult, MysqlStream, MysqlStreamOptions } from 'kysely'
import { createPool, format, type Pool, type PoolConnection } from 'mysql2'
import { breaksConnection, DatabaseTimeout, isReadOnly, nothingSent, withoutValues } from './failures.js'

/** Statements of one node at a time: the log's single writer, write-behind, sweeps and reads. */
const POOL_SIZE = 10
/** Milliseconds to connect, and to set up the session. */
const CONNECT_TIMEOUT = 3000
/** An idle connection whose peer vanished is noticed after this and ten more seconds. */
const KEEP_ALIVE_DELAY = 10_000
/** How long the pool may take to say goodbye before its sockets are destroyed. */
const END_TIMEOUT = 1000

/**
 * What the suite relies on, set on every connection: the server's defaults, and its `init_connect`, may say otherwise.
 * Locks are waited for shorter than `storageTimeout`, so that the server itself reports a statement that did not get one.
 */
const SESSION = [
  `set autocommit = 1, names utf8mb4, sql_mode = 'STRICT_TRANS_TABLES,STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', time_zone = '+00:00',
    completion_type = 0, sql_safe_updates = 0, sql_select_limit = 18446744073709551615, lock_wait_timeout = 2, innodb_lock_wait_timeout = 2`,
  'set session transaction isolation level repeatable read, read write'
]
/** Not every server knows these, or lets every user set them. */
const OPTIONAL_SESSION = 'set sql_big_selects = 1, sql_auto_is_null = 0, unique_checks = 1, wait_timeout = 28800'

type Callback<T> = (err: Error | null, value?: T) => void
type Answer = (err: unknown, result: MysqlQueryResult) => void

interface Known {
  /** Bytes of the largest statement that the server takes. */
  maxPacket: number
  leased: boolean
  /** Destroyed when it is released. */
  discarded: boolean
}

/**
 * The connections that the suite opens to MySQL or MariaDB. Handed to Kysely as pools that differ in how long a statement
 * may take. One that takes longer is given up together with its connection, as is a connection after an error that is
 * not the row's; the next statement gets a new one, for which the server's name is looked up again.
 */
export class MysqlConnections {
  readonly #pool: Pool
  readonly #known = new Map<PoolConnection, Known>()

  constructor (url: string) {
    this.#pool = createPool({
      uri: url.replace(/^mariadb:/, 'mysql:'),
      timezone: 'Z',
      dateStrings: true,
      supportBigNumbers: true,
      connectionLimit: POOL_SIZE,
      maxPreparedStatements: 1, // none are prepared, and mysql2 sets room for 16,000 aside in each connection: half a megabyte
      queryFormat: fillIn,
      connectTimeout: CONNECT_TIMEOUT,
      enableKeepAlive: true,
      keepAliveInitialDelay: KEEP_ALIVE_DELAY
    })
    // A connection may fail more than once; unheard, the second `error` would end the process.
    this.#pool.on('connection', (connection) => { connection.on('error', () => {}) })
  }

  /** A pool whose connections and statements may take `limit` milliseconds; null: as long as they like. */
  pool (limit: number | null): MysqlPool {
    const leases = new WeakMap<PoolConnection, Lease>()
    return {
      getConnection: (callback) => {
        this.#acquire(limit, (err, connection) => {
          if (connection === undefined) {
            callback(err, undefined as never)
            return
          }
          const known = this.#known.get(connection) as Known
          known.leased = true
          const lease = leases.get(connection) ?? new Lease(this, connection, known, limit)
          leases.set(connection, lease)
          callback(null, lease)
        })
      },
      end: (callback) => { this.end().then(() => { callback(null) }, callback) }
    }
  }

  /** Replaces every connection: those in use as soon as they are released. */
  discard (): void {
    for (const [connection, known] of this.#known) {
      known.discarded = true
      if (!known.leased) this.destroy(connection)
    }
  }

  destroy (connection: PoolConnection): void {
    this.#known.delete(connection)
    connection.destroy()
    // Ended politely, a socket whose peer does not answer would stay.
    streamOf(connection).destroy()
  }

  release (connection: PoolConnection, known: Known): void {
    known.leased = false
    if (known.discarded) this.destroy(connection)
    else connection.release()
  }

  async end (): Promise<void> {
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, END_TIMEOUT)
      this.#pool.end(() => {
        clearTimeout(timer)
        resolve()
      })
    })
    for (const connection of this.#known.keys()) streamOf(connection).destroy()
    this.#known.clear()
  }

  #acquire (limit: number | null, callback: Callback<PoolConnection>): void {
    let waiting = true
    const settle: Callback<PoolConnection> = (err, connection) => {
      clearTimeout(timer)
      if (waiting) callback(err === null ? null : nothingSent(err), connection)
      else connection?.release()
      waiting = false
    }
    const timer = limit === null ? undefined : setTimeout(() => { settle(new DatabaseTimeout(`no connection to the database within ${limit} ms`)) }, limit)
    const next = (): void => {
      this.#pool.getConnection((err, connection) => {
        if (err !== null) {
          settle(err)
          return
        }
        const known = this.#known.get(connection)
        if (known === undefined) this.#setUp(connection, settle)
        else if (known.discarded) {
          this.destroy(connection)
          next()
        } else settle(null, connection)
      })
    }
    next()
  }

  #setUp (connection: PoolConnection, callback: Callback<PoolConnection>): void {
    const fail = (err: Error): void => {
      clearTimeout(timer)
      this.destroy(connection)
      callback(err)
    }
    const timer = setTimeout(() => { fail(new DatabaseTimeout('the database does not set up a session')) }, CONNECT_TIMEOUT)
    const steps = [...SESSION]
    const next = (): void => {
      const step = steps.shift()
      if (step !== undefined) {
        connection.query(step, (err) => { if (err === null) next(); else fail(err) })
        return
      }
      connection.query(OPTIONAL_SESSION, () => {
        connection.query('select @@max_allowed_packet as size', (err, rows) => {
          if (err !== null) {
            fail(err)
            return
          }
          clearTimeout(timer)
          const [row] = rows as Array<{ size: number | string }>
          this.#known.set(connection, { maxPacket: Number(row?.size), leased: false, discarded: false })
          streamOf(connection).once('close', () => { this.#known.delete(connection) })
          callback(null, connection)
        })
      })
    }
    next()
  }
}

/** A connection as Kysely has it for a while. */
class Lease implements MysqlPoolConnection {
  readonly #connections: MysqlConnections
  readonly #connection: PoolConnection
  readonly #known: Known
  readonly #limit: number | null

  constructor (connections: MysqlConnections, connection: PoolConnection, known: Known, limit: number | null) {
    this.#connections = connections
    this.#connection = connection
    this.#known = known
    this.#limit = limit
  }

  query (text: string, parameters: unknown[]): { stream: <T>(options: MysqlStreamOptions) => MysqlStream<T> }
  query (text: string, parameters: unknown[], callback: Answer): void
  query (text: string, parameters: unknown[], callback?: Answer): unknown {
    if (callback === undefined) return this.#connection.query(text, parameters)
    // The server would close the connection, often before its answer can be read.
    if (text.length >= this.#known.maxPacket / 4 && Buffer.byteLength(text) >= this.#known.maxPacket) {
      return callback(nothingSent(packetTooLarge()), [])
    }
    let open = true
    const limit = this.#limit
    const timer = limit === null ? undefined : setTimeout(() => {
      open = false
      this.#known.discarded = true
      this.#connections.destroy(this.#connection)
      callback(new DatabaseTimeout(`the database does not answer within ${limit} ms`), [])
    }, limit)
    this.#connection.query(text, parameters, (err, result) => {
      if (!open) return
      clearTimeout(timer)
      if (err !== null) this.#failed(err)
      callback(err, result as unknown as MysqlQueryResult)
    })
  }

  release (): void {
    this.#connections.release(this.#connection, this.#known)
  }

  #failed (err: Error): void {
    // The host's own statements keep theirs: they help its developers.
    if (this.#limit !== null) withoutValues(err)
    if (breaksConnection(err)) this.#known.discarded = true
    // The others reach the same server.
    if (isReadOnly(err)) this.#connections.discard()
  }
}

const streamOf = (connection: PoolConnection): Socket => (connection as unknown as { stream: Socket }).stream

const packetTooLarge = (): Error => Object.assign(new Error('the statement is larger than max_allowed_packet'),
  { code: 'ER_NET_PACKET_TOO_LARGE', errno: 1153, sqlState: '08S01' })

/** A bulk insert holds its values already: looking through all of it for marks cost as much as escaping them had. */
const fillIn = (text: string, values: Parameters<typeof format>[1]): string =>
  Array.isArray(values) && values.length === 0 ? text : format(text, values, false, 'Z')

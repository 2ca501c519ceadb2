import type { Socket } from 'node:net'
import type { MysqlPool, MysqlPoolConnection, MysqlQueryResult, MysqlStream, MysqlStreamOptions } from 'kysely'
import { createPool, format, type Pool, type PoolConnection } from 'mysql2'
import { breaksConnection, DatabaseTimeout, isReadOnly, nothingSent, withoutValues } from './failures.js'

/** Statements of one node at a time: the log's single writer, write-behind, sweeps and reads. */
const POOL_SIZE = 10
/** Milliseconds to connect, and to set up the session. */
const CONNECT_TIMEOUT = 3000
/** Idle time after which a connection whose peer has vanished is detected, within ten more seconds. */
const KEEP_ALIVE_DELAY = 10_000
/** Time for the pool to close its connections before their sockets are destroyed. */
const END_TIMEOUT = 1000

/**
 * Session settings that the statements rely on. They are set on every connection, because the server's defaults and its
 * `init_connect` may differ. The lock timeout is shorter than `storageTimeout`, so that the server itself reports a statement
 * that did not get its lock.
 */
const SESSION = [
  `set autocommit = 1, names utf8mb4, sql_mode = 'STRICT_TRANS_TABLES,STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', time_zone = '+00:00',
    completion_type = 0, sql_safe_updates = 0, sql_select_limit = 18446744073709551615, lock_wait_timeout = 2, innodb_lock_wait_timeout = 2`,
  'set session transaction isolation level repeatable read, read write'
]
/** Settings that some servers do not have, or do not let every user set. */
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
 * The connections that fastify-realtime opens to MySQL or MariaDB. Kysely gets pools with different time limits per statement.
 * A statement that exceeds its limit is abandoned together with its connection. A connection is also closed after an error
 * that is not caused by a row. The next statement opens a new connection, and resolves the server's name again.
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
      maxPreparedStatements: 1, // no statement is prepared, and mysql2 reserves space for 16,000 in each connection: half a megabyte
      queryFormat: fillIn,
      connectTimeout: CONNECT_TIMEOUT,
      enableKeepAlive: true,
      keepAliveInitialDelay: KEEP_ALIVE_DELAY
    })
    // A connection may fail more than once: without a listener, the second `error` event would end the process.
    this.#pool.on('connection', (connection) => { connection.on('error', () => {}) })
  }

  /** A pool whose connections and statements may take `limit` milliseconds; null: no limit. */
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
    // `end` would keep a socket whose peer does not respond.
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

/** A connection while Kysely uses it. */
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
    // The server would close the connection, often before its error can be read.
    if (text.length >= this.#known.maxPacket / 4 && Buffer.byteLength(text) >= this.#known.maxPacket) {
      return callback(nothingSent(packetTooLarge()), [])
    }
    let open = true
    const limit = this.#limit
    const timer = limit === null ? undefined : setTimeout(() => {
      open = false
      this.#known.discarded = true
      this.#connections.destroy(this.#connection)
      callback(new DatabaseTimeout(`the database did not respond within ${limit} ms`), [])
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
    // Errors of the host's own statements keep their values, which help its developers.
    if (this.#limit !== null) withoutValues(err)
    if (breaksConnection(err)) this.#known.discarded = true
    // The other connections lead to the same server.
    if (isReadOnly(err)) this.#connections.discard()
  }
}

const streamOf = (connection: PoolConnection): Socket => (connection as unknown as { stream: Socket }).stream

const packetTooLarge = (): Error => Object.assign(new Error('the statement is larger than max_allowed_packet'),
  { code: 'ER_NET_PACKET_TOO_LARGE', errno: 1153, sqlState: '08S01' })

/** A bulk insert contains its values already: searching it for placeholders would cost as much as escaping the values. */
const fillIn = (text: string, values: Parameters<typeof format>[1]): string =>
  Array.isArray(values) && values.length === 0 ? text : format(text, values, false, 'Z')

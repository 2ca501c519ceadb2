import type { FastifyBaseLogger } from 'fastify'
import type { Database, Dialect } from './database/dialect.js'
import { examine, type DatabaseFacts } from './database/examine.js'
import { requireStoredKind } from './database/id-columns.js'
import { readMeta, type DatabaseMeta } from './database/meta.js'
import { migrate, missingMigrations } from './database/migrator.js'
import { freshSockets } from './database/older-nodes.js'
import { openDatabase, type OpenDatabase } from './database/open.js'
import { OptionError } from './errors.js'
import { connectRedis, type RedisConnections } from './redis/connect.js'
import { livingLeases } from './redis/older-nodes.js'
import type { CoreSettings, RealtimeOptions } from './settings.js'

/** The database, as the plugins' stores use it. */
export interface StorageAccess {
  /** Statements that take longer than `storageTimeout` fail. */
  readonly db: Database
  /** For statements that may take longer: counts of large tables, purges. */
  readonly slow: Database
  readonly dialect: Dialect
  /** Buffers of rows that are written later; drained before a user is erased. */
  readonly behind: Array<{ drain (): Promise<void> }>
  /** Runs a statement that a client waits for. Rejects with `RT_STORAGE_UNAVAILABLE` if the database fails. */
  ask<T> (statement: () => Promise<T>): Promise<T>
}

/** The resources of the core: a database with up-to-date tables, and Redis, or null for a single node. */
export interface Resources {
  readonly database: OpenDatabase
  readonly facts: DatabaseFacts
  readonly meta: DatabaseMeta
  readonly redis: RedisConnections | null
  /** Closes connections that were opened here; the host's instances stay open. */
  close (): Promise<void>
}

/**
 * Opens database and Redis, and brings the tables up to date. Throws an {@link OptionError} that names the problem; then nothing
 * stays open.
 */
export async function openResources (options: RealtimeOptions, settings: CoreSettings, log: FastifyBaseLogger): Promise<Resources> {
  const database = openDatabase(options.database)
  let redis: RedisConnections | null = null
  const close = async (): Promise<void> => {
    redis?.close()
    await database.close()
  }
  try {
    const { facts, meta } = await prepareDatabase(database, settings, options.redis, log)
    if (options.redis !== undefined) redis = await connectRedis(options.redis, `${settings.keyPrefix}:${meta.identity}`, log)
    return { database, facts, meta, redis, close }
  } catch (err) {
    await close()
    throw err
  }
}

/** Brings the tables up to date, and reads the properties of the database. */
async function prepareDatabase (
  database: OpenDatabase, settings: CoreSettings, redis: unknown, log: FastifyBaseLogger
): Promise<{ facts: DatabaseFacts, meta: DatabaseMeta }> {
  const olderNode = async (): Promise<string | null> =>
    redis === undefined ? await freshSockets(database) : await livingLeases(redis, settings.keyPrefix, log)
  try {
    const missing = await missingMigrations(database)
    if (missing.length > 0 && !settings.migrate) {
      throw new OptionError('database', `lacks the migrations ${missing.join(', ')}: run npx fastify-realtime migrate, or set migrate to true`)
    }
    if (missing.length > 0) await migrate(database.db, 'up', { olderNode, ids: settings.ids })
    const meta = await readMeta(database.db)
    requireStoredKind(settings.ids, meta.ids)
    return { facts: await examine(database), meta }
  } catch (err) {
    throw err instanceof OptionError ? err : new OptionError('database', `cannot be used: ${messageOf(err)}`, err)
  }
}

const messageOf = (err: unknown): string => err instanceof Error ? err.message : String(err)

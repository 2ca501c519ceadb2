import { Migrator, type Migration } from 'kysely'
import * as initial from '../../migrations/001-initial.js'
import * as eventsByStatus from '../../migrations/002-events-by-status.js'
import * as meta from '../../migrations/003-meta.js'
import * as access from '../../migrations/004-access.js'
import type { Database } from './dialect.js'

const migrations: Record<string, Migration> = { '001-initial': initial, '002-events-by-status': eventsByStatus, '003-meta': meta, '004-access': access }

/**
 * Brings the tables up to date, or takes the last migration back. Safe to run from several nodes at once: Kysely holds
 * a lock in the database. Its two bookkeeping tables have names of their own, apart from a host's migrations.
 */
export async function migrate (db: Database, direction: 'up' | 'down' = 'up'): Promise<string[]> {
  const migrator = new Migrator({
    db,
    provider: { getMigrations: async () => migrations },
    migrationTableName: 'websocket_migrations',
    migrationLockTableName: 'websocket_migrations_lock'
  })
  const { error, results } = direction === 'up' ? await migrator.migrateToLatest() : await migrator.migrateDown()
  if (error !== undefined) throw error instanceof Error ? error : new Error('the migration failed', { cause: error })
  return (results ?? []).map((result) => result.migrationName)
}

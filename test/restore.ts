import { sql } from 'kysely'
import { dialectOf, type Database } from '../lib/database/dialect.js'

const TABLES = ['websocket_events', 'websocket_channel_floors', 'websocket_meta'] as const

/** A copy of the log as it is now. */
export interface Backup {
  /** Puts the copy in the place of the log; the next id is the one after the copy's newest, as after a restored dump. */
  restore (tables?: ReadonlyArray<typeof TABLES[number]>): Promise<void>
}

let serial = 0

/** Copies the rows of the log, as a dump would. */
export async function backUp (db: Database): Promise<Backup> {
  const suffix = `_backup${++serial}`
  for (const table of TABLES) await sql`create table ${sql.table(table + suffix)} as select * from ${sql.table(table)}`.execute(db)
  return {
    restore: async (tables = TABLES) => {
      for (const table of tables) {
        await sql`delete from ${sql.table(table)}`.execute(db)
        await sql`insert into ${sql.table(table)} select * from ${sql.table(table + suffix)}`.execute(db)
      }
      await resetIds(db)
    }
  }
}

/** The next id follows the newest row, as after a restart of a server that does not keep its counter. */
export async function resetIds (db: Database): Promise<void> {
  // InnoDB takes the next free number where the one asked for is too small.
  await (dialectOf(db) === 'sqlite'
    ? sql`update sqlite_sequence set seq = (select coalesce(max(id), 0) from websocket_events) where name = 'websocket_events'`
    : sql`alter table websocket_events auto_increment = 1`).execute(db)
}

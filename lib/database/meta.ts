import type { Database } from './dialect.js'

/** Facts about one database, kept with its tables (migrations/003-meta.ts). */
export interface DatabaseMeta {
  /** Random name of this database: part of every Redis key and topic. */
  identity: string
  /** Random name of the event log, part of every cursor; replaced when the log went back. */
  epoch: string
}

/** Reads the facts of this database. Rejects while the tables are missing. */
export async function readMeta (db: Database): Promise<DatabaseMeta> {
  const rows = await db.selectFrom('websocket_meta').selectAll().execute()
  const valueOf = (name: keyof DatabaseMeta): string => {
    const row = rows.find((row) => row.name === name)
    if (row === undefined) throw new Error(`websocket_meta has no row named ${name}: run npx fastify-realtime migrate`)
    return row.value
  }
  return { identity: valueOf('identity'), epoch: valueOf('epoch') }
}

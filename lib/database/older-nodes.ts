import { systemClock } from '../clock.js'
import type { OpenDatabase } from './open.js'
import { toSqlTime } from './time.js'

/** Milliseconds since the last activity of a connection after which its node counts as stopped. */
const FRESH = 60_000

/**
 * Describes a node of version 0.1 that seems to use this database: it has recently updated connections that are not closed.
 * A stopped node has closed its connections; a killed one no longer counts after a while. Null if there is none.
 */
export async function freshSockets ({ db }: Pick<OpenDatabase, 'db'>): Promise<string | null> {
  const row = await db.selectFrom('websocket_connections').select('node_id')
    .where('status', '=', 'connected').where('node_id', '<>', '').where('updated_at', '>=', toSqlTime(systemClock.now() - FRESH)).limit(1).executeTakeFirst()
  return row === undefined ? null : `its node ${row.node_id} has open sockets, or was killed less than a minute ago`
}

import { systemClock } from '../clock.js'
import type { OpenDatabase } from './open.js'
import { toSqlTime } from './time.js'

/** Milliseconds since the last sign of a connection, after which its node counts as stopped. */
const FRESH = 60_000

/**
 * Where a node of version 0.1 seems to use this database: it has sockets that nobody closed, written a short while ago.
 * A node that was stopped has closed its own; one that was killed is told apart by waiting. Null where none does.
 */
export async function freshSockets ({ db }: Pick<OpenDatabase, 'db'>): Promise<string | null> {
  const row = await db.selectFrom('websocket_connections').select('node_id')
    .where('status', '=', 'connected').where('node_id', '<>', '').where('updated_at', '>=', toSqlTime(systemClock.now() - FRESH)).limit(1).executeTakeFirst()
  return row === undefined ? null : `its node ${row.node_id} has open sockets, or was killed less than a minute ago`
}

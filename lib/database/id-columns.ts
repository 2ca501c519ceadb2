import { sql } from 'kysely'
import { OptionError } from '../errors.js'
import type { IdKind } from '../ids.js'
import type { Database, Dialect } from './dialect.js'

/** The kind of ids that the columns of this database hold; null before the first migration. */
export async function storedIdKind (db: Database, dialect: Dialect): Promise<IdKind | null> {
  const query = dialect === 'mysql'
    ? sql<{ type: string }>`select data_type as type from information_schema.columns
        where table_schema = database() and table_name = 'websocket_events' and column_name = 'tenant_id'`
    : sql<{ type: string }>`select type from pragma_table_info('websocket_events') where name = 'tenant_id'`
  const [column] = (await query.execute(db)).rows
  if (column === undefined) return null
  return /char|text/i.test(String(column.type)) ? 'string' : 'integer'
}

/** Throws an {@link OptionError} if the option `ids` differs from the kind in the database, which is chosen once, with the tables. */
export function requireStoredKind (asked: IdKind, stored: IdKind): void {
  if (asked === stored) return
  throw new OptionError('ids', `is '${asked}', but this database has ${stored} ids: set it to '${stored}', ` +
    'or use another database, into which docs/string-ids.md shows how to move the data')
}

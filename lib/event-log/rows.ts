import { sql } from 'kysely'
import { jsonText } from '../database/dialect.js'
import { fromSqlTime } from '../database/time.js'
import type { Id, Ids } from '../ids.js'
import type { StoredEvent } from './contract.js'

/** The columns that {@link toStored} needs, besides the time of publication. */
export const STORED_COLUMNS = ['id', 'tenant_id', 'user_id', 'channel', 'event_type', 'payload', 'retry_count', 'origin'] as const
/** Read as text, so that no driver converts it to another time zone. */
export const handedAt = sql<string | null>`cast(handed_at as char)`.as('handed_at')

/** The origin of rows inserted by a host's own transaction: no node's, so that none vouches for their order. */
export const HOST_ORIGIN = 'host'

export interface StoredRow {
  id: number
  tenant_id: Id
  user_id: Id
  channel: string
  event_type: string
  payload: unknown
  retry_count: number
  origin: string
  handed_at: string | null
}

export function toStored (row: StoredRow, ids: Ids): StoredEvent {
  return {
    id: Number(row.id),
    tenantId: ids.parse(row.tenant_id),
    userId: ids.parse(row.user_id),
    channel: row.channel,
    type: row.event_type,
    payload: jsonText(row.payload),
    retryCount: Number(row.retry_count),
    publishedAt: row.handed_at === null ? null : fromSqlTime(row.handed_at),
    isFromHost: row.origin === HOST_ORIGIN
  }
}

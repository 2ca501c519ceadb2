import type { Database } from '../database/dialect.js'
import type { Id } from '../ids.js'

const STATUSES = ['pending', 'failed'] as const

export type StatusCounts = Record<typeof STATUSES[number], number>

/** The numbers of pending and failed events, of one tenant or of all. An index by status contains everything that this reads. */
export async function countByStatus (db: Database, tenantId?: Id): Promise<StatusCounts> {
  const all = db.selectFrom('websocket_events').select(['status', (eb) => eb.fn.countAll<number>().as('count')])
    .where('status', 'in', STATUSES).groupBy('status')
  const rows = await (tenantId === undefined ? all : all.where('tenant_id', '=', tenantId)).execute()
  const count = (status: string): number => Number(rows.find((row) => row.status === status)?.count ?? 0)
  return { pending: count('pending'), failed: count('failed') }
}

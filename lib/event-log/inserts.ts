import { CompiledQuery } from 'kysely'
import type { Dialect } from '../database/dialect.js'
import { literal } from '../database/literal.js'
import { toSqlTime } from '../database/time.js'
import type { Id } from '../ids.js'
import type { Change } from './contract.js'

/** A row to insert. */
export interface EventRow {
  tenantId: Id
  userId: Id
  type: string
  channel: string
  payload: string
  createdAt: number
  dedupeId: string
  dueAt: number
  /** See EventsTable. */
  conversation: string | null
  retentionDays: number | null
  /** The change to an earlier message; null for most events. */
  change: Change | null
}

/** The row of an ephemeral event. */
export type AuditRow = Omit<EventRow, 'dedupeId' | 'dueAt' | 'conversation' | 'retentionDays' | 'change'>

const into = (columns: string): string =>
  `insert into websocket_events (tenant_id, user_id, event_type, channel, payload, created_at, updated_at, origin, ${columns}) values `

/** Pending and durable, as the columns' defaults say: the fewer values, the cheaper the statement. */
const intoDurable = into('dedupe_id, due_at, conversation, retention_days')
const durablePlaceholders = `(${Array(12).fill('?').join(', ')})`
const intoAudit = into('handed_at, status, durable')
const auditPlaceholders = `(${Array(9).fill('?').join(', ')}, 'delivered', 0)`

/** The insert of events that must not be lost. */
export function durableInsert (dialect: Dialect, rows: readonly EventRow[], origin: string): CompiledQuery {
  if (dialect === 'mysql') return CompiledQuery.raw(intoDurable + rows.map((row) => durableText(row, origin)).join(','))
  const values = rows.flatMap((row) => [...common(row, origin), row.dedupeId, toSqlTime(row.dueAt), row.conversation, row.retentionDays])
  return CompiledQuery.raw(`${intoDurable}${rows.map(() => durablePlaceholders).join(', ')} returning id`, values)
}

/** The insert of audit rows. */
export function auditInsert (dialect: Dialect, rows: readonly AuditRow[], origin: string): CompiledQuery {
  if (dialect === 'mysql') return CompiledQuery.raw(intoAudit + rows.map((row) => auditText(row, origin)).join(','))
  const values = rows.flatMap((row) => [...common(row, origin), toSqlTime(row.createdAt)])
  return CompiledQuery.raw(intoAudit + rows.map(() => auditPlaceholders).join(', '), values)
}

function common (row: AuditRow, origin: string): unknown[] {
  const at = toSqlTime(row.createdAt)
  return [row.tenantId, row.userId, row.type, row.channel, row.payload, at, at, origin]
}

const durableText = (row: EventRow, origin: string): string =>
  `(${commonText(row, origin)},${literal(row.dedupeId)},'${toSqlTime(row.dueAt)}',${literal(row.conversation)},${literal(row.retentionDays)})`

const auditText = (row: AuditRow, origin: string): string => `(${commonText(row, origin)},'${toSqlTime(row.createdAt)}','delivered',0)`

/** Concatenates the values directly, because an array per row cost as much as the text. */
function commonText ({ tenantId, userId, type, channel, payload, createdAt }: AuditRow, origin: string): string {
  const at = toSqlTime(createdAt)
  return `${literal(tenantId)},${literal(userId)},${literal(type)},${literal(channel)},${literal(payload)},'${at}','${at}',${literal(origin)}`
}

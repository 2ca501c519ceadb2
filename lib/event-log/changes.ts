import { CompiledQuery } from 'kysely'
import { toIso } from '../clock.js'
import { editsOf, MESSAGE_TYPES } from '../conversation-keys.js'
import { jsonText, type Database, type Dialect } from '../database/dialect.js'
import { toSqlTime } from '../database/time.js'
import type { Id, Ids } from '../ids.js'
import type { EventRow } from './inserts.js'

/** A message that is about to be changed. */
interface Target {
  id: number
  userId: Id
  type: string
  conversation: string
  retentionDays: number | null
  createdAt: string
  payload: Record<string, unknown>
  /** The effect of this transaction's events on it. */
  state: 'same' | 'edited' | 'deleted'
  updatedAt: number
}

/** Names of the fields of a message that a delete removes. */
const CONTENT = ['message', 'data', 'editedAt']

/**
 * The changes of one transaction: locks the messages, decides which events still apply, and then changes the messages. A
 * message that was deleted meanwhile cannot be changed.
 */
export class Changes {
  readonly #db: Database
  readonly #dialect: Dialect
  readonly #ids: Ids
  readonly #targets = new Map<number, Target>()
  readonly #tenants = new Map<number, Id>()

  constructor (transaction: Database, dialect: Dialect, ids: Ids) {
    this.#db = transaction
    this.#dialect = dialect
    this.#ids = ids
  }

  /** Locks the messages. Returns for each event whether it applies; edits get the content of the message after the edit. */
  async apply (rows: readonly EventRow[]): Promise<boolean[]> {
    const ids = [...new Set(rows.flatMap(({ change }) => change?.targetId ?? []))].sort((a, b) => a - b)
    const { rows: found } = await this.#db.executeQuery<TargetRow>(CompiledQuery.raw(`
      select id, tenant_id, user_id, event_type, conversation, retention_days, payload, cast(created_at as char) as created_at from websocket_events
      where id in (${ids.map(() => '?').join(', ')}) and durable = 1 and conversation is not null and event_type in ('${MESSAGE_TYPES.join("', '")}')
      order by id${this.#dialect === 'mysql' ? ' for update' : ''}`, ids))
    for (const row of found) {
      const id = Number(row.id)
      this.#tenants.set(id, this.#ids.parse(row.tenant_id))
      this.#targets.set(id, {
        id,
        userId: this.#ids.parse(row.user_id),
        type: row.event_type,
        conversation: row.conversation,
        retentionDays: row.retention_days,
        createdAt: row.created_at,
        payload: JSON.parse(jsonText(row.payload)) as Record<string, unknown>,
        state: 'same',
        updatedAt: 0
      })
    }
    return rows.map((row) => this.#apply(row))
  }

  #apply (row: EventRow): boolean {
    const { change, tenantId } = row
    const target = change === null ? undefined : this.#targets.get(change.targetId)
    if (change === null || target === undefined || target.state === 'deleted' || this.#tenants.get(target.id) !== tenantId) return false
    if (change.content === null) {
      target.updatedAt = row.createdAt
      target.state = 'deleted'
      return true
    }
    // Clients keep the text with the newest time: it grows from edit to edit, although the nodes' clocks may differ.
    if (typeof target.payload.editedAt === 'string') row.createdAt = Math.max(row.createdAt, Date.parse(target.payload.editedAt) + 1)
    target.updatedAt = row.createdAt
    const editedAt = toIso(row.createdAt)
    const { message, data = target.payload.data } = change.content
    const event = JSON.parse(row.payload) as Record<string, unknown>
    const { data: _before, ...payload } = target.payload
    target.payload = { ...payload, message, ...data === undefined || data === null ? {} : { data }, editedAt }
    target.state = 'edited'
    row.payload = JSON.stringify({ ...event, message, data: data ?? null, editedAt, timestamp: editedAt })
    return true
  }

  /** Changes the messages, after the events were inserted. */
  async write (): Promise<void> {
    for (const target of this.#targets.values()) {
      if (target.state === 'edited') await this.#edit(target)
      if (target.state === 'deleted') await this.#delete(target)
    }
  }

  async #edit ({ id, payload, updatedAt }: Target): Promise<void> {
    await this.#db.updateTable('websocket_events').set({ payload: JSON.stringify(payload), updated_at: toSqlTime(updatedAt) }).where('id', '=', id).execute()
  }

  /** Empties the rows, so that no query finds them by conversation, by channel or as unconfirmed. History keeps a mark of the deleted message. */
  async #delete ({ id, userId, type, conversation, retentionDays, createdAt, payload, updatedAt }: Target): Promise<void> {
    const tenantId = this.#tenants.get(id) as Id
    // The lock of the message keeps others from adding an edit: no lock is needed for these.
    const edits = await this.#db.selectFrom('websocket_events').select('id')
      .where('tenant_id', '=', tenantId).where('conversation', '=', editsOf(id)).execute()
    await emptyEvents(this.#db, [id, ...edits.map((edit) => Number(edit.id))], updatedAt)
    const left = Object.fromEntries(Object.entries(payload).filter(([name]) => !CONTENT.includes(name)))
    await this.#db.insertInto('websocket_deleted_messages').values({
      tenant_id: tenantId, conversation, id, user_id: userId, event_type: type, payload: JSON.stringify({ ...left, deleted: true }),
      retention_days: retentionDays, created_at: createdAt
    }).execute()
  }
}

/** Removes the content of events, and everything by which they are found. */
export async function emptyEvents (db: Database, ids: readonly number[], now: number): Promise<void> {
  const at = toSqlTime(now)
  await db.updateTable('websocket_events').set((eb) => ({
    payload: '{}',
    conversation: null,
    retention_days: null,
    durable: 0,
    status: 'delivered' as const,
    due_at: null,
    handed_at: eb.fn.coalesce('handed_at', eb.val(at)),
    error_message: null,
    updated_at: at
  })).where('id', 'in', ids).execute()
}

interface TargetRow { id: number, tenant_id: Id, user_id: Id, event_type: string, conversation: string, retention_days: number | null, payload: unknown, created_at: string }

import { CompiledQuery } from 'kysely'
import { privateChannel } from '../channel-names.js'
import { systemClock } from '../clock.js'
import { editsOf, isDirectConversation, MESSAGE_TYPES } from '../conversation-keys.js'
import type { Database, Dialect } from '../database/dialect.js'
import { toSqlTime } from '../database/time.js'
import type { Id, Ids } from '../ids.js'
import type { UserRef } from '../keys.js'

/** Rows of one statement. */
const CHUNK = 500

/** How many rows were deleted or emptied, in all and by table. */
export interface Erased { total: number, rows: Record<string, number> }

/** The tables that have rows of users, besides the events. */
const TABLES = [
  'websocket_connections', 'websocket_presence', 'websocket_invisible', 'websocket_typing_indicators', 'websocket_access', 'websocket_conversations',
  'websocket_deleted_messages'
] as const

/** Messages that others wrote to a user stay in their senders' conversations. */
const OF_OTHERS = [...MESSAGE_TYPES, 'message:edited', 'message:deleted']

/**
 * Removes everything that a user wrote, including edits by others, and removes the user from all tables. Messages of others stay.
 * In small statements, each committed by itself: it may be interrupted and started again.
 */
export async function eraseUser ({ db, dialect }: { db: Database, dialect: Dialect }, ids: Ids, { tenantId, userId }: UserRef): Promise<Erased> {
  const rows: Record<string, number> = { websocket_events: 0 }
  const newest = await db.selectFrom('websocket_events').select((eb) => eb.fn.max('id').as('id')).executeTakeFirst()
  const events = new Events(db, ids, tenantId, Number(newest?.id ?? 0))
  const own = privateChannel(userId)
  // Who wrote a message that another user deleted.
  const sender = `${dialect === 'mysql' ? 'json_unquote' : ''}(json_extract(payload, '$.senderId'))`
  rows.websocket_events = await events.erase('user_id = ?', [userId]) +
    await events.erase(`channel = ? and event_type not in (${OF_OTHERS.map(() => '?').join(', ')})`, [own, ...OF_OTHERS]) +
    await events.erase(`channel = ? and event_type = 'message:deleted' and ${sender} = ?`, [own, dialect === 'mysql' ? String(userId) : userId])
  await events.settle(own)
  const conversations = await db.selectFrom('websocket_conversations').select('conversation').where('tenant_id', '=', tenantId).where('user_id', '=', userId).execute()
  for (const table of TABLES) {
    const { numAffectedRows = 0n } = await db.executeQuery(CompiledQuery.raw(`delete from ${table} where tenant_id = ? and user_id = ?`, [tenantId, userId]))
    rows[table] = Number(numAffectedRows)
  }
  for (const { conversation } of conversations) {
    if (isDirectConversation(conversation)) rows.websocket_conversations = (rows.websocket_conversations ?? 0) + await removeIfEmpty(db, tenantId, conversation)
  }
  const floors = await db.deleteFrom('websocket_channel_floors').where('tenant_id', '=', tenantId).where('channel', '=', own).executeTakeFirst()
  rows.websocket_channel_floors = Number(floors.numDeletedRows)
  return { total: Object.values(rows).reduce((sum, count) => sum + count, 0), rows }
}

/** The other user keeps a direct conversation only with messages in it: its name contains both ids. */
async function removeIfEmpty (db: Database, tenantId: Id, conversation: string): Promise<number> {
  for (const table of ['websocket_events', 'websocket_deleted_messages'] as const) {
    if (await db.selectFrom(table).select('id').where('tenant_id', '=', tenantId).where('conversation', '=', conversation).limit(1).executeTakeFirst() !== undefined) return 0
  }
  const { numDeletedRows } = await db.deleteFrom('websocket_conversations').where('tenant_id', '=', tenantId).where('conversation', '=', conversation).executeTakeFirst()
  return Number(numDeletedRows)
}

/** Deletes events of a tenant. The newest row of the log is emptied instead: its id is the end of the log. */
class Events {
  readonly #db: Database
  readonly #ids: Ids
  readonly #tenantId: Id
  readonly #newest: number

  constructor (db: Database, ids: Ids, tenantId: Id, newest: number) {
    this.#db = db
    this.#ids = ids
    this.#tenantId = tenantId
    this.#newest = newest
  }

  async erase (condition: string, values: readonly unknown[]): Promise<number> {
    let erased = 0
    for (;;) {
      const { rows } = await this.#db.executeQuery<{ id: number }>(CompiledQuery.raw(
        `select id from websocket_events where tenant_id = ? and ${condition} limit ${CHUNK}`, [this.#tenantId, ...values]))
      const found = rows.map(({ id }) => Number(id))
      if (found.length > 0) erased += await this.#remove([...found, ...await this.#editsOf(found)])
      if (rows.length < CHUNK) return erased
    }
  }

  /** Ends events that wait for the user: they can no longer be confirmed. */
  async settle (channel: string): Promise<void> {
    await this.#db.updateTable('websocket_events').set((eb) => ({
      status: 'delivered' as const, due_at: null, handed_at: eb.fn.coalesce('handed_at', eb.val(toSqlTime(systemClock.now())))
    })).where('tenant_id', '=', this.#tenantId).where('channel', '=', channel).where('status', '=', 'pending').execute()
  }

  /** Edits of these messages, by whomever: they repeat their text. */
  async #editsOf (messages: readonly number[]): Promise<number[]> {
    const rows = await this.#db.selectFrom('websocket_events').select('id')
      .where('tenant_id', '=', this.#tenantId).where('conversation', 'in', messages.map(editsOf)).execute()
    return rows.map(({ id }) => Number(id))
  }

  async #remove (all: readonly number[]): Promise<number> {
    const ids = [...new Set(all)]
    const old = ids.filter((id) => id < this.#newest)
    if (old.length > 0) await this.#db.deleteFrom('websocket_events').where('id', 'in', old).execute()
    const young = ids.filter((id) => id >= this.#newest)
    if (young.length > 0) {
      await this.#db.updateTable('websocket_events').set({
        user_id: this.#ids.system, channel: 'erased', payload: '{}', conversation: null, durable: 0, status: 'delivered', dedupe_id: null, due_at: null,
        handed_at: toSqlTime(systemClock.now()), error_message: null
      }).where('id', 'in', young).execute()
    }
    return ids.length
  }
}

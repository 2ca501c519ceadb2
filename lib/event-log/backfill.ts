import { CompiledQuery } from 'kysely'
import { conversationOf, isDirectConversation, MESSAGE_TYPES, usersOf } from '../conversation-keys.js'
import type { Database, Dialect } from '../database/dialect.js'
import { toSqlTime } from '../database/time.js'
import { upsert } from '../database/upsert.js'
import type { Clock } from '../clock.js'
import type { Id, Ids } from '../ids.js'

/** Ids of one step. */
const STEP = 1000
/** Maximum milliseconds of one run. */
const RUN_MS = 200

export interface BackfillOptions { db: Database, dialect: Dialect, ids: Ids, clock: Clock }

/**
 * Gives messages from before the migration their conversation, the newest first, and their users the conversation in their
 * lists, as read. In small steps, from one position in websocket_meta to the next: it may be interrupted, and continued by
 * another node.
 */
export class Backfill {
  readonly #options: BackfillOptions
  #isDone = false

  constructor (options: BackfillOptions) {
    this.#options = options
  }

  /** Takes steps for a while; returns whether everything is done. One node at a time should call it. */
  async run (): Promise<boolean> {
    for (const until = performance.now() + RUN_MS; !this.#isDone && performance.now() < until;) this.#isDone = await this.#step()
    return this.#isDone
  }

  async #step (): Promise<boolean> {
    const { db, ids } = this.#options
    const meta = await db.selectFrom('websocket_meta').selectAll().where('name', 'in', ['conversations_from', 'conversations_left']).execute()
    const valueOf = (name: string): number => Number(meta.find((row) => row.name === name)?.value ?? 0)
    const left = valueOf('conversations_left')
    if (left <= 0) return true
    // Ids may have large holes: the next message is looked up.
    const { rows } = await db.executeQuery<{ id: number, tenant_id: Id, user_id: Id, event_type: string, channel: string }>(CompiledQuery.raw(`
      select id, tenant_id, user_id, event_type, channel from (
        select id, tenant_id, user_id, event_type, channel, conversation, durable from websocket_events where id <= ? order by id desc limit ${STEP}
      ) as some where durable = 1 and conversation is null and event_type in (${MESSAGE_TYPES.map(() => '?').join(', ')})`, [left, ...MESSAGE_TYPES]))
    const { rows: [last] } = await db.executeQuery<{ id: number | null }>(CompiledQuery.raw(
      `select min(id) as id from (select id from websocket_events where id <= ? order by id desc limit ${STEP}) as some`, [left]))
    const found = rows.flatMap((row) => {
      const tenantId = ids.parse(row.tenant_id)
      const userId = ids.parse(row.user_id)
      const conversation = conversationOf(ids, { type: row.event_type, channel: row.channel, userId })
      return conversation === null ? [] : { id: Number(row.id), tenantId, userId, conversation }
    })
    if (found.length > 0) await this.#fill(found, valueOf('conversations_from'))
    const next = last?.id === null || last?.id === undefined ? 0 : Number(last.id) - 1
    await db.updateTable('websocket_meta').set({ value: String(next) }).where('name', '=', 'conversations_left').execute()
    return next <= 0
  }

  async #fill (found: ReadonlyArray<{ id: number, tenantId: Id, userId: Id, conversation: string }>, from: number): Promise<void> {
    const { db, dialect, ids, clock } = this.#options
    const now = toSqlTime(clock.now())
    const marks = new Map(found.flatMap(({ tenantId, userId, conversation }) =>
      (isDirectConversation(conversation) ? usersOf(ids, conversation) : [userId]).filter((user) => user !== ids.system).map((user) => [`${tenantId}/${user}/${conversation}`, {
        tenant_id: tenantId, user_id: user, conversation, read_up_to: from, is_listed: 1, created_at: now, updated_at: now
      }] as const)))
    await upsert(db, dialect, 'websocket_conversations', [...marks.values()], { keys: ['tenant_id', 'user_id', 'conversation'], update: ['is_listed'] })
    const cases = found.map(() => 'when ? then ?').join(' ')
    // A message that is deleted at this moment stays without a conversation.
    await db.executeQuery(CompiledQuery.raw(`
      update websocket_events set conversation = case id ${cases} else conversation end
      where id in (${found.map(() => '?').join(', ')}) and durable = 1 and conversation is null`,
    [...found.flatMap(({ id, conversation }) => [id, conversation]), ...found.map(({ id }) => id)]))
  }
}

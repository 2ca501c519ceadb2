import { CompiledQuery } from 'kysely'
import { MESSAGE_TYPES } from '../../lib/conversation-keys.js'
import { jsonText, type Database, type Dialect, type Executor } from '../../lib/database/dialect.js'
import { fromSqlTime, toSqlTime } from '../../lib/database/time.js'
import { upsert } from '../../lib/database/upsert.js'
import type { Id, Ids } from '../../lib/ids.js'
import type { StorageAccess } from '../../lib/resources.js'

/** Unread messages are counted up to this number. */
export const MAX_UNREAD = 100

/** Newest events of a user among which the user's own messages are searched, for conversations with very many unread messages. */
const OWN_ROWS = 100
/** Conversations in one part of the statement that counts: each message is compared with all of its part. */
const PART = 8

/** Messages scanned at a time for a label, and the maximum number of scans for one page. */
const WINDOW = 2000
const MAX_WINDOWS = 25

/** A message with its current content. */
export interface StoredMessage { id: number, type: string, payload: Record<string, unknown> }

/** Where a message is, and who sent it. */
export interface MessagePlace { id: number, userId: Id, type: string, channel: string, conversation: string, createdAt: number }

/** Runs a search in turn with those of others. */
export type InTurn = <T>(search: () => Promise<T>) => Promise<T>

/** A page of a conversation. */
interface HistoryPage { tenantId: Id, conversation: string, before: number | undefined, limit: number }

/** A conversation in a user's list. `hundredth`: the id of the message that is number {@link MAX_UNREAD} from the newest; 0 if the conversation has fewer. */
export interface Entry { conversation: string, mark: number, lastId: number, hundredth: number }

/** A position in the list: later entries have a smaller `lastId`, or the same and a greater name. */
export interface ListCursor { lastId: number, conversation: string }

/** A user and one of the user's conversations. */
export interface Mark { tenantId: Id, userId: Id, conversation: string, readUpTo: number }

/** How far a user has read a conversation. */
export interface ReadMark { userId: Id, readUpTo: number, movedAt: number }

interface MessageRow { id: number, event_type: string, payload: unknown }

/**
 * Reads messages by their conversation, by one index (websocket_events), and reads and writes lists of conversations and read
 * marks (websocket_conversations).
 */
export class ConversationStore {
  readonly #db: Database
  readonly #dialect: Dialect
  readonly #ids: Ids
  readonly #ask: StorageAccess['ask']

  constructor ({ db, dialect, ask }: StorageAccess, ids: Ids) {
    this.#db = db
    this.#dialect = dialect
    this.#ids = ids
    this.#ask = ask
  }

  /**
   * The newest messages below `before`, and deleted ones without their content, newest first. `from`: the smallest scanned id, if
   * not all messages were scanned. `inTurn` runs each part of a search by label.
   */
  async history ({ label, ...page }: HistoryPage & { label: string | undefined }, inTurn: InTurn = async (search) => await search()): Promise<{ messages: StoredMessage[], from: number | null }> {
    // Not one statement: its result would be a table on disk, because of the payloads. One that is deleted in between is in both.
    const { found, from } = label === undefined ? { found: await this.#page('websocket_events', page), from: null } : await this.#labelled({ ...page, label }, inTurn)
    const deleted = await this.#page('websocket_deleted_messages', { ...page, label, ...from === null ? {} : { from } })
    if (deleted.length === 0) return { messages: found, from }
    const all = new Map([...found, ...deleted].map((message) => [message.id, message]))
    return { messages: [...all.values()].sort((a, b) => b.id - a.id).slice(0, page.limit), from }
  }

  /** No index has the label, so messages are scanned in windows, and only a limited number of them: a rare label must not keep the database busy. */
  async #labelled ({ tenantId, conversation, before, limit, label }: HistoryPage & { label: string }, inTurn: InTurn): Promise<{ found: StoredMessage[], from: number | null }> {
    const found: StoredMessage[] = []
    // The end of the next window; null: no further window.
    const search = async (below: number | undefined): Promise<number | null> => {
      const [first] = await this.#rows<{ id: number | null }>(`
        select min(id) as id from (select id from websocket_events ${this.#byConversation}
          where tenant_id = ? and conversation = ?${below === undefined ? '' : ' and id < ?'} order by id desc limit ${WINDOW}) as some`,
      [tenantId, conversation, ...below === undefined ? [] : [below]])
      if (first?.id === null || first === undefined) return null
      const from = Number(first.id)
      found.push(...await this.#page('websocket_events', { tenantId, conversation, before: below, limit: limit - found.length, label, from }))
      return from
    }
    let below: number | undefined = before
    for (let windows = 0; windows < MAX_WINDOWS; windows++) {
      const at = below
      const from = await inTurn(async () => await search(at))
      if (from === null || found.length >= limit) return { found, from: null }
      below = from
    }
    return { found, from: below ?? null }
  }

  async #page (table: 'websocket_events' | 'websocket_deleted_messages', { tenantId, conversation, before, limit, from, label }: HistoryPage & { from?: number, label?: string | undefined }): Promise<StoredMessage[]> {
    const conditions: Array<[text: string, value: unknown]> = [['tenant_id = ?', tenantId], ['conversation = ?', conversation]]
    if (before !== undefined) conditions.push(['id < ?', before])
    if (from !== undefined) conditions.push(['id >= ?', from])
    if (label !== undefined) conditions.push([`${this.#dialect === 'mysql' ? 'json_unquote' : ''}(json_extract(payload, '$.conversationId')) = ?`, label])
    const rows = await this.#rows<MessageRow>(`select id, event_type, payload from ${table} ${table === 'websocket_events' ? this.#byConversation : ''}
      where ${conditions.map(([text]) => text).join(' and ')} order by id desc limit ${limit}`, conditions.map(([, value]) => value))
    return rows.map(toMessage)
  }

  /** A page of a user's list, latest activity first. */
  async list (tenantId: Id, userId: Id, after: ListCursor | null, limit: number): Promise<Entry[]> {
    // Without messages it is null, which comes last: another value for it would make the ids decimals, which are slow.
    const rest = after === null
      ? ''
      : after.lastId === 0 ? ' where last_id is null and conversation > ?' : ' where last_id < ? or (last_id = ? and conversation > ?) or last_id is null'
    const all = `
      select p.conversation as conversation, p.read_up_to as mark, (${this.#newest('p.tenant_id', 'p.conversation')}) as last_id
      from websocket_conversations as p where p.tenant_id = ? and p.user_id = ? and p.is_listed = 1`
    // Most requests are for the first page; a table of all candidates would take a third of its time.
    const page = `${after === null ? all : `select * from (${all}) as mine${rest}`} order by last_id desc, conversation limit ${limit}`
    const rows = await this.#rows<{ conversation: string, mark: number, last_id: number | null, hundredth: number | null }>(`
      select page.conversation, page.mark, page.last_id, case when page.last_id > page.mark then (${this.#newest('?', 'page.conversation', MAX_UNREAD)}) end as hundredth
      from (${page}) as page`,
    [tenantId, tenantId, userId, ...after === null ? [] : after.lastId === 0 ? [after.conversation] : [after.lastId, after.lastId, after.conversation]])
    return rows.map(({ conversation, mark, last_id: lastId, hundredth }) => ({ conversation, mark: Number(mark), lastId: Number(lastId ?? 0), hundredth: Number(hundredth ?? 0) }))
      .sort((a, b) => b.lastId - a.lastId || (a.conversation < b.conversation ? -1 : 1))
  }

  /** The id of a conversation's newest message, or of its `nth` newest: one index lookup, also for each row of another table. */
  #newest (tenant: string, conversation: string, nth = 1): string {
    return `select e.id from websocket_events as e ${this.#byConversation} where e.tenant_id = ${tenant} and e.conversation = ${conversation} order by e.id desc limit 1 offset ${nth - 1}`
  }

  /** These messages, by id, with their senders and the time at which they were sent. */
  async messages (ids: readonly number[]): Promise<Map<number, StoredMessage & { userId: Id, createdAt: number }>> {
    if (ids.length === 0) return new Map()
    const rows = await this.#rows<MessageRow & { user_id: Id, created: string }>(`
      select id, event_type, payload, user_id, cast(created_at as char) as created from websocket_events where id in (${marksOf(ids)}) and durable = 1`, ids)
    return new Map(rows.map((row) => [Number(row.id), { ...toMessage(row), userId: this.#ids.parse(row.user_id), createdAt: fromSqlTime(row.created) }]))
  }

  /**
   * For each of these conversations how many messages of others come after the mark and after the user's own newest message,
   * counted up to {@link MAX_UNREAD}, and the mark including that message. Reads at most {@link MAX_UNREAD} index entries for each.
   */
  async unread (tenantId: Id, userId: Id, entries: readonly Entry[]): Promise<Array<{ unread: number, readUpTo: number }>> {
    // Most of these have more unread messages than are counted: unless one of the newest is the user's own, no row has to be read.
    const own = entries.some(({ mark, hundredth }) => hundredth > mark) ? await this.#own(tenantId, userId) : null
    const marked = entries.map((entry) => ({ ...entry, mark: Math.max(entry.mark, own?.newest.get(entry.conversation) ?? 0) }))
    const isFull = ({ mark, hundredth }: Entry): boolean => hundredth > mark && own !== null && hundredth >= own.from
    const found = await this.#count(tenantId, userId, marked.filter((entry) => entry.lastId > entry.mark && !isFull(entry)))
    // Rarely: the mark that the user's own message moves is written within a second.
    const moved = marked.map((entry) => ({ ...entry, mark: Math.max(entry.mark, found.get(entry.conversation)?.own ?? 0) }))
    const again = await this.#count(tenantId, userId, moved.filter(({ mark }, n) => mark > (marked[n]?.mark ?? 0)))
    return moved.map((entry, n) => {
      const { conversation, mark } = entry
      const { count } = (mark > (marked[n]?.mark ?? 0) ? again : found).get(conversation) ?? { count: isFull(entry) ? MAX_UNREAD : 0 }
      return { unread: Math.min(count, MAX_UNREAD), readUpTo: mark }
    })
  }

  /** A user's own newest message by conversation, as far as it is among the user's newest events; all with ids from `from` are. */
  async #own (tenantId: Id, userId: Id): Promise<{ newest: Map<string, number>, from: number }> {
    const rows = await this.#rows<{ id: number, conversation: string | null }>(`
      select id, conversation from websocket_events ${this.#dialect === 'mysql' ? 'force index (websocket_events_tenant_id_user_id)' : ''}
      where tenant_id = ? and user_id = ? order by id desc limit ${OWN_ROWS}`, [tenantId, userId])
    const newest = new Map<string, number>()
    for (const { id, conversation } of rows) if (conversation !== null && !newest.has(conversation)) newest.set(conversation, Number(id))
    return { newest, from: rows.length < OWN_ROWS ? 0 : Number(rows.at(-1)?.id) }
  }

  /**
   * For each of these conversations how many messages come after the mark, up to the newest {@link MAX_UNREAD}, and the newest
   * one of the user's own among them.
   */
  async #count (tenantId: Id, userId: Id, entries: readonly Entry[]): Promise<Map<string, { count: number, own: number }>> {
    if (entries.length === 0) return new Map()
    // One statement of few parts: to plan a part takes longer than to read the messages that most conversations have. SQLite does not see ranges in one.
    const size = this.#dialect === 'mysql' ? PART : 1
    const parts = Array.from({ length: Math.ceil(entries.length / size) }, (_, n) => entries.slice(n * size, (n + 1) * size))
    const rows = await this.#rows<{ conversation: string, count: number, own: number | null }>(parts.map((part) => `
      select conversation, count(*) as count, max(case when user_id = ? then id end) as own from websocket_events ${this.#byConversation}
      where tenant_id = ? and (${part.map(() => '(conversation = ? and id >= ?)').join(' or ')}) group by conversation`).join(' union all '),
    parts.flatMap((part) => [userId, tenantId, ...part.flatMap(({ conversation, mark, hundredth }) => [conversation, Math.max(mark + 1, hundredth)])]))
    return new Map(rows.map(({ conversation, count, own }) => [conversation, { count: Number(count), own: Number(own ?? 0) }]))
  }

  /** Saves the planner a comparison of all indexes for each conversation. */
  get #byConversation (): string {
    return this.#dialect === 'mysql' ? 'force index (websocket_events_tenant_id_conversation_id)' : ''
  }

  /** A user's mark, the newest message of the conversation and the one that is number {@link MAX_UNREAD}, and the newest id of the whole log. */
  async markOf (tenantId: Id, userId: Id, conversation: string): Promise<{ mark: number | null, lastId: number, hundredth: number, newest: number }> {
    const [row] = await this.#rows<{ mark: number | null, last_id: number | null, hundredth: number | null, newest: number | null }>(`
      select (select read_up_to from websocket_conversations where tenant_id = ? and user_id = ? and conversation = ?) as mark,
        (${this.#newest('?', '?')}) as last_id, (${this.#newest('?', '?', MAX_UNREAD)}) as hundredth,
        (select max(id) from websocket_events) as newest`, [tenantId, userId, conversation, tenantId, conversation, tenantId, conversation])
    const { mark = null, last_id: lastId, hundredth, newest } = row ?? {}
    return { mark: mark === null ? null : Number(mark), lastId: Number(lastId ?? 0), hundredth: Number(hundredth ?? 0), newest: Number(newest ?? 0) }
  }

  /** Marks only move forward; the conversations are in the list again. */
  async mark (marks: readonly Mark[], now: number): Promise<void> {
    await upsert(this.#db, this.#dialect, 'websocket_conversations', marks.map((mark) => rowOf(mark, now)),
      { keys: ['tenant_id', 'user_id', 'conversation'], update: ['is_listed', 'updated_at', 'read_up_to'], newest: 'read_up_to' })
  }

  /** Moves the mark of a message's sender to the message, and leaves the list as it is. */
  async markSender (tenantId: Id, { id, userId, conversation }: MessagePlace, now: number): Promise<void> {
    await this.#ask(async () => {
      await this.#db.updateTable('websocket_conversations').set({ read_up_to: id, updated_at: toSqlTime(now) })
        .where('tenant_id', '=', tenantId).where('user_id', '=', userId).where('conversation', '=', conversation).where('read_up_to', '<', id).execute()
    })
  }

  /** Adds the conversations to the lists of the users. Their read marks stay. */
  async add (marks: readonly Mark[], now: number, executor: Executor = this.#db): Promise<void> {
    await upsert(executor, this.#dialect, 'websocket_conversations', marks.map((mark) => rowOf(mark, now)),
      { keys: ['tenant_id', 'user_id', 'conversation'], update: ['is_listed'] })
  }

  async remove (tenantId: Id, userIds: readonly Id[], conversation: string, now: number): Promise<void> {
    if (userIds.length === 0) return
    await this.#db.updateTable('websocket_conversations').set({ is_listed: 0, updated_at: toSqlTime(now) })
      .where('tenant_id', '=', tenantId).where('conversation', '=', conversation).where('user_id', 'in', userIds).execute()
  }

  /** The users who have a conversation in their lists, at most `limit`. */
  async participants (tenantId: Id, conversation: string, limit: number): Promise<Id[]> {
    const rows = await this.#db.selectFrom('websocket_conversations').select('user_id')
      .where('tenant_id', '=', tenantId).where('conversation', '=', conversation).where('is_listed', '=', 1).limit(limit).execute()
    return rows.map((row) => this.#ids.parse(row.user_id))
  }

  /** The read marks of users who have a conversation in their lists, at most `limit`. */
  async marks (tenantId: Id, conversation: string, limit: number): Promise<ReadMark[]> {
    const rows = await this.#rows<{ user_id: Id, mark: number, moved: string }>(`
      select user_id, read_up_to as mark, cast(updated_at as char) as moved from websocket_conversations
      where tenant_id = ? and conversation = ? and is_listed = 1 limit ${limit}`, [tenantId, conversation])
    return rows.map(({ user_id: user, mark, moved }) => ({ userId: this.#ids.parse(user), readUpTo: Number(mark), movedAt: fromSqlTime(moved) }))
  }

  /** A message; null if it does not exist or is deleted. */
  async find (tenantId: Id, id: number): Promise<MessagePlace | null> {
    const [row] = await this.#rows<{ user_id: Id, event_type: string, channel: string, conversation: string, created: string }>(`
      select user_id, event_type, channel, conversation, cast(created_at as char) as created from websocket_events
      where id = ? and tenant_id = ? and durable = 1 and conversation is not null and event_type in (${marksOf(MESSAGE_TYPES)})`, [id, tenantId, ...MESSAGE_TYPES])
    return row === undefined
      ? null
      : { id, userId: this.#ids.parse(row.user_id), type: row.event_type, channel: row.channel, conversation: row.conversation, createdAt: fromSqlTime(row.created) }
  }

  /** The newest message at the time of the migration: in conversations that are listed later, messages after it count as unread. */
  async from (executor: Executor = this.#db): Promise<number> {
    const { rows: [row] } = await executor.executeQuery<{ value: string }>(CompiledQuery.raw("select value from websocket_meta where name = 'conversations_from'"))
    return Number(row?.value ?? 0)
  }

  async #rows<Row> (text: string, values: readonly unknown[]): Promise<Row[]> {
    return await this.#ask(async () => (await this.#db.executeQuery<Row>(CompiledQuery.raw(text, [...values]))).rows)
  }
}

const toMessage = ({ id, event_type: type, payload }: MessageRow): StoredMessage =>
  ({ id: Number(id), type, payload: JSON.parse(jsonText(payload)) as Record<string, unknown> })

const rowOf = ({ tenantId, userId, conversation, readUpTo }: Mark, now: number) => ({
  tenant_id: tenantId, user_id: userId, conversation, read_up_to: readUpTo, is_listed: 1, created_at: toSqlTime(now), updated_at: toSqlTime(now)
})

const marksOf = (values: readonly unknown[]): string => `?${', ?'.repeat(values.length - 1)}`

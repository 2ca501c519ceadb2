import { CompiledQuery } from 'kysely'
import { jsonText, type Database, type Dialect } from '../database/dialect.js'
import type { Id, IdKind } from '../ids.js'
import { fromSqlTime, toSqlTime } from '../database/time.js'
import { CLOCK_SKEW_MS, LATE_PUBLISH_IDS, REREAD_MS } from './contract.js'

/** A channel of a tenant, and a position on it. */
export interface Place {
  tenantId: Id
  channel: string
  since: number
}

/** Events that a user sent to others. Their rows have the channels of the recipients. */
export interface Copies { userId: Id, types: readonly string[] }

/** A place on a channel that may also have copies. */
export interface CopiedPlace extends Place { copies: Copies | null }

/** Which events of a channel a page has, oldest first. */
export interface PageRange extends Place {
  /** `after`: events above `since`; `pending`: only the unconfirmed ones of those. */
  kind: 'after' | 'pending'
  /** For a private channel: copies of what its owner sent. */
  copies: Copies | null
  /** Also the newest ids up to `since`. */
  below: boolean
}

/** Late events, read by their ids, because they are below the position. */
export interface PageIds extends Omit<Place, 'since'> {
  ids: readonly number[]
  copies: Copies | null
}

/** A stored event, as a replay needs it. */
export interface ReplayRow { id: number, type: string, payload: string }

/** Rows of one page, whether the range has more rows after them, and the newest ids up to its beginning if `PageRange.below` was set. */
export interface PageRows { rows: ReplayRow[], more: boolean, below: number[] }

/** Where a channel begins and ends. */
export interface ChannelEnds {
  /** The newest durable id, 0 without any. */
  head: number
  /** The largest purged id. */
  floor: number
  /** The newest id of the whole log. */
  newest: number
}

/** The newest copies on a private channel. */
export interface NewestCopies {
  /** The newest one; 0: none is known. */
  newest: number
  /** No other copy has this id or a larger one. */
  completeFrom: number
}

/** Rows of one page at most: each is looked up twice, once for its size. */
export const PAGE_ROWS = 100
/** Ranges of one statement; SQLite joins no more than 500 selects. */
export const MAX_RANGES = 50
export const MAX_CHANNELS = 200
/** Users whose unconfirmed events are read by one statement, and rows of that statement. */
export const MAX_WAITING_CHANNELS = 500
const WAITING_ROWS = 1000
/** Bytes of a frame around its payload: the event's name, the id, the header. */
const ENVELOPE = 100
/** Rows of a channel below `since`, at most, among which late events are searched, besides the bound on their ids. */
const LATE_ROWS = 1000

/** Newest events of a user among which a copy is the head of the user's own channel. A head that is too low only makes a later replay longer. */
const HEAD_ROWS = 20
/** Events of a user among which copies are counted. */
const COPY_ROWS = 20_000
/** Events of a user below `since` among which late copies are searched. */
const LATE_COPY_ROWS = 200
/** Events that a user sent, by the index of their senders. */
const EVENTS_OF = 'select id, event_type, channel, durable, origin, handed_at from websocket_events where tenant_id = ? and user_id = ?'

/** Ids below a page that are returned with it: more than can be committed late on a channel while a page is written. */
const BELOW_ROWS = 100

const DURABLE = 'tenant_id = ? and channel = ? and durable = 1'
const OF = { after: DURABLE, pending: "tenant_id = ? and channel = ? and status = 'pending'" } as const

/** A part of a statement, with its values. */
interface Part { text: string, values: unknown[] }

/**
 * The reads of replays (websocket_events). Every read serves many requests: connections come back together, and a statement costs
 * the database more than the few rows it finds.
 *
 * A part that reads a range of ids has its values in its text instead of in a joined table: only then does the database use a range of the index.
 */
export class ReplayStore {
  readonly #db: Database
  readonly #dialect: Dialect
  /** A tenant's id as a column of a derived table. With the collation of the column it is compared with, the database uses the index. */
  readonly #tenantColumn: string

  constructor (db: Database, dialect: Dialect, { kind }: { kind: IdKind }) {
    this.#db = db
    this.#dialect = dialect
    this.#tenantColumn = dialect === 'mysql' && kind === 'string' ? 'convert(? using ascii) collate ascii_bin' : '?'
  }

  /**
   * Head and floor of each of these channels, in the order given. After a deploy this is read for the own channels of all users,
   * most of which are empty. The channels are passed as a table, so that the statement stays short.
   */
  async ends (channels: ReadonlyArray<Omit<Place, 'since'>>): Promise<ChannelEnds[]> {
    const { rows } = await this.#db.executeQuery<{ n: number, head: number | null, floor: number | null, newest: number | null }>(CompiledQuery.raw(`
      select wanted.n as n,
        (select e.id from websocket_events as e where e.tenant_id = wanted.tenant_id and e.channel = wanted.channel and e.durable = 1 order by e.id desc limit 1) as head,
        (select f.purged_id from websocket_channel_floors as f where f.tenant_id = wanted.tenant_id and f.channel = wanted.channel) as floor,
        (select max(id) from websocket_events) as newest
      from (${this.#tableOf(channels)}) as wanted`, channels.flatMap(({ tenantId, channel }) => [tenantId, channel])))
    const found = new Map(rows.map((row) => [Number(row.n), row]))
    return channels.map((_, n) => {
      const row = found.get(n)
      return { head: Number(row?.head ?? 0), floor: Number(row?.floor ?? 0), newest: Number(row?.newest ?? 0) }
    })
  }

  /** The copies among the newest events of the owners of these private channels. */
  async newestCopies (channels: ReadonlyArray<Omit<PageIds, 'ids'> & { copies: Copies }>): Promise<NewestCopies[]> {
    const rows = await this.#all<{ n: number, newest: number | null, oldest: number | null, events: number }>(channels.map(({ tenantId, channel, copies }, n) => ({
      text: `select ${n} as n, max(case when ${isCopy(copies, 'own')} then own.id end) as newest, min(own.id) as oldest, count(*) as events
        from (${EVENTS_OF} order by id desc limit ${HEAD_ROWS}) as own`,
      values: [...copies.types, channel, tenantId, copies.userId]
    })))
    const found = new Map(rows.map((row) => [Number(row.n), row]))
    return channels.map((_, n) => {
      const row = found.get(n)
      return { newest: Number(row?.newest ?? 0), completeFrom: Number(row?.events ?? 0) < HEAD_ROWS ? 0 : Number(row?.oldest) }
    })
  }

  /** For each place: the number of events after it, counted up to `most`, and whether late ones are below it. */
  async behind (places: readonly CopiedPlace[], most: number): Promise<Array<{ later: number, isLate: boolean }>> {
    const rows = await this.#all<{ n: number, later: number, late: number }>(places.map((place, n) => {
      const { tenantId, channel, since, copies } = place
      const late = since > 0 ? this.#late(place, '1') : null
      const lateCopies = since > 0 && copies !== null ? this.#lateCopies(place, copies, '1') : null
      // Among more events of the owner than that, copies are not counted: it counts as too many.
      const copied = copies === null
        ? { text: '0', values: [] }
        : {
            text: `(select case when count(*) >= ${COPY_ROWS} then ${most} else coalesce(sum(case when ${isCopy(copies, 'own')} then 1 else 0 end), 0) end
              from (${EVENTS_OF} and id > ? order by id limit ${COPY_ROWS}) as own)`,
            values: [...copies.types, channel, tenantId, copies.userId, since]
          }
      const isLate = [late, lateCopies].flatMap((part) => part === null ? [] : `exists (${part.text})`).join(' or ')
      return {
        text: `select ${n} as n,
          (select count(*) from (select 1 from websocket_events where ${DURABLE} and id > ? limit ${most}) as q) + ${copied.text} as later,
          ${isLate === '' ? '0' : `case when ${isLate} then 1 else 0 end`} as late`,
        values: [tenantId, channel, since, ...copied.values, ...late?.values ?? [], ...lateCopies?.values ?? []]
      }
    }))
    const found = new Map(rows.map((row) => [Number(row.n), row]))
    return places.map((_, n) => ({ later: Number(found.get(n)?.later ?? 0), isLate: Number(found.get(n)?.late ?? 0) === 1 }))
  }

  /**
   * Ids of events that a client which has seen `since` may have missed: rows of other nodes below `since` that were published
   * after its row was created. Ids are assigned when an insert begins, but the events are published after the commit: node A may
   * take id 10, node B id 11, and B's may be delivered first. A client that saw 11 and disconnected would ask for events after 11
   * and never get 10. It can only have missed an event below `since` that was published after the client saw `since`, hence after
   * `since` was created. One node commits and publishes its events in the order of their ids, so only events of other nodes
   * qualify. The client drops known ids.
   */
  async lateBelow (place: CopiedPlace): Promise<number[]> {
    const { copies } = place
    const parts = [this.#late(place, 'e.id as id'), ...copies === null ? [] : [this.#lateCopies(place, copies, 'e.id as id')]]
    const rows = await this.#all<{ id: number }>(parts)
    return rows.map(({ id }) => Number(id)).sort((a, b) => a - b)
  }

  /** The time at which the newest event up to `id` was stored, in milliseconds since 1970; null without such an event. */
  async storedAt (id: number): Promise<number | null> {
    const { rows } = await this.#db.executeQuery<{ at: string }>(CompiledQuery.raw(
      `select ${this.#dialect === 'mysql' ? 'cast(created_at as char)' : 'created_at'} as at from websocket_events where id <= ? order by id desc limit 1`, [id]))
    return rows[0] === undefined ? null : fromSqlTime(rows[0].at)
  }

  /**
   * For each of these places, the ids up to `since` of events that were stored or published later than {@link REREAD_MS} before
   * `storedAt`, ascending. Null: more than `most`. As for a replay's late events, `LATE_PUBLISH_IDS` bounds the search.
   */
  async reread (places: ReadonlyArray<CopiedPlace & { storedAt: number }>, most: number): Promise<Array<{ id: number, isRecent: boolean }[] | null>> {
    const part = (n: number, from: string, text: string, values: unknown[]): Part => ({
      text: `select ${n} as n, id, case when created_at >= ? then 1 else 0 end as recent from (${text}) as e${n}
        where created_at >= ? or handed_at is null or handed_at >= ?`,
      values: [from, ...values, from, from]
    })
    const columns = 'id, created_at, handed_at'
    const rows = await this.#all<{ n: number, id: number, recent: number }>(places.flatMap(({ tenantId, channel, since, storedAt, copies }, n) => {
      const from = toSqlTime(storedAt - REREAD_MS)
      const range = [since, since - LATE_PUBLISH_IDS]
      const own = part(n, from, `select ${columns} from websocket_events where ${DURABLE} and id <= ? and id > ? order by id desc limit ${most + 1}`, [tenantId, channel, ...range])
      if (copies === null) return [own]
      return [own, part(n, from, `select * from (select ${columns}, event_type, channel, durable from websocket_events
        where tenant_id = ? and user_id = ? and id <= ? and id > ? order by id desc limit ${most + 1}) as own where ${isCopy(copies, 'own')}`,
      [tenantId, copies.userId, ...range, ...copies.types, channel])]
    }))
    const found = places.map((): { id: number, isRecent: boolean }[] => [])
    for (const { n, id, recent } of rows) found[Number(n)]?.push({ id: Number(id), isRecent: Number(recent) === 1 })
    return found.map((ids) => ids.length > most ? null : ids.sort((a, b) => a.id - b.id))
  }

  /** A page of each of these ranges, of at most `bytes` of payload, or of one event that is larger. */
  async pages (ranges: readonly PageRange[], bytes: number): Promise<PageRows[]> {
    return await this.#pages(ranges.map((range) => this.#range(range)), bytes, ranges.flatMap((range, n) => range.below ? [this.#below(range, n)] : []))
  }

  /** The events with these ids that belong to the channel. */
  async byIds ({ tenantId, channel, ids, copies }: PageIds, bytes: number): Promise<PageRows> {
    const copy = copies === null ? '' : ` or (user_id = ? and channel like 'private-user.%' and event_type in (${marksOf(copies.types)}))`
    const [page] = await this.#pages([{
      text: `select id, ${this.#bytes} as bytes from websocket_events
        where id in (${marksOf(ids)}) and tenant_id = ? and durable = 1 and (channel = ?${copy}) order by id limit ${PAGE_ROWS + 1}`,
      values: [...ids, tenantId, channel, ...copies === null ? [] : [copies.userId, ...copies.types]]
    }], bytes)
    return page ?? { rows: [], more: false, below: [] }
  }

  /**
   * The first page of unconfirmed events on each of these channels. Most have none, so the channels are passed as a table: each
   * costs one lookup in the index.
   */
  async waiting (channels: ReadonlyArray<Omit<Place, 'since'>>, bytes: number): Promise<PageRows[]> {
    const { rows } = await this.#db.executeQuery<PageRow>(CompiledQuery.raw(this.#cut(`
      select wanted.n as n, e.id as id, ${this.#bytes} as bytes from (${this.#tableOf(channels)}) as wanted
      cross join websocket_events as e on e.tenant_id = wanted.tenant_id and e.channel = wanted.channel
      where e.status = 'pending' order by e.id limit ${WAITING_ROWS}`, `, count(*) over () = ${WAITING_ROWS} as is_full`),
    [...channels.flatMap(({ tenantId, channel }) => [tenantId, channel]), bytes]))
    rows.sort((a, b) => Number(a.id) - Number(b.id))
    // One user's many events may have filled the statement.
    const isFull = rows.some(({ is_full: full }) => Number(full) === 1)
    return pagesOf(rows, channels.length).map((page) => ({ ...page, more: page.more || isFull }))
  }

  #tableOf (channels: readonly unknown[]): string {
    return channels.map((_, n) => `select ${n} as n, ${this.#tenantColumn} as tenant_id, ? as channel`).join(' union all ')
  }

  /** Unconfirmed events on a channel above `since`; `due`: only those that the sweeper is going to send again. */
  async waitingIds ({ tenantId, channel, since }: Place, limit: number, due: boolean): Promise<number[]> {
    const { rows } = await this.#db.executeQuery<{ id: number }>(CompiledQuery.raw(`
      select id from websocket_events
      where tenant_id = ? and status = 'pending' and channel = ? and id > ?${due ? ' and due_at is not null and handed_at is not null' : ''}
      order by id limit ${limit}`, [tenantId, channel, since]))
    return rows.map(({ id }) => Number(id))
  }

  /** Also runs parts that select only ids, within the same statement. */
  async #pages (parts: readonly Part[], bytes: number, others: readonly Part[] = []): Promise<PageRows[]> {
    const ids = parts.map(({ text }, n) => `select ${n} as n, p${n}.id as id, p${n}.bytes as bytes from (${text}) as p${n}`).join(' union all ')
    const text = [`select n, id, found, type, payload from (${this.#cut(ids)}) as pages`, ...others.map((part) => part.text)].join(' union all ')
    const { rows } = await this.#db.executeQuery<PageRow>(CompiledQuery.raw(
      `select * from (${text}) as everything order by n, id`, [...parts.flatMap(({ values }) => values), bytes, ...others.flatMap(({ values }) => values)]))
    return pagesOf(rows, parts.length)
  }

  /** The rows of these ids that fit into the page: sizes are added up before any payload is fetched. */
  #cut (ids: string, more = ''): string {
    const over = 'over (partition by n order by id)'
    return `select s.*, e.event_type as type, e.payload as payload from (
      select n, id, bytes, sum(bytes) ${over} - bytes as before_it, count(*) over (partition by n) as found${more} from (${ids}) as sized
    ) as s join websocket_events as e on e.id = s.id where s.before_it = 0 or s.before_it + s.bytes <= ?`
  }

  #range ({ kind, tenantId, channel, since, copies }: PageRange): Part {
    const order = `order by id limit ${PAGE_ROWS + 1}`
    const own = `select id, ${this.#bytes} as bytes from websocket_events where ${OF[kind]} and id > ? ${order}`
    if (copies === null) return { text: own, values: [tenantId, channel, since] }
    return {
      text: `select id, bytes from (select * from (${own}) as own union all select * from (
        select id, ${this.#bytes} as bytes from websocket_events where tenant_id = ? and user_id = ? and id > ? and durable = 1
          and channel <> ? and channel like 'private-user.%' and event_type in (${marksOf(copies.types)}) ${order}) as copies) as both_kinds ${order}`,
      values: [tenantId, channel, since, tenantId, copies.userId, since, channel, ...copies.types]
    }
  }

  #below ({ kind, tenantId, channel, since }: PageRange, n: number): Part {
    return {
      text: `select ${n}, b${n}.id, -1, null, null from (
        select id from websocket_events where ${OF[kind]} and id <= ? order by id desc limit ${BELOW_ROWS}) as b${n}`,
      values: [tenantId, channel, since]
    }
  }

  #late ({ tenantId, channel, since }: Place, columns: string): Part {
    return this.#lateAmong(`select id, origin, handed_at from websocket_events where ${DURABLE} and id < ? and id > ? order by id desc limit ${LATE_ROWS}`,
      [tenantId, channel, since, since - LATE_PUBLISH_IDS], { tenantId, since }, columns)
  }

  /** The same among the newest events of a private channel's owner. */
  #lateCopies ({ tenantId, channel, since }: Place, copies: Copies, columns: string): Part {
    return this.#lateAmong(`select own.id, own.origin, own.handed_at from (${EVENTS_OF} and id < ? and id > ? order by id desc limit ${LATE_COPY_ROWS}) as own
      where ${isCopy(copies, 'own')}`, [tenantId, copies.userId, since, since - LATE_PUBLISH_IDS, ...copies.types, channel], { tenantId, since }, columns)
  }

  #lateAmong (events: string, values: readonly unknown[], { tenantId, since }: Omit<Place, 'channel'>, columns: string): Part {
    return {
      text: `select ${columns} from (${events}
        ) as e join websocket_events as s on s.id = ? and s.tenant_id = ? and s.origin <> e.origin
        where (e.handed_at is null or e.handed_at >= ${this.#skewed})`,
      values: [...values, since, tenantId]
    }
  }

  async #all<Row> (parts: readonly Part[]): Promise<Row[]> {
    if (parts.length === 0) return []
    const { rows } = await this.#db.executeQuery<Row>(CompiledQuery.raw(
      parts.map(({ text }) => text).join(' union all '), parts.flatMap(({ values }) => values)))
    return rows
  }

  get #bytes (): string {
    return `${this.#dialect === 'mysql' ? 'octet_length(payload)' : 'length(cast(payload as blob))'} + ${ENVELOPE}`
  }

  get #skewed (): string {
    return this.#dialect === 'mysql'
      ? `s.created_at - interval ${CLOCK_SKEW_MS * 1000} microsecond`
      : `strftime('%Y-%m-%d %H:%M:%f', s.created_at, '-${CLOCK_SKEW_MS / 1000} seconds')`
  }
}

/** The types whose events are copied to their sender's channel, and that channel. */
const isCopy = ({ types }: Copies, table: string): string => `${table}.durable = 1 and ${table}.event_type in (${marksOf(types)}) and ${table}.channel <> ? and ${table}.channel like 'private-user.%'`

const marksOf = (values: readonly unknown[]): string => `?${', ?'.repeat(values.length - 1)}`

interface PageRow { n: number, id: number, found: number, type: string, payload: unknown, is_full?: number }

/** The page of each part. One row more than fits was read, to know whether there are further ones. */
function pagesOf (rows: readonly PageRow[], parts: number): PageRows[] {
  const pages = Array.from({ length: parts }, (): PageRows => ({ rows: [], more: false, below: [] }))
  for (const row of rows) {
    const page = pages[Number(row.n)]
    if (page === undefined) continue
    if (Number(row.found) < 0) {
      page.below.push(Number(row.id))
      continue
    }
    if (page.rows.length < PAGE_ROWS) page.rows.push({ id: Number(row.id), type: row.type, payload: jsonText(row.payload) })
    page.more = Number(row.found) > page.rows.length
  }
  return pages
}

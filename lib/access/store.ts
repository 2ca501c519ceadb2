import { sql, type Insertable, type Selectable } from 'kysely'
import type { Database } from '../database/dialect.js'
import type { AccessTable } from '../database/tables.js'
import { fromSqlTime, toSqlTime } from '../database/time.js'
import type { Id, Ids } from '../ids.js'

export const accessKinds = ['ban', 'unban', 'revoke', 'recheck', 'join', 'kick'] as const
export type AccessKind = typeof accessKinds[number]

/** One decision of the host, as stored in the log and sent between nodes. Times are milliseconds since 1970. */
export interface AccessEntry {
  /** Created by the node that was called: each node applies it once, and it is inserted once. */
  key: string
  kind: AccessKind
  tenantId: Id
  userId: Id | null
  channel: string | null
  tokenId: string | null
  issuedBefore: number | null
  until: number | null
  reason: string | null
  createdAt: number
}

export interface StoredAccessEntry extends AccessEntry { id: number }

/** Time for which joins, kicks, rechecks and ended bans stay in the log, for nodes that were frozen or disconnected. */
const KEEP = 24 * 3600_000
const PAGE = 1000

const plain = ['id', 'entry_key', 'kind', 'tenant_id', 'user_id', 'channel', 'token_id', 'reason'] as const
/** Times are read as text, so that no driver shifts them. */
const times = [
  sql<string | null>`cast(issued_before as char)`.as('issued_before'),
  sql<string | null>`cast(until_at as char)`.as('until_at'),
  sql<string>`cast(created_at as char)`.as('created_at')
] as const

/** The table websocket_access. */
export class AccessStore {
  readonly #db: Database
  readonly #ids: Ids

  constructor (db: Database, ids: Ids) {
    this.#db = db
    this.#ids = ids
  }

  /** Inserts an entry; repeated with the same key it does nothing. Returns its id. */
  async insert (entry: AccessEntry): Promise<number> {
    const known = await this.#idOf(entry.key)
    if (known !== null) return known
    await this.#db.insertInto('websocket_access').values(toRow(entry)).execute()
    return await this.#idOf(entry.key) ?? 0
  }

  /** A ban that an unban ended must not outlive the unban. Both are kept for a while, so that nodes know their order. */
  async #deleteBans (tenantId: Id, userId: Id, before: number): Promise<void> {
    await this.#db.deleteFrom('websocket_access').where('tenant_id', '=', tenantId).where('user_id', '=', userId)
      .where('kind', '=', 'ban').where('id', '<', before).execute()
  }

  /** Every entry with an id above `after`, oldest first. */
  async after (after: number): Promise<StoredAccessEntry[]> {
    const found: StoredAccessEntry[] = []
    for (let from = after; ;) {
      const rows = await this.#db.selectFrom('websocket_access').select([...plain, ...times]).where('id', '>', from).orderBy('id').limit(PAGE).execute()
      found.push(...rows.map((row) => toEntry(row, this.#ids)))
      if (rows.length < PAGE) return found
      from = Number(rows.at(-1)?.id)
    }
  }

  async purge (now: number): Promise<void> {
    const ended = toSqlTime(now)
    const unbans = await this.#db.selectFrom('websocket_access').select(['id', 'tenant_id', 'user_id'])
      .where('kind', '=', 'unban').where('created_at', '<', toSqlTime(now - KEEP)).execute()
    for (const { id, tenant_id: tenantId, user_id: userId } of unbans) {
      if (userId !== null) await this.#deleteBans(this.#ids.parse(tenantId), this.#ids.parse(userId), Number(id))
    }
    await this.#db.deleteFrom('websocket_access').where((eb) => eb.or([
      eb.and([eb('kind', 'in', ['unban', 'recheck', 'join', 'kick']), eb('created_at', '<', toSqlTime(now - KEEP))]),
      eb.and([eb('kind', 'in', ['ban', 'revoke']), eb('until_at', '<', ended), eb('created_at', '<', toSqlTime(now - KEEP))])
    ])).execute()
  }

  async #idOf (key: string): Promise<number | null> {
    const row = await this.#db.selectFrom('websocket_access').select('id').where('entry_key', '=', key).executeTakeFirst()
    return row === undefined ? null : Number(row.id)
  }
}

const timeOrNull = (ms: number | null): string | null => ms === null ? null : toSqlTime(ms)
const msOrNull = (text: string | null): number | null => text === null ? null : fromSqlTime(text)

const toRow = (entry: AccessEntry): Insertable<AccessTable> => ({
  entry_key: entry.key,
  kind: entry.kind,
  tenant_id: entry.tenantId,
  user_id: entry.userId,
  channel: entry.channel,
  token_id: entry.tokenId,
  issued_before: timeOrNull(entry.issuedBefore),
  until_at: timeOrNull(entry.until),
  reason: entry.reason,
  created_at: toSqlTime(entry.createdAt)
})

type Row = Pick<Selectable<AccessTable>, typeof plain[number]> & { issued_before: string | null, until_at: string | null, created_at: string }

const toEntry = (row: Row, ids: Ids): StoredAccessEntry => ({
  id: Number(row.id),
  key: row.entry_key,
  kind: row.kind,
  tenantId: ids.parse(row.tenant_id),
  userId: row.user_id === null ? null : ids.parse(row.user_id),
  channel: row.channel,
  tokenId: row.token_id,
  issuedBefore: msOrNull(row.issued_before),
  until: msOrNull(row.until_at),
  reason: row.reason,
  createdAt: fromSqlTime(row.created_at)
})

import type { FastifyBaseLogger } from 'fastify'
import { sql } from 'kysely'
import type { Clock } from '../../lib/clock.js'
import { fromSqlTime, toSqlTime } from '../../lib/database/time.js'
import { upsert } from '../../lib/database/upsert.js'
import { WriteBehind } from '../../lib/database/write-behind.js'
import type { Id, Ids } from '../../lib/ids.js'
import { userKey, type UserRef } from '../../lib/keys.js'
import type { StorageAccess } from '../../lib/resources.js'
import type { Device, PresenceStatus } from '../../lib/schemas.js'

export interface PresenceRecord {
  tenantId: Id
  userId: Id
  status: PresenceStatus
  device: Device
  lastMessage: string | null
  awaySince: number | null
  seenAt: number
}

/**
 * websocket_presence: one row per user, written behind, and read only for users who are not online. websocket_invisible:
 * invisible users, written before it takes effect.
 */
export class PresenceStore {
  readonly #rows: WriteBehind<PresenceRecord>
  readonly #storage: StorageAccess
  readonly #ids: Ids

  constructor (storage: StorageAccess, ids: Ids, clock: Clock, log: FastifyBaseLogger) {
    this.#ids = ids
    this.#storage = storage
    const { db, dialect } = storage
    this.#rows = new WriteBehind({
      name: 'presence',
      log,
      key: ({ tenantId, userId }) => userKey(tenantId, userId),
      write: async (records) => {
        const now = toSqlTime(clock.now())
        await upsert(db, dialect, 'websocket_presence', records.map((record) => ({
          tenant_id: record.tenantId,
          user_id: record.userId,
          status: record.status,
          device: record.device,
          last_message: record.lastMessage,
          away_since: record.awaySince === null ? null : toSqlTime(record.awaySince),
          last_seen_at: toSqlTime(record.seenAt),
          created_at: now,
          updated_at: now
        })), {
          keys: ['tenant_id', 'user_id'],
          update: ['status', 'device', 'last_message', 'away_since', 'last_seen_at', 'updated_at']
        })
      }
    })
    storage.behind.push(this.#rows)
  }

  put (record: PresenceRecord): void {
    this.#rows.put(record)
  }

  /** When these users were last seen, and on which device; users who were never seen are left out. */
  async lastSeen (tenantId: Id, userIds: Id[]): Promise<Map<Id, { device: Device, seenAt: number }>> {
    const found = new Map<Id, { device: Device, seenAt: number }>()
    if (userIds.length === 0) return found
    const { db, ask } = this.#storage
    const rows = await ask(async () => await db.selectFrom('websocket_presence')
      .select(['user_id', 'device', sql<string>`cast(last_seen_at as char)`.as('seen_at')])
      .where('tenant_id', '=', tenantId).where('user_id', 'in', userIds).execute())
    for (const row of rows) {
      found.set(this.#ids.parse(row.user_id), { device: (row.device ?? 'web') as Device, seenAt: fromSqlTime(row.seen_at) })
    }
    for (const userId of userIds) {
      const waiting = this.#rows.peek(userKey(tenantId, userId))
      if (waiting !== undefined) found.set(userId, waiting)
    }
    return found
  }

  /** All invisible users, or the invisible users of some tenants. */
  async invisible (tenantIds?: readonly Id[]): Promise<Array<UserRef & { since: number }>> {
    const { db, ask } = this.#storage
    const all = db.selectFrom('websocket_invisible').select(['tenant_id', 'user_id', 'since'])
    const rows = await ask(async () => await (tenantIds === undefined ? all : all.where('tenant_id', 'in', tenantIds)).execute())
    return rows.map((row) => ({ tenantId: this.#ids.parse(row.tenant_id), userId: this.#ids.parse(row.user_id), since: Number(row.since) }))
  }

  async isInvisible (tenantId: Id, userId: Id): Promise<boolean> {
    const { db, ask } = this.#storage
    const row = await ask(async () => await db.selectFrom('websocket_invisible').select('since')
      .where('tenant_id', '=', tenantId).where('user_id', '=', userId).executeTakeFirst())
    return row !== undefined
  }

  /** The user is invisible from now on. Rejects with `RT_STORAGE_UNAVAILABLE`. */
  async hide (tenantId: Id, userId: Id, since: number): Promise<void> {
    const { db, dialect, ask } = this.#storage
    await ask(async () => {
      await upsert(db, dialect, 'websocket_invisible', [{ tenant_id: tenantId, user_id: userId, since }], { keys: ['tenant_id', 'user_id'], update: ['since'] })
    })
  }

  async unhide (tenantId: Id, userId: Id): Promise<void> {
    const { db, ask } = this.#storage
    await ask(async () => {
      await db.deleteFrom('websocket_invisible').where('tenant_id', '=', tenantId).where('user_id', '=', userId).execute()
    })
  }

  async close (): Promise<void> {
    await this.#rows.close()
  }
}

import type { FastifyBaseLogger } from 'fastify'
import type { Clock } from '../../lib/clock.js'
import type { Database } from '../../lib/database/dialect.js'
import { toSqlTime } from '../../lib/database/time.js'
import { upsert } from '../../lib/database/upsert.js'
import { WriteBehind } from '../../lib/database/write-behind.js'
import type { StorageAccess } from '../../lib/resources.js'
import type { TypingEntry } from '../../lib/roster/contract.js'
import { CHUNK, inChunks, type Purge } from '../../lib/upkeep/maintenance.js'

interface TypingRecord { entry: TypingEntry, isTyping: boolean, expiresAt: number }

/** websocket_typing_indicators: written behind at starts and stops, never per keystroke. The roster knows who types now. */
export class TypingStore {
  readonly #rows: WriteBehind<TypingRecord>

  constructor ({ db, dialect, behind }: StorageAccess, clock: Clock, log: FastifyBaseLogger) {
    this.#rows = new WriteBehind({
      name: 'typing',
      log,
      key: ({ entry }) => `${entry.tenantId}/${entry.userId}/${entry.conversationId}`,
      write: async (records) => {
        const now = toSqlTime(clock.now())
        await upsert(db, dialect, 'websocket_typing_indicators', records.map(({ entry, isTyping, expiresAt }) => ({
          tenant_id: entry.tenantId,
          user_id: entry.userId,
          conversation_id: entry.conversationId,
          conversation_type: entry.conversationType,
          is_typing: isTyping ? 1 : 0,
          started_at: toSqlTime(entry.startedAt),
          expires_at: toSqlTime(expiresAt),
          created_at: now,
          updated_at: now
        })), {
          keys: ['tenant_id', 'user_id', 'conversation_id'],
          update: ['conversation_type', 'is_typing', 'started_at', 'expires_at', 'updated_at']
        })
      }
    })
    behind.push(this.#rows)
  }

  put (record: TypingRecord): void {
    this.#rows.put(record)
  }

  async close (): Promise<void> {
    await this.#rows.close()
  }
}

/** Purges rows of typing that expired without a written stop. */
export const typingPurge = (db: Database, clock: Clock): Purge => ({
  name: 'typing',
  run: async () => {
    const before = toSqlTime(clock.now())
    return await inChunks(
      async () => await db.selectFrom('websocket_typing_indicators').select('id').where('expires_at', '<', before).limit(CHUNK).execute(),
      async (ids) => { await db.deleteFrom('websocket_typing_indicators').where('id', 'in', ids).where('expires_at', '<', before).execute() }
    )
  }
})

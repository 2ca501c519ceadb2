import type { FastifyBaseLogger } from 'fastify'
import type { Clock } from '../../lib/clock.js'
import { jsonText, type Database } from '../../lib/database/dialect.js'
import { toSqlTime } from '../../lib/database/time.js'
import { upsert } from '../../lib/database/upsert.js'
import { WriteBehind } from '../../lib/database/write-behind.js'
import type { Id } from '../../lib/ids.js'
import { connectionKey, type ConnectionKey } from '../../lib/keys.js'
import type { StorageAccess } from '../../lib/resources.js'
import { CHUNK, inChunks, type Purge } from '../../lib/upkeep/maintenance.js'
import type { ClientDescription, Session } from './session.js'

/** A connection as stored in the history. */
export interface ConnectionRecord {
  tenantId: Id
  userId: Id
  connectionId: string
  sessionId: string | null
  browser: string | null
  deviceType: string | null
  ipAddress: string | null
  channels: string[]
  status: 'connected' | 'disconnected'
  connectedAt: number
  lastActivityAt: number
  nodeId: string | null
}

interface Gone { tenantId: Id, connectionId: string, at: number }

/** websocket_connections: history, written behind and coalesced. The roster knows who is connected now. */
export class ConnectionStore {
  readonly #rows: WriteBehind<ConnectionRecord>
  readonly #gone: WriteBehind<Gone>
  readonly #storage: StorageAccess
  readonly #clock: Clock
  readonly #nodeId: string

  constructor (storage: StorageAccess, nodeId: string, clock: Clock, log: FastifyBaseLogger) {
    this.#nodeId = nodeId
    this.#clock = clock
    this.#storage = storage
    this.#rows = new WriteBehind<ConnectionRecord>({ name: 'connection', log, key: keyOf, write: async (rows) => { await this.#write(rows) } })
    this.#gone = new WriteBehind<Gone>({ name: 'disconnection', log, key: keyOf, write: async (rows) => { await this.#writeGone(rows) } })
    storage.behind.push(this.#rows, this.#gone)
  }

  put (record: ConnectionRecord): void {
    // Only REST connect knows the session id, a socket does not.
    record.sessionId ??= this.#rows.peek(keyOf(record))?.sessionId ?? null
    this.#rows.put(record)
  }

  /** Writes the connection of a socket of this node, with its current channels. */
  putSession (session: Session, client: ClientDescription, channels: string[], status: ConnectionRecord['status']): void {
    this.put({
      tenantId: session.identity.tenantId,
      userId: session.identity.userId,
      connectionId: session.connectionId,
      sessionId: null,
      browser: client.browser,
      deviceType: client.device,
      ipAddress: client.ipAddress,
      channels,
      status,
      connectedAt: session.connectedAt,
      lastActivityAt: this.#clock.now(),
      nodeId: this.#nodeId
    })
  }

  /** Marks the row of a connection without a socket as disconnected, written behind. */
  markDisconnected (tenantId: Id, connectionId: string, at: number): void {
    this.#gone.put({ tenantId, connectionId, at })
  }

  /** The addresses from which connections were registered or opened, if they are known and the database responds. */
  async addresses (tenantId: Id, connectionIds: readonly string[]): Promise<Map<string, string | null>> {
    const rows = await this.#storage.db.selectFrom('websocket_connections').select(['connection_id', 'ip_address'])
      .where('tenant_id', '=', tenantId).where('connection_id', 'in', connectionIds).execute().catch(() => [])
    const found = new Map(rows.map((row) => [row.connection_id, row.ip_address]))
    for (const connectionId of connectionIds) {
      const waiting = this.#rows.peek(keyOf({ tenantId, connectionId }))
      if (waiting !== undefined) found.set(connectionId, waiting.ipAddress)
    }
    return found
  }

  /** The last channels of an ended connection of this user, if they are known and the database responds. */
  async channelsOf (tenantId: Id, userId: Id, connectionId: string): Promise<readonly string[]> {
    const waiting = this.#rows.peek(keyOf({ tenantId, connectionId }))
    if (waiting !== undefined) return waiting.userId === userId ? waiting.channels : []
    const row = await this.#storage.db.selectFrom('websocket_connections').select('subscribed_channels')
      .where('tenant_id', '=', tenantId).where('connection_id', '=', connectionId).where('user_id', '=', userId).executeTakeFirst().catch(() => undefined)
    return row === undefined ? [] : JSON.parse(jsonText(row.subscribed_channels)) as string[]
  }

  async close (): Promise<void> {
    await this.#rows.close()
    await this.#gone.close()
  }

  async #writeGone (gone: Gone[]): Promise<void> {
    // Otherwise an older row could overwrite this one.
    await this.#rows.drain()
    for (const { tenantId, connectionId, at } of gone) {
      const time = toSqlTime(at)
      await this.#storage.db.updateTable('websocket_connections')
        .set({ status: 'disconnected', disconnected_at: time, updated_at: time })
        .where('tenant_id', '=', tenantId).where('connection_id', '=', connectionId).where('connected_at', '<=', time).execute()
    }
  }

  async #write (records: ConnectionRecord[]): Promise<void> {
    const now = toSqlTime(this.#clock.now())
    const rows = records.map((record) => ({
      tenant_id: record.tenantId,
      user_id: record.userId,
      connection_id: record.connectionId,
      session_id: record.sessionId,
      browser: record.browser,
      device_type: record.deviceType,
      ip_address: record.ipAddress,
      subscribed_channels: JSON.stringify(record.channels),
      status: record.status,
      connected_at: toSqlTime(record.connectedAt),
      last_activity_at: toSqlTime(record.lastActivityAt),
      disconnected_at: record.status === 'disconnected' ? toSqlTime(record.lastActivityAt) : null,
      created_at: now,
      updated_at: now,
      node_id: record.nodeId ?? ''
    }))
    const keys = ['tenant_id', 'connection_id'] as const
    const update = ['user_id', 'browser', 'device_type', 'ip_address', 'subscribed_channels', 'status', 'connected_at',
      'last_activity_at', 'disconnected_at', 'updated_at', 'node_id'] as const
    const named = rows.filter(({ session_id }) => session_id !== null)
    const unnamed = rows.filter(({ session_id }) => session_id === null)
    const { db, dialect } = this.#storage
    await upsert(db, dialect, 'websocket_connections', named,
      { keys: [...keys], update: [...update, 'session_id'], newest: 'connected_at' })
    await upsert(db, dialect, 'websocket_connections', unnamed, { keys: [...keys], update: [...update], newest: 'connected_at' })
  }
}

/** Purges disconnected connections past the retention, and marks connections of dead nodes, which the roster has already removed, as disconnected. */
export const connectionPurge = (db: Database, clock: Clock): Purge => ({
  name: 'connections',
  run: async ({ before, aliveNodes }) => {
    const purged = await inChunks(
      async () => await db.selectFrom('websocket_connections').select('id')
        .where('status', '=', 'disconnected').where('last_activity_at', '<', before).limit(CHUNK).execute(),
      async (ids) => { await db.deleteFrom('websocket_connections').where('id', 'in', ids).execute() }
    )
    if (aliveNodes === null) return purged
    const now = toSqlTime(clock.now())
    const alive = ['', ...aliveNodes]
    await inChunks(
      async () => await db.selectFrom('websocket_connections').select('id')
        .where('status', '=', 'connected').where('node_id', 'not in', alive).limit(CHUNK).execute(),
      async (ids) => {
        await db.updateTable('websocket_connections').set({ status: 'disconnected', disconnected_at: now, updated_at: now })
          .where('id', 'in', ids).where('node_id', 'not in', alive).execute()
      }
    )
    return purged
  }
})

const keyOf = ({ tenantId, connectionId }: Pick<ConnectionRecord, 'tenantId' | 'connectionId'>): ConnectionKey => connectionKey(tenantId, connectionId)

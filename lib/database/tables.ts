import type { ColumnType, Generated } from 'kysely'
import type { Id } from '../ids.js'

/**
 * The tables as Kysely sees them. Times are UTC text, `YYYY-MM-DD HH:MM:SS.mmm`, in and out (see time.ts): neither the
 * session's time zone nor the driver's can then shift them. JSON goes in as text; it comes out as text from MariaDB and
 * SQLite and parsed from MySQL, so that it is read through `jsonText` or `jsonValue` only.
 */

export type EventStatus = 'pending' | 'delivered' | 'failed'

type Json = ColumnType<unknown, string, string>

export interface EventsTable {
  id: Generated<number>
  tenant_id: Id
  user_id: Id
  event_type: string
  channel: string
  payload: Json
  status: EventStatus
  retry_count: Generated<number>
  error_message: string | null
  created_at: string
  updated_at: string
  /** 1: recovered with `since`; 0: the audit row of an ephemeral event. */
  durable: number
  /** The client's key, or one of the node's: makes a repeated insert harmless. */
  dedupe_id: string | null
  /** Boot id of the node that accepted it. */
  origin: string
  /** When the sweeper must process the row; null: never again. */
  due_at: string | null
  /** When it was published to all nodes; null: not yet. */
  handed_at: string | null
}

export interface ConnectionsTable {
  id: Generated<number>
  tenant_id: Id
  user_id: Id
  connection_id: string
  session_id: string | null
  browser: string | null
  device_type: string | null
  ip_address: string | null
  subscribed_channels: Json
  status: 'connected' | 'disconnected'
  connected_at: string
  last_activity_at: string
  disconnected_at: string | null
  created_at: string
  updated_at: string
  /** Boot id of the node that holds the socket; empty without one. */
  node_id: string
}

export interface TypingTable {
  id: Generated<number>
  tenant_id: Id
  user_id: Id
  conversation_id: string
  conversation_type: string
  is_typing: number
  started_at: string
  expires_at: string
  created_at: string
  updated_at: string
}

export interface PresenceTable {
  id: Generated<number>
  tenant_id: Id
  user_id: Id
  status: string
  device: string | null
  last_message: string | null
  away_since: string | null
  last_seen_at: string
  created_at: string
  updated_at: string
}

/** A user who is invisible to others, until the user sets another status. */
export interface InvisibleTable {
  id: Generated<number>
  tenant_id: Id
  user_id: Id
  /** When others saw the user last, in milliseconds since 1970; 0: never. */
  since: number
}

/** The id up to which events of a channel were purged: a client that resumes from a lower one may have missed events. */
export interface ChannelFloorsTable {
  tenant_id: Id
  channel: string
  purged_id: number
}

/** One fact about this database per row: see migrations/003-meta.ts. */
export interface MetaTable {
  name: string
  value: string
}

/** One decision of the host about live connections: see lib/access/store.ts. */
export interface AccessTable {
  id: Generated<number>
  /** Unique, created by the node that was called: a repeated insert changes nothing. */
  entry_key: string
  kind: 'ban' | 'unban' | 'revoke' | 'recheck' | 'join' | 'kick'
  tenant_id: Id
  user_id: Id | null
  channel: string | null
  token_id: string | null
  issued_before: string | null
  until_at: string | null
  reason: string | null
  created_at: string
}

export interface Tables {
  websocket_events: EventsTable
  websocket_connections: ConnectionsTable
  websocket_typing_indicators: TypingTable
  websocket_presence: PresenceTable
  websocket_channel_floors: ChannelFloorsTable
  websocket_meta: MetaTable
  websocket_access: AccessTable
  websocket_invisible: InvisibleTable
}

import type { Id } from '../ids.js'
import type { ChannelKey } from '../keys.js'

/** Milliseconds by which the clocks of nodes, and the times in the table, may differ. */
export const CLOCK_SKEW_MS = 1000

/**
 * Ids below a position among which late events are searched: a node that could not reach Redis publishes its events long after
 * they were stored.
 */
export const LATE_PUBLISH_IDS = 100_000

/** How long before a cursor the events of a stream are read again, in milliseconds: the clocks' differences are part of it. */
export const REREAD_MS = 15_000

/** With more events than this after `since`, the client must reload instead. */
export const MAX_REPLAY = 1000

/** A durable event that is not stored yet. */
export interface NewEvent {
  tenantId: Id
  userId: Id
  channel: string
  /** The name of the frame that carries it, e.g. `message:group`. */
  type: string
  /** The frame's data without `messageId`. */
  data: Record<string, unknown>
  /** When it was sent, in milliseconds since 1970; by default now. */
  createdAt?: number
  /** The connection that sent it and does not get it. */
  excludeConnectionId?: string | null
  /** A key of the client, so that a repeated send is stored once. */
  dedupeId?: string | undefined
  /** The change to an earlier message, applied in the same transaction. */
  change?: Change
}

/** An event that edits or deletes a message (`message:edited`, `message:deleted`). */
export interface Change {
  targetId: number
  /** The new content; without `data` the message keeps its data. Null deletes the message. */
  content: { message: string, data?: Record<string, unknown> | null | undefined } | null
}

/** Properties of all events of a type, defined by the plugin that sends them. */
export interface EventType {
  /** Stays pending until its one recipient confirms it with `message:delivered`, and is sent again until then. */
  requiresConfirmation?: boolean
  /** On a user's private channel: also published on the sender's, for the sender's other connections. */
  copyToSender?: boolean
}

/** The sender's result: the id, and the time as in the frame. */
export interface Receipt {
  messageId: number
  timestamp: string
}

/** A stored event, for recovery and retries. */
export interface StoredEvent {
  id: number
  tenantId: Id
  userId: Id
  channel: string
  type: string
  /** JSON of the frame's data without `messageId`. */
  payload: string
  retryCount: number
  /** When it was published to all nodes, in milliseconds since 1970; null if it is not known to be. */
  publishedAt: number | null
  /** It was stored by a transaction of the host. */
  isFromHost: boolean
}

/** An event that the sweeper processes. */
export interface DueEvent extends StoredEvent {
  /** Milliseconds since 1970. */
  createdAt: number
  /** The lifecycle event `waiting` was emitted. */
  isAnnounced: boolean
  /** Why it was given up, while `failed` is not emitted yet; null: not given up. */
  failure: string | null
}

/** Groups events by the channels on which they are published, and keeps their order. */
export function byChannel (events: readonly StoredEvent[], keysOf: (event: StoredEvent) => ChannelKey[]): Map<ChannelKey, StoredEvent[]> {
  const found = new Map<ChannelKey, StoredEvent[]>()
  for (const event of events) {
    for (const key of keysOf(event)) {
      const known = found.get(key)
      if (known === undefined) found.set(key, [event])
      else known.push(event)
    }
  }
  return found
}

/** A user confirms an event on the user's private channel. */
export interface Confirmation { tenantId: Id, userId: Id, id: number }

/** `fresh`: confirmed for the first time. */
export interface Confirmed extends Confirmation { senderId: Id, fresh: boolean }

/** The newest event that a node knows. Its id, and all smaller ones, were assigned. */
export interface LogPosition {
  epoch: string
  id: number
  /** When that event was stored, in milliseconds since 1970; null if only its id is known. */
  createdAt: number | null
}

/**
 * The newest position that any node knows, stored outside the database and the nodes. `keep` stores `mine` if it is newer, and
 * resolves with the newest; null without such a store.
 */
export interface PositionNote {
  keep (mine: LogPosition): Promise<LogPosition | null>
}

/** A page of a channel's events. `recovered`: false if earlier events were purged and the client must reload. */
export interface Recovery {
  events: StoredEvent[]
  /** The largest id of the page, or `since` for an empty page: the next `since`. */
  position: number
  recovered: boolean
  more: boolean
}

import { channelKey, type ChannelKey } from '../keys.js'

/** Milliseconds by which the clocks of nodes, and the times in the table, may differ. */
export const CLOCK_SKEW_MS = 1000

/**
 * Ids below a position among which late events are searched: a node that could not reach Redis publishes its events long after
 * they were stored.
 */
export const LATE_PUBLISH_IDS = 100_000

/** With more events than this after `since`, the client must reload instead. */
export const MAX_REPLAY = 1000

/** A durable event that is not stored yet. */
export interface NewEvent {
  tenantId: number
  userId: number
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
}

/** Properties of all events of a type, defined by the plugin that sends them. */
export interface EventType {
  /** Stays pending until its one recipient confirms it with `message:delivered`, and is sent again until then. */
  requiresConfirmation?: boolean
  /** Also published on the sender's private channel, for the sender's other connections. */
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
  tenantId: number
  userId: number
  channel: string
  type: string
  /** JSON of the frame's data without `messageId`. */
  payload: string
  retryCount: number
  /** When it was published to all nodes, in milliseconds since 1970; null if it is not known to be. */
  publishedAt: number | null
}

/** Groups events by channel and keeps their order. */
export function byChannel (events: readonly StoredEvent[]): Map<ChannelKey, StoredEvent[]> {
  const found = new Map<ChannelKey, StoredEvent[]>()
  for (const event of events) {
    const key = channelKey(event.tenantId, event.channel)
    const known = found.get(key)
    if (known === undefined) found.set(key, [event])
    else known.push(event)
  }
  return found
}

/** A user confirms an event on the user's private channel. */
export interface Confirmation { tenantId: number, userId: number, id: number }

/** `fresh`: confirmed for the first time. */
export interface Confirmed extends Confirmation { senderId: number, fresh: boolean }

/** The newest event that a node knows. Its id, and all smaller ones, were assigned. */
export interface LogPosition {
  epoch: string
  id: number
  /** When that event was stored, in milliseconds since 1970; null if only its id is known. */
  createdAt: number | null
}

/**
 * The newest position that any node knows, stored where it outlives the database and all nodes. `keep` stores `mine` if it is
 * newer, and resolves with the newest; null if there is no such store.
 */
export interface PositionNote {
  keep (mine: LogPosition): Promise<LogPosition | null>
}

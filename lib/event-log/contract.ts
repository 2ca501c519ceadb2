import type { Id } from '../ids.js'
import { channelKey, type ChannelKey } from '../keys.js'

/** More events than this between `since` and now, and the client must reload instead. */
export const MAX_REPLAY = 1000

/** An event that must not be lost, before it is stored. */
export interface NewEvent {
  tenantId: Id
  userId: Id
  channel: string
  /** The name of the frame that carries it, e.g. `message:group`. */
  type: string
  /** The frame's data without `messageId`. */
  data: Record<string, unknown>
  /** When it was sent, in milliseconds since 1970; now, unless several share one time. */
  createdAt?: number
  /** The connection that sent it and must not get it back. */
  excludeConnectionId?: string | null
  /** The client's key against storing the same thing twice. */
  dedupeId?: string | undefined
}

/** What holds for every event of a type; declared once by the plugin that sends it. */
export interface EventType {
  /** Stays pending until its one recipient confirms it with `message:delivered`, and is sent again until then. */
  requiresConfirmation?: boolean
  /** Also tells the sender's own private channel, for the sender's other connections. */
  copyToSender?: boolean
}

/** What the sender is told: the id, and the time as it stands in the frame. */
export interface Receipt {
  messageId: number
  timestamp: string
}

/** A stored event, as recovery and retries need it. */
export interface StoredEvent {
  id: number
  tenantId: Id
  userId: Id
  channel: string
  type: string
  /** JSON of the frame's data without `messageId`. */
  payload: string
  retryCount: number
  /** When it was handed to every node, in milliseconds since 1970; null: not yet. */
  publishedAt: number | null
}

/** Each channel's own, in the order given. */
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

/** A user has an event on the user's own channel. */
export interface Confirmation { tenantId: Id, userId: Id, id: number }

/** `fresh` the first time. */
export interface Confirmed extends Confirmation { senderId: Id, fresh: boolean }

/** The newest event that a node knows of. Its id, and all below it, were given out. */
export interface LogPosition {
  epoch: string
  id: number
  /** When that event was stored, in milliseconds since 1970; null where only its id is known. */
  createdAt: number | null
}

/**
 * The newest position that any node knows, noted where it outlives this database and every node. `keep` notes `mine` where
 * it is newer, and resolves to the newest of all; null where nothing is kept.
 */
export interface PositionNote {
  keep (mine: LogPosition): Promise<LogPosition | null>
}

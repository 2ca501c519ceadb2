import { EventEmitter } from 'node:events'
import type { StoredEvent } from './event-log/contract.js'
import type { LocalConnection } from './frame-router.js'
import type { Entry, Presence, TypingEntry } from './roster/contract.js'

interface UserOfTenant { tenantId: number, userId: number }

/**
 * What happens, for host code and between plugins: `fastify.realtime.events.on('online', …)`. Each is emitted on the node
 * where it was found, once over all nodes.
 */
export interface LifecycleEvents {
  /** A connection was registered, with a socket or without. */
  connected: [UserOfTenant & { connectionId: string }]
  disconnected: [UserOfTenant & { connectionId: string }]
  /** A socket on this node is authenticated and was told so. */
  opened: [LocalConnection]
  /** A user's first connection; `connectionId` is the one that brought it. */
  online: [UserOfTenant & { connectionId: string | null }]
  /** The last connection is gone for longer than the grace. */
  offline: [UserOfTenant]
  presence: [UserOfTenant & { presence: Presence }]
  typing: [{ entry: TypingEntry, isTyping: boolean }]
  /** Typing ran out; the typing plugin tells it. */
  typingExpired: [TypingEntry]
  /** Connections without a socket that were not heard of; the connections plugin ends them. */
  lapsed: [Entry]
  /** A durable event was accepted. */
  message: [UserOfTenant & { messageId: number, type: string, channel: string, data: Record<string, unknown> }]
  /** A recipient confirmed an event. */
  delivered: [UserOfTenant & { messageId: number, senderId: number }]
  /** An event was given up. */
  failed: [StoredEvent]
}

export type Lifecycle = EventEmitter<LifecycleEvents>

export const createLifecycle = (): Lifecycle => new EventEmitter<LifecycleEvents>()

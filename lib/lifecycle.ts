import type { FastifyBaseLogger } from 'fastify'
import type { StoredEvent } from './event-log/contract.js'
import type { LocalConnection } from './frame-router.js'
import type { Displaced, Entry, Presence, TypingEntry } from './roster/contract.js'

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
  /** The last connection is gone for longer than the grace. `presence` is what the user showed last, where that is known. */
  offline: [UserOfTenant & { presence: Presence | null }]
  presence: [UserOfTenant & { presence: Presence }]
  typing: [{ entry: TypingEntry, isTyping: boolean }]
  /** Typing ran out; the typing plugin tells it. */
  typingExpired: [TypingEntry]
  /** Connections without a socket that were not heard of; the connections plugin ends them. */
  lapsed: [Entry]
  /** Connections that lost their place to another one with the same id; the connections plugin closes them. */
  displaced: [Displaced]
  /** A durable event was accepted. */
  message: [UserOfTenant & { messageId: number, type: string, channel: string, data: Record<string, unknown> }]
  /** A recipient confirmed an event. */
  delivered: [UserOfTenant & { messageId: number, senderId: number }]
  /** A live connection showed newer credentials; the channels plugin asks `authorize` again. */
  renewed: [LocalConnection]
  /** A user was banned: `until` in milliseconds since 1970, null: until unbanned. Emitted on every node. */
  banned: [UserOfTenant & { until: number | null, reason: string | null }]
  /** Credentials were revoked, those of a user or of one `tokenId`. Emitted on every node. */
  revoked: [{ tenantId: number, userId: number | null, tokenId: string | null, until: number | null }]
  /** A connection of this node lost a channel by `kick` or a recheck. */
  evicted: [UserOfTenant & { connectionId: string, channel: string }]
  /** An event was given up. */
  failed: [StoredEvent]
}

type Listener<Event extends keyof LifecycleEvents> = (...args: LifecycleEvents[Event]) => unknown

/** A listener that throws is logged and harms nobody else: it is the host's code in the suite's path. */
export class Lifecycle {
  /** Never changed in place: whoever is told of an event now is not told less by a listener that leaves meanwhile. */
  readonly #listeners: { [Event in keyof LifecycleEvents]?: ReadonlyArray<Listener<Event>> } = {}
  readonly #log: Pick<FastifyBaseLogger, 'error'>

  constructor (log: Pick<FastifyBaseLogger, 'error'>) {
    this.#log = log
  }

  on<Event extends keyof LifecycleEvents> (event: Event, listener: Listener<Event>): this {
    return this.#set(event, [...this.#of(event), listener])
  }

  off<Event extends keyof LifecycleEvents> (event: Event, listener: Listener<Event>): this {
    const listeners = this.#of(event)
    const at = listeners.indexOf(listener)
    return at < 0 ? this : this.#set(event, listeners.toSpliced(at, 1))
  }

  emit<Event extends keyof LifecycleEvents> (event: Event, ...args: LifecycleEvents[Event]): void {
    for (const listener of this.#of(event)) {
      try {
        const outcome = listener(...args)
        if (outcome instanceof Promise) outcome.catch((err: unknown) => { this.#failed(event, err) })
      } catch (err) {
        this.#failed(event, err)
      }
    }
  }

  #of<Event extends keyof LifecycleEvents> (event: Event): ReadonlyArray<Listener<Event>> {
    return this.#listeners[event] ?? []
  }

  #set<Event extends keyof LifecycleEvents> (event: Event, listeners: ReadonlyArray<Listener<Event>>): this {
    Object.assign(this.#listeners, { [event]: listeners })
    return this
  }

  #failed (event: string, err: unknown): void {
    this.#log.error({ err, event }, 'a lifecycle listener failed')
  }
}

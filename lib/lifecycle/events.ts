import type { FastifyBaseLogger } from 'fastify'
import type { LocalConnection } from '../delivery/connection.js'
import type { StoredEvent } from '../event-log/contract.js'
import type { Id } from '../ids.js'
import type { Displaced, RosterConnection, Presence, TypingEntry } from '../roster/contract.js'

interface UserOfTenant { tenantId: Id, userId: Id }

/**
 * What happens, for host code and between plugins: `fastify.realtime.events.on('online', …)`. Each is emitted on the node
 * where it was found, once over all nodes.
 */
export interface LifecycleEvents {
  /** A connection was registered, with a socket or without. */
  connected: [UserOfTenant & { connectionId: string }]
  disconnected: [UserOfTenant & { connectionId: string }]
  /** A user's first connection; `connectionId` is the one that brought it. */
  online: [UserOfTenant & { connectionId: string | null }]
  /** The last connection is gone for longer than the grace. `presence` is what the user showed last, where that is known. */
  offline: [UserOfTenant & { presence: Presence | null }]
  presence: [UserOfTenant & { presence: Presence }]
  typing: [{ entry: TypingEntry, isTyping: boolean }]
  /** Connections that lost their place to another one with the same id; the connections plugin closes them. */
  displaced: [Displaced]
  /** A durable event was accepted. */
  message: [UserOfTenant & { messageId: number, type: string, channel: string, data: Record<string, unknown> }]
  /** A recipient confirmed an event. */
  delivered: [UserOfTenant & { messageId: number, senderId: Id }]
  /** An event was given up. */
  failed: [StoredEvent]
}

/** What the plugins tell each other besides; hosts do not see it. */
export interface InternalEvents extends LifecycleEvents {
  /** A socket on this node is authenticated and was told so. */
  opened: [LocalConnection]
  /** Typing ran out; the typing plugin tells it. */
  typingExpired: [TypingEntry]
  /** Connections without a socket that were not heard of; the connections plugin ends them. */
  connectionExpired: [RosterConnection]
}

type PublicListener<Event extends keyof LifecycleEvents> = (...args: LifecycleEvents[Event]) => unknown

/** Lifecycle events for host code. A listener that throws or rejects is logged. */
export interface RealtimeEvents {
  on<Event extends keyof LifecycleEvents> (event: Event, listener: PublicListener<Event>): void
  /** Calls the listener for the next event alone. */
  once<Event extends keyof LifecycleEvents> (event: Event, listener: PublicListener<Event>): void
  off<Event extends keyof LifecycleEvents> (event: Event, listener: PublicListener<Event>): void
}

type Listener<Event extends keyof InternalEvents> = (...args: InternalEvents[Event]) => unknown

/** A listener that throws is logged and harms nobody else: it is the host's code in the suite's path. */
export class LifecycleBus {
  /** Never changed in place: whoever is told of an event now is not told less by a listener that leaves meanwhile. */
  readonly #listeners: { [Event in keyof InternalEvents]?: ReadonlyArray<Listener<Event>> } = {}
  readonly #log: Pick<FastifyBaseLogger, 'error'>
  /** What was given to `once` → what listens in its place. */
  readonly #once = new WeakMap<object, unknown>()

  constructor (log: Pick<FastifyBaseLogger, 'error'>) {
    this.#log = log
  }

  on<Event extends keyof InternalEvents> (event: Event, listener: Listener<Event>): this {
    return this.#set(event, [...this.#of(event), listener])
  }

  /** Calls the listener for the next event alone. */
  once<Event extends keyof InternalEvents> (event: Event, listener: Listener<Event>): this {
    const first: Listener<Event> = (...args) => {
      this.off(event, first)
      return listener(...args)
    }
    this.#once.set(listener, first)
    return this.on(event, first)
  }

  off<Event extends keyof InternalEvents> (event: Event, listener: Listener<Event>): this {
    const listeners = this.#of(event)
    const at = listeners.findIndex((one) => one === listener || one === this.#once.get(listener))
    return at < 0 ? this : this.#set(event, listeners.toSpliced(at, 1))
  }

  emit<Event extends keyof InternalEvents> (event: Event, ...args: InternalEvents[Event]): void {
    for (const listener of this.#of(event)) {
      try {
        const outcome = listener(...args)
        if (outcome instanceof Promise) outcome.catch((err: unknown) => { this.#failed(event, err) })
      } catch (err) {
        this.#failed(event, err)
      }
    }
  }

  #of<Event extends keyof InternalEvents> (event: Event): ReadonlyArray<Listener<Event>> {
    return this.#listeners[event] ?? []
  }

  #set<Event extends keyof InternalEvents> (event: Event, listeners: ReadonlyArray<Listener<Event>>): this {
    Object.assign(this.#listeners, { [event]: listeners })
    return this
  }

  #failed (event: string, err: unknown): void {
    this.#log.error({ err, event }, 'a lifecycle listener failed')
  }
}

import type { FastifyBaseLogger } from 'fastify'
import type { LocalConnection } from '../delivery/connection.js'
import type { ErrorCode } from '../errors.js'
import type { Id } from '../ids.js'
import type { UserRef } from '../keys.js'
import type { Displaced, Mode, RoomChange, RosterConnection, TypingEntry } from '../roster/contract.js'
import type { ConversationType, Device, PresenceStatus } from '../schemas.js'

/** The presence that was last set by a user. */
export interface PresenceState {
  status: PresenceStatus
  device: Device
  lastMessage: string | null
  /** JSON of the object that the user set; null: none. */
  data: string | null
  /** When `away` began, in milliseconds since 1970; null in any other status. */
  awaySince: number | null
  /** When `offline` or `invisible` began, in milliseconds since 1970; null in any other status. */
  hiddenSince: number | null
  /** The user's last activity, in milliseconds since 1970. */
  seenAt: number
}

/** A user who types in a conversation. Times are milliseconds since 1970. */
export interface TypingState extends UserRef {
  conversationId: string
  conversationType: ConversationType
  /** The channels to which start and stop are sent. */
  channels: string[]
  /** The connection that typed and is not notified; null for a REST request. */
  connectionId: string | null
  startedAt: number
  expiresAt: number
}

/** A direct message or a notification that its recipient, `userId`, did not confirm. */
export interface UnconfirmedEvent extends UserRef {
  messageId: number
  /** The user who sent it. */
  senderId: Id
  /** The name of its frame, e.g. `message:direct`. */
  type: string
  /** The frame's data. */
  data: Record<string, unknown>
}

/** An event that was given up. */
export interface FailedEvent extends UnconfirmedEvent {
  channel: string
  /** Why: it was not confirmed in time, or too many were waiting. */
  reason: string
  /** JSON of the frame's data without `messageId`. */
  payload: string
  /** @deprecated Use `messageId`. */
  id: number
}

/**
 * Lifecycle events: `app.realtime.events.on('online', ({ tenantId, userId }) => …)`. Each is emitted exactly once in the
 * cluster, on the node that detected it.
 */
export interface LifecycleEvents {
  /** A connection was registered, with a socket or without. */
  connected: [UserRef & { connectionId: string }]
  /** A connection is gone: closed, replaced, or expired. */
  disconnected: [UserRef & { connectionId: string }]
  /**
   * A user's first connection; `connectionId` is that connection, null if a status update over REST came first. Also emitted
   * for users who are `invisible` to others; `presence` is null if it is not known.
   */
  online: [UserRef & { connectionId: string | null, presence: PresenceState | null }]
  /** The user's last connection has been gone for longer than `presenceGrace`. `presence` is the last one that others saw; null if it is not known. */
  offline: [UserRef & { presence: PresenceState | null }]
  /** A status was set. */
  presence: [UserRef & { presence: PresenceState }]
  /** Typing started or stopped. `entry` is deprecated: its fields are those of the event. */
  typing: [TypingState & { isTyping: boolean, entry: TypingState }]
  /** A durable event was committed. `userId` is its sender. */
  message: [UserRef & { messageId: number, type: string, channel: string, data: Record<string, unknown> }]
  /** A recipient, `userId`, confirmed an event. */
  delivered: [UserRef & { messageId: number, senderId: Id }]
  /**
   * A banned user, or one whose credentials were revoked, tried to authenticate. Emitted for each attempt, on the node that
   * refused it.
   */
  refused: [UserRef & { code: ErrorCode }]
  /** A user was banned; `until` in milliseconds since 1970, null: until `unban`. Emitted on the node whose `ban` was called. */
  banned: [UserRef & { until: number | null, reason: string | null }]
  /** Credentials were revoked: those of a user, or of one `tokenId`. Emitted on the node whose `revoke` was called. */
  revoked: [{ tenantId: Id, userId: Id | null, tokenId: string | null, until: number | null }]
  /** A connection lost a channel by `kick`, or because `authorize` no longer allows it. */
  evicted: [UserRef & { connectionId: string, channel: string }]
  /**
   * The recipient of an unconfirmed direct message or notification, `userId`, has no connection, and the event is older than
   * `waitingAfter`: the moment to send a push notification, an e-mail or an SMS. Once per event.
   */
  waiting: [UnconfirmedEvent]
  /** A durable event was given up: its recipient, `userId`, confirmed it neither in its last retry nor within 7 days, or too many were waiting. */
  failed: [FailedEvent]
}

/** Events between the plugins; hosts do not see them. */
export interface InternalEvents extends LifecycleEvents {
  /** The members of a channel changed. */
  roomChanged: [{ tenantId: Id, change: RoomChange }]
  /** This node receives events of other nodes again, and may have missed ephemeral ones. */
  reconnected: []
  /** A user who had set `offline` has a new connection. */
  appeared: [UserRef & { connectionId: string | null }]
  /** To be sent to everyone in a tenant: the mode of presence if it has changed, otherwise the number of users online. */
  counted: [Mode & { tenantId: Id, announce: 'mode' | 'count' }]
  /** A socket on this node is authenticated, and `authenticated` was sent. */
  opened: [LocalConnection]
  /** A live connection presented newer credentials; the channels plugin calls `authorize` again. */
  renewed: [LocalConnection]
  /** Typing expired; the typing plugin sends the stop. */
  typingExpired: [TypingEntry]
  /** Connections without a socket whose heartbeats ended; the connections plugin removes them. */
  connectionExpired: [RosterConnection]
  /** Connections that lost their place to another one with the same id; the connections plugin closes them. */
  displaced: [Displaced]
}

type PublicListener<Event extends keyof LifecycleEvents> = (...args: LifecycleEvents[Event]) => unknown

/** Lifecycle events for host code. If a listener throws or rejects, the error is logged, and the others are still called. */
export interface RealtimeEvents {
  /** Calls the listener for each event from now on. */
  on<Event extends keyof LifecycleEvents> (event: Event, listener: PublicListener<Event>): void
  /** Calls the listener for the next event only. */
  once<Event extends keyof LifecycleEvents> (event: Event, listener: PublicListener<Event>): void
  /** Removes a listener given to `on` or `once`. */
  off<Event extends keyof LifecycleEvents> (event: Event, listener: PublicListener<Event>): void
}

type Listener<Event extends keyof InternalEvents> = (...args: InternalEvents[Event]) => unknown

/** Calls a listener of the host. If it throws, the error is logged, and the others are still called. */
export class LifecycleBus {
  /** Replaced, never changed in place, so that a listener removed during an emit does not make the next one be skipped. */
  readonly #listeners: { [Event in keyof InternalEvents]?: ReadonlyArray<Listener<Event>> } = {}
  readonly #log: Pick<FastifyBaseLogger, 'error'>
  /** The listener given to `once` → the wrapper that is registered. */
  readonly #once = new WeakMap<object, unknown>()

  constructor (log: Pick<FastifyBaseLogger, 'error'>) {
    this.#log = log
  }

  on<Event extends keyof InternalEvents> (event: Event, listener: Listener<Event>): this {
    return this.#set(event, [...this.#of(event), listener])
  }

  /** Calls the listener for the next event only. */
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

  /** Whether there is a listener. */
  isHeard (event: keyof InternalEvents): boolean {
    return this.#of(event).length > 0
  }

  #of<Event extends keyof InternalEvents> (event: Event): ReadonlyArray<Listener<Event>> {
    return this.#listeners[event] ?? []
  }

  #set<Event extends keyof InternalEvents> (event: Event, listeners: ReadonlyArray<Listener<Event>>): this {
    Object.assign(this.#listeners, { [event]: listeners })
    return this
  }

  #failed (event: string, err: unknown): void {
    this.#log.error({ err, event }, 'Lifecycle listener failed')
  }
}

import type { FastifyInstance } from 'fastify'
import type { Access } from './access/access.js'
import type { AccessLog } from './access/log.js'
import type { RateCounters } from './access/rate-counters.js'
import type { Restrictions } from './access/restrictions.js'
import type { SharedRates } from './access/shared-rates.js'
import type { TenantLimits } from './access/tenant-limits.js'
import type { UserDirectory } from './access/user-directory.js'
import type { Backplane } from './backplane/contract.js'
import type { MaybePromise } from './async/maybe-promise.js'
import type { Clock } from './clock.js'
import type { Executor } from './database/dialect.js'
import type { LocalConnection } from './delivery/connection.js'
import type { Hub } from './delivery/hub.js'
import type { Joining } from './delivery/joining.js'
import type { PageSource } from './delivery/replayer.js'
import type { RealtimeError } from './errors.js'
import type { EventLog, NewEvent } from './event-log/index.js'
import type { FrameRouter } from './frame-router.js'
import type { Caller, Identity } from './identity.js'
import type { Id, Ids } from './ids.js'
import type { ConnectionKey, UserRef } from './keys.js'
import type { LifecycleBus } from './lifecycle/events.js'
import type { Metrics } from './metrics.js'
import type { StorageAccess } from './resources.js'
import type { Roster } from './roster/contract.js'
import type { CoreSettings } from './settings.js'
import type { Purge } from './upkeep/maintenance.js'

/** An ephemeral event for current subscribers. */
export interface EphemeralEvent {
  tenantId: Id
  channel: string
  event: string
  data: Record<string, unknown>
  /** The connection that does not receive it. */
  excludeConnectionId?: string | null
  /** The users that it is about; see `OutgoingEvent`. */
  about?: readonly Id[]
  withoutSelf?: boolean
}

/** The checks of the channels plugin before a client's event is stored, for events of other plugins. */
export interface Screening {
  /** Counts a durable event of a user. Throws, or rejects with, `RT_RATE_LIMITED`. */
  count (identity: Identity): MaybePromise<void>
  /** The data to publish. Throws, or rejects with, `RT_REJECTED`, `RT_UNAVAILABLE`, or `RT_INTERNAL` where the host's data break the schema. */
  screen<Data extends object> (caller: Caller, event: string, channel: string, data: Data, faultIn: (data: Record<string, unknown>) => string | null): MaybePromise<Data>
}

/** A requested channel of a stream: its name, and the error with which it is refused, or null. */
export interface CheckedChannel { channel: string, error: RealtimeError | null }

/** Subscriptions of streams, which the channels plugin makes. */
export interface StreamSubscriptions {
  /** Whether the caller may subscribe to these channels. The result has each channel once. Never rejects. */
  check (caller: Caller, names: readonly string[]): Promise<CheckedChannel[]>
  /**
   * Subscribes; `connection.begin` must follow `begun`. `since`: see `LocalConnection.join`. Rejects with `RT_LIMIT_EXCEEDED` and what
   * the roster throws.
   */
  join (connection: LocalConnection, channel: string, since: number): Promise<{ joining: Joining, members: object | null, begun: () => void }>
}

/** The part of the conversations plugin in storing messages. */
export interface ConversationHooks {
  /**
   * Called before a message is stored: its users have the conversation in their lists from then on. Usually synchronous (bench
   * row "direct messages, durable").
   */
  begin (event: NewEvent, transaction?: Executor): MaybePromise<void>
}

/** Shared by the plugins, see {@link internalsOf}. */
export interface Internals {
  /** New at every start: a restarted process is another node. */
  readonly nodeId: string
  readonly settings: CoreSettings
  /** The kind of ids of tenants and users. */
  readonly ids: Ids
  readonly clock: Clock
  readonly access: Access
  /** The host's decisions about live connections; plugins register how they apply them. */
  readonly accessLog: AccessLog
  readonly restrictions: Restrictions
  readonly directory: UserDirectory
  readonly rates: RateCounters
  /** Rates by the minute, exchanged between the nodes once a second. */
  readonly sharedRates: SharedRates
  readonly tenantLimits: TenantLimits
  readonly frames: FrameRouter
  readonly hub: Hub
  readonly backplane: Backplane
  readonly roster: Roster
  readonly eventLog: EventLog
  readonly metrics: Metrics
  readonly database: StorageAccess
  /** Lifecycle events for host code: `events.on('online', …)`. */
  readonly bus: LifecycleBus
  /** Channels to which every authenticated connection is subscribed, besides its own private one. */
  readonly defaultChannels: Set<string>
  /** Events that wait for a connection's user, sent right after authentication and before newer ones; null without the channels plugin. */
  waiting: ((connection: LocalConnection) => PageSource) | null
  /**
   * Called when a connection has left a channel, with the time for which its user still counts as there, in milliseconds; null
   * unless members of channels are known.
   */
  channelLeft: ((connection: LocalConnection, user: UserRef, channel: string, delay: number) => void) | null
  /**
   * Begins the watches that were requested by REST before the connection opened. Resolves with a function to call after the first reply. Never
   * rejects. Null without the presence plugin.
   */
  beginWatches: ((connection: LocalConnection) => Promise<() => void>) | null
  /** Asks the host before a client's event is stored, see plugins/channels/before-publish.ts; null without the channels plugin. */
  screening: Screening | null
  /** Subscribes the channels of streams; null without the channels plugin. */
  streamSubscriptions: StreamSubscriptions | null
  /** Called before a message is stored; null without the conversations plugin. */
  conversations: ConversationHooks | null
  /** The connections whose socket is on this node, by {@link connectionKey}. Filled by the connections plugin. */
  readonly localConnections: Map<ConnectionKey, LocalConnection>
  /** Calls between nodes: `call(nodeId, op, data)` resolves to what the handler of `op` on that node returns. */
  readonly rpc: {
    handle (op: string, handler: (data: unknown) => Promise<unknown>): void
    call (nodeId: string, op: string, data: unknown): Promise<unknown>
  }
  /**
   * Sends an ephemeral event to the current subscribers of a channel on every node. Throws only `RT_INVALID_DATA`, if the event is
   * too large for its readers.
   */
  emit (event: EphemeralEvent): void
  /** Purges of the plugins' tables; see {@link Purge}. */
  readonly purges: Purge[]
  /** Runs while log, roster and database still work, after the last socket is closed; in the order of registration. */
  onBeforeClose (task: () => Promise<void>): void
  /** Whether the database and Redis accept writes. */
  health (): Promise<{ ok: boolean, database: boolean, redis: boolean }>
}

const key = Symbol.for('fastify-realtime.internals')

/** Shared by the plugins. Not part of the type of the Fastify instance: hosts use `app.realtime`. */
export function internalsOf (app: FastifyInstance): Internals {
  const internals = (app as { [key]?: Internals })[key]
  if (internals === undefined) throw new Error('Register the realtime plugin first: await app.register(realtime, options)')
  return internals
}

/** Sets the internals that {@link internalsOf} returns on this instance and its descendants. */
export function provideInternals (app: FastifyInstance, internals: Internals): void {
  app.decorate(key, internals)
}

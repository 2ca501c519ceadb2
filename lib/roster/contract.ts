import { randomBytes } from 'node:crypto'
import type { MaybePromise } from '../async/maybe-promise.js'
import type { Id } from '../ids.js'
import type { UserRef } from '../keys.js'
import type { ConversationType, Device, PresenceStatus } from '../schemas.js'

/** A registered connection, with a socket or without. */
export interface RosterConnection {
  tenantId: Id
  userId: Id
  connectionId: string
  /** The node that has the socket; null without a socket. */
  nodeId: string | null
  /** New at every join, so that a late `leave` of an earlier socket with the same id has no effect. */
  generation: string
  device: Device
  connectedAt: number
}

/** One registration of a connection id. */
export type ConnectionRef = Pick<RosterConnection, 'tenantId' | 'connectionId' | 'generation'>

export interface JoinResult {
  /** The id belongs to another user; nothing was changed. */
  ownedByOther: boolean
  /** The tenant has as many connections as it may have; nothing was changed. */
  isTenantFull: boolean
  /** The id was not registered before. */
  isNew: boolean
  /** It is the user's first connection in the cluster: the caller must emit `online`. */
  isFirstOfUser: boolean
  /** Others see the user as online from now on: the user was offline, or had set `offline`. */
  hasAppeared: boolean
  standing: Standing
  /** The user's presence, if this is the user's first connection; else null. */
  presence: Presence | null
  /** The earlier socket with the same id; its node must close it. */
  replaced: RosterConnection | null
  /** Connections over the limit per user, already removed; their nodes must close them. Those without a socket come first, then the oldest. */
  evicted: RosterConnection[]
}

/** A connection that lost its id to another one, which was opened while the nodes could not see each other. */
export interface Displaced {
  /** The connection whose socket must be closed, on any node. */
  entry: RosterConnection
  /** True: the id belongs to another user, who had it first. False: the same user has a newer socket. */
  taken: boolean
}

/** The result of a renewal. */
export interface Renewed {
  /** Users with a connection here to emit `online` for. */
  arrived: Array<UserRef & { connectionId: string | null }>
  displaced: Displaced[]
}

/** A user's status, and how presence is sent in the tenant. */
export interface Standing extends Mode { status: PresenceStatus }

/** How presence is sent in a tenant. */
export interface Mode {
  /** Whether every change is sent to everyone; otherwise only to those who watch the user. */
  everyone: boolean
  /** Users whom others see as online. */
  online: number
}

/** The effect of a change of status for others: the user came online, went offline, or neither. */
export type Edge = 'appeared' | 'vanished' | null

/** How the plugin sends presence, and who is invisible. */
export interface PresenceRulesOfRoster {
  /** While at most this many users are online in a tenant, every change is sent to everyone. 0: never; Infinity: always. */
  everyone: number
  /** All invisible users, or those of some tenants, from the database. */
  loadInvisible (tenantIds?: readonly Id[]): Promise<Array<UserRef & { since: number }>>
}

/** Largest number of users of a channel that are listed. */
export const MAX_LISTED = 200
/** Milliseconds between two counts of a tenant, or two changes of a channel's members. */
export const CHANGE_INTERVAL = 1000

/** How the members of a channel changed, to be sent to its subscribers. */
export interface RoomChange {
  channel: string
  /** One more than that of the change before it. */
  version: number
  count: number
  /** Null if there are too many. */
  joined: Id[] | null
  left: Id[] | null
}

/** The change to send now, and the milliseconds after which `collectRoomChange` must be called; null: none. */
export interface DueChange { change: RoomChange | null, sendIn: number | null }

/** The members of a channel. */
export interface Room {
  count: number
  version: number
  /** Ordered by id; null if there are too many. */
  users: Id[] | null
}

export interface UsersOfTenant { tenantId: Id, userIds: Id[] }

export interface Presence {
  status: PresenceStatus
  device: Device
  lastMessage: string | null
  /** JSON of an object; null: none. */
  data: string | null
  awaySince: number | null
  /** When the user became `offline` or `invisible`; null with another status. */
  hiddenSince: number | null
  /** The user's last activity. */
  seenAt: number
}

/** A user who types in a conversation. */
export type TypingKey = Pick<TypingEntry, 'tenantId' | 'userId' | 'conversationId'>

export interface TypingEntry {
  tenantId: Id
  userId: Id
  conversationId: string
  conversationType: ConversationType
  /** Channels to which the start was sent; the stop is sent to the same ones. */
  channels: string[]
  /** The connection that types; typing events are not sent to it. */
  connectionId: string | null
  startedAt: number
  expiresAt: number
}

export interface Counts {
  /** Registered connections, with a socket or without. */
  total: number
  /** Connections with a socket, and those whose last heartbeat is at most half a registration time ago. */
  active: number
  /** Users with at least one connection. */
  users: number
}

/** Requests counted within a window. */
export interface RateCount {
  count: number
  /** Milliseconds until the window ends. */
  ttl: number
}

/** The due events of one tenant. */
export interface Due {
  tenantId: Id
  /** Users whose last connection ended more than `offlineDelay` ago: emit `offline`, then call `confirmOffline`. */
  offline: Id[]
  /** The last presence of those users, in the same order; null if it is not known. */
  presences: Array<Presence | null>
  /** Expired typing, already removed. */
  typing: TypingEntry[]
  /** Connections without a socket whose registration expired, already removed. */
  expiredConnections: RosterConnection[]
  /** How presence is sent in the tenant. */
  mode: Mode
  /** Changes of the members of channels. */
  rooms: RoomChange[]
  /** `mode`: the mode has changed. `count`: the number of users online has changed, and is sent to everyone instead of changes. Null: nothing to send. */
  announce: 'mode' | 'count' | null
}

export interface OnlinePage {
  users: Array<{ userId: Id, presence: Presence }>
  total: number
  /** `after` of the next page; null on the last page. */
  next: Id | null
}

/** Durations, in milliseconds. */
export interface RosterTimes {
  /** Time after its last renewal until a node counts as dead and its connections are removed. */
  nodeTimeout: number
  /** Time after the last connection ended until a user goes offline. */
  offlineDelay: number
  /** Time after its last heartbeat until a connection without a socket is removed. */
  registrationTtl: number
}

export interface RosterConnections {
  /**
   * `limit` is for the connections of a user; `tenantLimit` for those of the tenant, exact while shared state is reachable,
   * otherwise per node; 0: no limit. Synchronous in a single process (bench row "connect"); so is `leave`.
   */
  join (entry: Omit<RosterConnection, 'generation'>, limit: number, tenantLimit?: number): MaybePromise<JoinResult & { generation: string }>
  /**
   * Removes the connection if its generation is still this one; returns whether it was. If it was the user's last one, the
   * user stays online for `offlineDelay` milliseconds.
   */
  leave (entry: ConnectionRef, offlineDelay?: number): MaybePromise<boolean>
  /** Extends the registration of a connection without a socket. */
  heartbeat (tenantId: Id, connectionId: string): Promise<void>
  /** On the node that has the socket this works while shared state is away. */
  find (tenantId: Id, connectionId: string): Promise<RosterConnection | null>
  connectionsOf (tenantId: Id, userId: Id): Promise<RosterConnection[]>
  /** `shown`: without users who are offline or invisible to others, and their connections. */
  counts (tenantId: Id, shown?: boolean): Promise<Counts>

  /** Records a channel for when the socket opens. Returns false if the connection has `limit` channels. */
  addChannel (tenantId: Id, connectionId: string, channel: string, limit: number): Promise<boolean>
  removeChannel (tenantId: Id, connectionId: string, channel: string): Promise<void>
  /** The recorded channels; empty for a connection that was not registered before its socket opened. */
  channels (tenantId: Id, connectionId: string): Promise<string[]>
}

/** A user to be watched, and a mark of the state in the response. */
export interface EarlyWatch { userId: Id, said: string }

/** Users to be watched by a connection whose socket is not open yet. */
export interface RosterWatches {
  /** Adds users. Returns false, and adds none, if these would be more than `limit`. Nothing is kept for an unknown connection. */
  recordWatches (tenantId: Id, connectionId: string, watches: readonly EarlyWatch[], limit: number): Promise<boolean>
  /** Removes these users, or all; returns how many are left. */
  dropWatches (tenantId: Id, connectionId: string, userIds: readonly Id[] | null): Promise<number>
  /** Returns all and removes them. */
  takeWatches (tenantId: Id, connectionId: string): Promise<EarlyWatch[]>
}

export interface RosterPresence {
  /**
   * Sets the presence. A user without a connection is online for `registrationTtl` from then; `isFirstOfUser` as for `join`.
   * Synchronous in a single process (bench row "REST: presence update"); so is `presence`.
   */
  setPresence (tenantId: Id, userId: Id, presence: Presence): MaybePromise<{ isFirstOfUser: boolean, edge: Edge, standing: Standing }>
  /** While Redis is away, as far as this node knows. */
  standing (tenantId: Id, userId: Id): MaybePromise<Standing>
  /** The presence of each user in the given order; null for users who are offline. */
  presence (tenantId: Id, userIds: Id[]): MaybePromise<Array<Presence | null>>
  online (tenantId: Id, page: { limit: number, after: Id }): Promise<OnlinePage>
  /** Without this call no user is invisible, and counts are not sent. Resolves when invisible users are known. */
  usePresence (rules: PresenceRulesOfRoster): Promise<void>
  /** Whether every change is sent to everyone in the tenant, as far as this node knows. */
  sendsToEveryone (tenantId: Id): boolean
  /** A number that changes with every change of what `online` returns for the tenant; null if the node cannot know that. */
  version (tenantId: Id): number | null
}

/** The members of channels: users, from the first subscribed connection to the last. Hidden users are not members. */
export interface RosterRooms {
  /** A connection of this node subscribed the channel. While shared state is away, the room only has members known to this node. */
  enter (tenantId: Id, channel: string, userId: Id): MaybePromise<Room & DueChange>
  /** It left the channel. A user without a further connection in it stays a member for `delay` milliseconds. */
  exit (tenantId: Id, channel: string, userId: Id, delay: number): MaybePromise<DueChange>
  /** Returns the changes that are due. */
  collectRoomChange (tenantId: Id, channel: string): MaybePromise<DueChange>
  members (tenantId: Id, channel: string, page: { limit: number, after: Id }): Promise<{ users: Id[], total: number, version: number, next: Id | null }>
  /** Members of each channel, and their connections. */
  roomSizes (tenantId: Id, channels: readonly string[]): Promise<Array<{ users: number, connections: number }>>
}

export interface RosterTyping {
  /** Starts or prolongs typing; returns true if the user was not typing there. Synchronous in a single process (bench row "REST: typing"). */
  startTyping (entry: TypingEntry): MaybePromise<boolean>
  /** Returns the entries that were stopped; each is returned once in the cluster. */
  stopTyping (keys: TypingKey[]): Promise<TypingEntry[]>
  typing (tenantId: Id, conversationId: string): Promise<TypingEntry[]>
}

export interface RosterLocks {
  /** Counts a request of a client in a window, in milliseconds, that starts with the first request. Synchronous in a single process (REST bench rows). */
  countRequest (key: string, window: number): MaybePromise<RateCount>
  /**
   * Adds to the counters of a window that all nodes share, and that end after `ttl` milliseconds; resolves with their totals.
   * Rejects while shared state is away.
   */
  addCounts (window: number, counts: ReadonlyArray<{ key: string, count: number }>, ttl: number): Promise<number[]>
  /** Takes or prolongs a named lock for this node. */
  lock (name: string, ttl: number): Promise<boolean>
}

/**
 * Who is connected, online and typing, in the whole cluster. Every implementation guarantees (test/roster.test.ts checks
 * all of them):
 *
 * - Tenants are separate. Every operation is atomic: whether a user goes online or offline is decided in one place.
 * - A user is reported online once, with the first connection, and offline once, `offlineDelay` after the last one.
 * - Connections of a dead node are removed by any other node, even if that is interrupted (`reap`).
 * - Counts are computed from the entries, not incremented and decremented.
 * - While shared state is away, changes by this node's own sockets are accepted (`join`, `leave`, `setPresence`, typing,
 *   `countRequest`) and written by the next `renew`; reads about others reject with `RT_STORAGE_UNAVAILABLE`.
 * - If shared state comes back empty, as an older copy or in part, `renew` writes this node's entries, and `repair` removes
 *   entries of no living node. This alone reports no user online or offline.
 * - This node knows its own sockets without shared state: it finds them, and refuses their ids to other users.
 */
export interface Roster extends RosterConnections, RosterWatches, RosterPresence, RosterRooms, RosterTyping, RosterLocks {
  readonly nodeId: string
  readonly healthy: boolean
  start (): Promise<void>

  /**
   * Claims each due tenant for 5 s, and returns a part of the due events; an empty result means that none is left.
   * Its users stay due until `confirmOffline`.
   */
  claimDue (): Promise<Due[]>
  /** To be called after `offline` was emitted. Returns users who came back meanwhile: they need an `online` event. */
  confirmOffline (users: UsersOfTenant[]): Promise<UsersOfTenant[]>
  /**
   * Renews this node's lease, writes changes that could not be written before, and corrects shared state where it differs from a
   * part of this node's entries; `share` is the size of the part, from 0 to 1. If shared state lost data, it compares everything.
   */
  renew (share?: number): Promise<Renewed>
  /** Removes connections of dead nodes; returns whether there was one. Their users are due at once: the lease was their delay. */
  reap (): Promise<boolean>
  /** Searches a part of shared state for entries of no living node, and removes them. Only one node may do this at a time. */
  repair (share?: number): Promise<void>

  /** Ends `invisible`; a user without connections goes offline with the next `claimDue` instead of after `offlineDelay`. */
  dismiss (user: UserRef): Promise<void>
  /** Removes a user from shared state, without an event. Every node must call `release` before; otherwise it may write the user again. */
  forget (user: UserRef): Promise<void>
  /** This node does not write a user without connections to shared state again. */
  release (user: UserRef): void

  aliveNodes (): Promise<string[]>
  /** Removes this node's connections and lease. */
  close (): Promise<void>
}

/**
 * Returns a function for generations, each unique across nodes and restarts. They are not secret: random ones would take a
 * thirtieth of the time of a handshake. The eight random characters and the counter are short enough to be stored flat.
 */
export function createGenerations (): () => string {
  const boot = randomBytes(6).toString('base64url')
  let serial = 0
  return () => boot + (serial++).toString(36)
}

/** The presence of a user who has not set one: online, on the device they connected with. */
export const defaultPresence = (device: Device, seenAt: number): Presence =>
  ({ status: 'online', device, lastMessage: null, data: null, awaySince: null, hiddenSince: null, seenAt })

/** Whether a tenant with this number of connections has reached `tenantLimit`. 0: no limit. */
export const isFull = (connections: number, tenantLimit: number): boolean => tenantLimit > 0 && connections >= tenantLimit

/** Whether other users see a user with this status as online. */
export const isShown = (status: PresenceStatus): boolean => status !== 'offline' && status !== 'invisible'

import { randomBytes } from 'node:crypto'
import type { MaybePromise } from '../async/maybe-promise.js'
import type { ConversationType, Device, PresenceStatus } from '../schemas.js'

/** A connection as the roster knows it. */
export interface RosterConnection {
  tenantId: number
  userId: number
  connectionId: string
  /** Boot id of the node that holds the socket; null while it has none. */
  nodeId: string | null
  /** New at every join: a late leave of an older socket finds another generation and does nothing. */
  generation: string
  device: Device
  connectedAt: number
}

export interface JoinResult {
  /** The id belongs to someone else; nothing was changed. */
  ownedByOther: boolean
  /** The id was not known before. */
  isNew: boolean
  /** The user's first connection over all nodes: tell `user:online`. */
  isFirstOfUser: boolean
  /** The same id had a socket before; its node must close it. */
  replaced: RosterConnection | null
  /** Over the limit of connections per user: already removed; their nodes must close them. Those without a socket go first, then the oldest. */
  evicted: RosterConnection[]
}

/** A connection that lost its place to another one with the same id, opened while the nodes could not know of each other. */
export interface Displaced {
  /** The socket that must be closed, on whichever node it is. */
  entry: RosterConnection
  /** The id belongs to another user, who had it first. False: a newer socket of the same user has it. */
  taken: boolean
}

/** What a renewal found. */
export interface Renewed {
  /** Users who are connected here and must be told online. */
  arrived: Array<Pick<RosterConnection, 'tenantId' | 'userId'> & { connectionId: string | null }>
  displaced: Displaced[]
}

export interface UsersOfTenant { tenantId: number, userIds: number[] }

export interface Presence {
  status: PresenceStatus
  device: Device
  lastMessage: string | null
  awaySince: number | null
  /** When the user was last heard of. */
  seenAt: number
}

export interface TypingEntry {
  tenantId: number
  userId: number
  conversationId: string
  conversationType: ConversationType
  /** Channels that were told of the start and must be told of the stop. */
  channels: string[]
  /** The connection that types; it is never told. */
  connectionId: string | null
  startedAt: number
  expiresAt: number
}

export interface Counts {
  /** Connections that are registered, with a socket or without. */
  total: number
  /** Those of them with a socket, or heard of by REST lately. */
  active: number
  /** Users with at least one connection. */
  users: number
}

/** How often a key was counted within its window, and the milliseconds until that ends. */
export interface RateCount {
  count: number
  ttl: number
}

/** What became due in one tenant. */
export interface Due {
  tenantId: number
  /** Users whose last connection is gone for longer than the grace: tell `user:offline`, then `settle`. */
  offline: number[]
  /** What those users showed last, in the same order; null where that is not known. */
  presences: Array<Presence | null>
  /** Typing that ran out; already removed. */
  typing: TypingEntry[]
  /** Connections without a socket that were not heard of in time; already removed. */
  expiredConnections: RosterConnection[]
}

export interface OnlinePage {
  users: Array<{ userId: number, presence: Presence }>
  total: number
  /** The user id to go on after; null at the end. */
  next: number | null
}

/** Durations, in milliseconds. */
export interface RosterTimes {
  /** A node that was not heard of for this long is dead, and its connections with it. */
  nodeTimeout: number
  /** A user without connections stays online for this long. */
  offlineDelay: number
  /** A connection without a socket lives this long after the last sign. */
  registrationTtl: number
}

/**
 * The live truth: who is connected, online, typing, over all nodes. Obligations of every implementation
 * (test/roster.test.ts runs over all):
 *
 * - Everything is keyed by tenant. Every operation is atomic: the edges 0→1 and 1→0 are decided in one place.
 * - A user is told online once, at the first connection, and offline once, after the last one and the grace.
 * - What a dead node held is removed by whichever node looks next, however often it is interrupted (`reap`).
 * - Counts are derived from the entries, never counted up and down.
 * - While shared state is away, what this node's own sockets do is accepted (`join`, `leave`, `setPresence`, typing, `hit`)
 *   and written by the next `renew`; reads about others reject with `RT_STORAGE_UNAVAILABLE`.
 * - Whatever shared state comes back with (nothing, an older copy, a part), `renew` makes it agree with what this node
 *   holds, and `repair` ends what no living node stands for. Nobody is told online or offline for that alone.
 * - This node knows its own sockets without shared state: an id that is in use here is refused to other users, and found.
 */
export interface Roster {
  readonly nodeId: string
  readonly healthy: boolean
  start (): Promise<void>

  join (entry: Omit<RosterConnection, 'generation'>, limit: number): MaybePromise<JoinResult & { generation: string }>
  /** Removes the connection if it still is of this generation. False: it was not. */
  leave (entry: Pick<RosterConnection, 'tenantId' | 'connectionId' | 'generation'>): MaybePromise<boolean>
  /** A sign of life of a connection without a socket. */
  heartbeat (tenantId: number, connectionId: string): Promise<void>
  find (tenantId: number, connectionId: string): Promise<RosterConnection | null>
  connectionsOf (tenantId: number, userId: number): Promise<RosterConnection[]>

  /** Channels asked for before the socket opened. False: `limit` is reached. */
  addChannel (tenantId: number, connectionId: string, channel: string, limit: number): Promise<boolean>
  removeChannel (tenantId: number, connectionId: string, channel: string): Promise<void>
  /** None for a connection that was not known before it joined. */
  channels (tenantId: number, connectionId: string): Promise<string[]>

  /** Sets the status. A user without a connection counts as online for `restLease` from then: `first` as with `join`. */
  setPresence (tenantId: number, userId: number, presence: Presence): MaybePromise<{ isFirstOfUser: boolean }>
  /** Of those users who are online now, in the order asked; null for the others. */
  presence (tenantId: number, userIds: number[]): MaybePromise<Array<Presence | null>>
  online (tenantId: number, page: { limit: number, after: number }): Promise<OnlinePage>
  /** Another number after each change of what `online` shows of a tenant; null where only a read can tell. */
  version (tenantId: number): number | null
  counts (tenantId: number): Promise<Counts>

  /** True: the user was not typing there before. */
  startTyping (entry: TypingEntry): MaybePromise<boolean>
  /** What was stopped, once; entries that were not there are left out. */
  stopTyping (keys: Array<Pick<TypingEntry, 'tenantId' | 'userId' | 'conversationId'>>): Promise<TypingEntry[]>
  typing (tenantId: number, conversationId: string): Promise<TypingEntry[]>

  /** A part of what became due since the last call of any node; nothing: that was all. */
  claimDue (): Promise<Due[]>
  /** The users were told offline; returns those who came back meanwhile. Until then they are due again. */
  confirmOffline (told: UsersOfTenant[]): Promise<UsersOfTenant[]>
  /**
   * Prolongs this node's lease, writes what could not be written before, and compares this share of what the node holds
   * with shared state, correcting that. Where shared state was lost since the last call it compares everything.
   */
  renew (share?: number): Promise<Renewed>
  /** Removes what dead nodes held; true where there was one. Their users become due at once: the lease was their grace. */
  reap (): Promise<boolean>
  /** Looks through this share of what shared state says, and ends what no living node stands for. For one node at a time. */
  repair (share?: number): Promise<void>

  /** Counts a sign of a client within a window that starts with the first one. */
  countRequest (key: string, window: number): MaybePromise<RateCount>
  /** Takes or prolongs a named lock for this node. */
  lock (name: string, ttl: number): Promise<boolean>
  aliveNodes (): Promise<string[]>
  /** Gives back what this node holds. */
  close (): Promise<void>
}

/** Of this process alone. Eight characters: with the serial behind them the string is still short enough to be stored flat. */
const boot = randomBytes(6).toString('base64url')
let serial = 0

/** Told apart from any that was given before, by any node. Not a secret; random ones cost a thirtieth of a handshake. */
export const newGeneration = (): string => boot + (serial++).toString(36)

/** The presence of someone who has said nothing: online on the device they connected with. */
export const defaultPresence = (device: Device, seenAt: number): Presence =>
  ({ status: 'online', device, lastMessage: null, awaySince: null, seenAt })

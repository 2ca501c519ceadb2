import type { Id } from '../../ids.js'
import { connectionKey, type ConnectionKey, type UserRef } from '../../keys.js'
import type { ConnectionRef, Presence, RosterConnection } from '../contract.js'

/** A socket of this node. */
export interface LocalSocket {
  readonly entry: RosterConnection
  /** By Redis' clock, so that it can be compared with sockets of other nodes. */
  readonly openedAt: number
  /** It was written to Redis. */
  isInRedis: boolean
}

/** A connection that ended, and how long its user stays online if it was the last one, in milliseconds. */
export interface Departure extends RosterConnection { offlineDelay: number }

interface LocalUser {
  connections: number
  /** The user was reported online. */
  isReported: boolean
  /** The presence that the user set on any node; null if there is none or it is not known. */
  presence: Presence | null
  /** The user's first connection in the cluster was opened here: an earlier presence is void. */
  isFirst: boolean
}

interface LocalTenant {
  readonly sockets: Map<string, LocalSocket>
  readonly users: Map<Id, LocalUser>
}

type Key = Pick<RosterConnection, 'tenantId' | 'connectionId'>

/** The sockets of this node and their users: enough to restore Redis after any loss. */
export class LocalState {
  readonly #tenants = new Map<Id, LocalTenant>()
  /** Connections that ended while Redis was away; to be removed there. */
  readonly #departures = new Map<ConnectionKey, Departure>()
  #size = 0
  #unwritten = 0

  /** `isReported`: the user was, or is now, reported online. `isFirst`: the user is reported now. */
  add (socket: LocalSocket, { isReported, isFirst }: { isReported: boolean, isFirst: boolean }): void {
    const { tenantId, userId, connectionId } = socket.entry
    const tenant = this.#tenants.get(tenantId) ?? { sockets: new Map<string, LocalSocket>(), users: new Map<Id, LocalUser>() }
    this.#tenants.set(tenantId, tenant)
    const replaced = tenant.sockets.get(connectionId)
    const user = tenant.users.get(userId) ?? { connections: 0, isReported: false, presence: null, isFirst: false }
    tenant.users.set(userId, user)
    user.connections++
    user.isReported ||= isReported
    user.isFirst ||= isFirst
    if (replaced !== undefined) this.#release(tenant, replaced)
    tenant.sockets.set(connectionId, socket)
    this.#size++
    if (!socket.isInRedis) this.#unwritten++
    this.#departures.delete(keyOf(socket.entry))
  }

  get ({ tenantId, connectionId }: Key): LocalSocket | undefined {
    return this.#tenants.get(tenantId)?.sockets.get(connectionId)
  }

  /** Removes a socket of this generation. `goneUser`: the user's last known state, if this was the user's last socket here. */
  remove (ref: ConnectionRef): { entry: RosterConnection, goneUser: Pick<LocalUser, 'isReported' | 'presence'> | null } | null {
    const tenant = this.#tenants.get(ref.tenantId)
    const socket = tenant?.sockets.get(ref.connectionId)
    if (tenant === undefined || socket === undefined || socket.entry.generation !== ref.generation) return null
    tenant.sockets.delete(ref.connectionId)
    const user = tenant.users.get(socket.entry.userId)
    this.#release(tenant, socket)
    if (tenant.sockets.size === 0) this.#tenants.delete(ref.tenantId)
    return { entry: socket.entry, goneUser: user?.connections === 0 ? user : null }
  }

  /** `isFirst`: the user is reported online for it. */
  markWritten (socket: LocalSocket, isFirst: boolean): void {
    if (!socket.isInRedis && this.get(socket.entry) === socket) this.#unwritten--
    socket.isInRedis = true
    const user = this.#user(socket.entry)
    if (user === undefined) return
    user.isReported = true
    user.isFirst ||= isFirst
  }

  /** Whether the user has a socket here. */
  has (user: UserRef): boolean {
    return this.#user(user) !== undefined
  }

  /** Whether the user was reported online. */
  isReported (user: UserRef): boolean {
    return this.#user(user)?.isReported ?? false
  }

  /** Ignored for users without a socket here. */
  setPresence (ref: UserRef, presence: Presence): void {
    const user = this.#user(ref)
    if (user !== undefined) user.presence = presence
  }

  presence (user: UserRef): Presence | null {
    return this.#user(user)?.presence ?? null
  }

  /** Whether the user's first connection in the cluster was opened here. */
  isFirst (user: UserRef): boolean {
    return this.#user(user)?.isFirst ?? false
  }

  get tenantIds (): IterableIterator<Id> {
    return this.#tenants.keys()
  }

  /** The sockets of one tenant. Sockets may be added and removed while it is iterated. */
  in (tenantId: Id): Iterable<LocalSocket> {
    return this.#tenants.get(tenantId)?.sockets.values() ?? []
  }

  sizeOf (tenantId: Id): number {
    return this.#tenants.get(tenantId)?.sockets.size ?? 0
  }

  get size (): number {
    return this.#size
  }

  get unwritten (): LocalSocket[] {
    if (this.#unwritten === 0) return []
    return [...this.#tenants.keys()].flatMap((tenantId) => [...this.in(tenantId)].filter(({ isInRedis }) => !isInRedis))
  }

  queueDeparture (entry: Departure): void {
    this.#departures.set(keyOf(entry), entry)
  }

  hasDeparture (ref: ConnectionRef): boolean {
    return this.#departures.get(keyOf(ref))?.generation === ref.generation
  }

  departureWritten (entry: Departure): void {
    if (this.#departures.get(keyOf(entry)) === entry) this.#departures.delete(keyOf(entry))
  }

  get departures (): Departure[] {
    return [...this.#departures.values()]
  }

  #user ({ tenantId, userId }: UserRef): LocalUser | undefined {
    return this.#tenants.get(tenantId)?.users.get(userId)
  }

  #release (tenant: LocalTenant, { entry, isInRedis }: LocalSocket): void {
    this.#size--
    if (!isInRedis) this.#unwritten--
    const user = tenant.users.get(entry.userId)
    if (user !== undefined && --user.connections === 0) tenant.users.delete(entry.userId)
  }
}

const keyOf = ({ tenantId, connectionId }: Key): ConnectionKey => connectionKey(tenantId, connectionId)

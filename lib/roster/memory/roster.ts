import type { Clock } from '../../clock.js'
import type { Id, Ids } from '../../ids.js'
import {
  createGenerations, defaultPresence, isShown, MAX_LISTED, type ConnectionRef, type Counts, type Due, type Edge, type JoinResult, type OnlinePage, type Presence,
  type PresenceRulesOfRoster, type RateCount, type Renewed, type Room, type Roster, type RosterConnection, type RosterTimes, type Standing, type Told,
  type TypingEntry, type TypingKey, type UsersOfTenant
} from '../contract.js'
import { collectRooms, enterRoom, exitRoom, roomOf, setSeen, tellRoom } from './rooms.js'
import { remove, scheduleCheck, collectDue, collectTell, countShown, type OnlineUser, type Tenant } from './tenant.js'

/** The roster of one process. */
export class MemoryRoster implements Roster {
  readonly nodeId: string
  readonly healthy = true
  readonly #ids: Ids
  readonly #clock: Clock
  readonly #times: RosterTimes
  readonly #newGeneration = createGenerations()
  readonly #tenants = new Map<Id, Tenant>()
  #version = 0
  #everyone = Infinity
  /** Since when users are invisible, by tenant. */
  readonly #invisible = new Map<Id, Map<Id, number>>()
  readonly #rateCounts = new Map<string, { count: number, until: number }>()

  constructor (nodeId: string, ids: Ids, clock: Clock, times: RosterTimes) {
    this.#ids = ids
    this.nodeId = nodeId
    this.#clock = clock
    this.#times = times
  }

  async start (): Promise<void> {}

  join (entry: Omit<RosterConnection, 'generation'>, limit: number): JoinResult & { generation: string } {
    const tenant = this.#tenant(entry.tenantId)
    const generation = this.#newGeneration()
    const known = tenant.connections.get(entry.connectionId)
    if (known !== undefined && known.userId !== entry.userId) {
      return { ...NOTHING_JOINED, ownedByOther: true, generation }
    }
    const { user, isFirstOfUser } = this.#markOnline(tenant, entry.tenantId, entry.userId, entry.device)
    // `offline` ends with the next connection.
    const hasReturned = user.presence.status === 'offline'
    if (hasReturned) this.#show(tenant, entry.userId, user, defaultPresence(entry.device, this.#clock.now()))
    // idle memory: a spread would give each entry a hidden class of its own for its lifetime.
    tenant.connections.set(entry.connectionId, {
      tenantId: entry.tenantId,
      userId: entry.userId,
      connectionId: entry.connectionId,
      device: entry.device,
      connectedAt: known?.connectedAt ?? entry.connectedAt,
      // A registration by REST does not change an open socket.
      nodeId: entry.nodeId ?? known?.nodeId ?? null,
      generation: entry.nodeId === null && known !== undefined ? known.generation : generation,
      channels: known?.channels ?? null,
      activeAt: this.#clock.now()
    })
    // idle memory: a push would reserve space for sixteen more ids while the user is online.
    if (!user.connections.includes(entry.connectionId)) user.connections = user.connections.concat(entry.connectionId)
    user.statusOnlyUntil = null
    if (entry.nodeId === null) scheduleCheck(tenant, this.#clock.now() + this.#times.registrationTtl)
    const evicted = user.connections.length > limit ? this.#evict(tenant, user, entry.connectionId, limit) : []
    const kept = tenant.connections.get(entry.connectionId)?.generation ?? generation
    const replaced = entry.nodeId !== null && known !== undefined && known.nodeId !== null ? known : null
    const standing = standingOf(tenant, user)
    return {
      ownedByOther: false,
      isNew: known === undefined,
      isFirstOfUser,
      hasAppeared: hasReturned || (isFirstOfUser && isShown(standing.status)),
      standing,
      replaced,
      evicted,
      generation: kept
    }
  }

  leave ({ tenantId, connectionId, generation }: ConnectionRef, offlineDelay = this.#times.offlineDelay): boolean {
    const tenant = this.#tenants.get(tenantId)
    const entry = tenant?.connections.get(connectionId)
    if (tenant === undefined || entry === undefined || entry.generation !== generation) return false
    remove(tenant, entry, offlineDelay, this.#clock.now())
    return true
  }

  async heartbeat (tenantId: Id, connectionId: string): Promise<void> {
    const tenant = this.#tenants.get(tenantId)
    const entry = tenant?.connections.get(connectionId)
    if (tenant === undefined || entry === undefined) return
    entry.activeAt = this.#clock.now()
    const user = tenant.users.get(entry.userId)
    if (user !== undefined) user.presence.seenAt = entry.activeAt
  }

  async find (tenantId: Id, connectionId: string): Promise<RosterConnection | null> {
    return this.#tenants.get(tenantId)?.connections.get(connectionId) ?? null
  }

  async connectionsOf (tenantId: Id, userId: Id): Promise<RosterConnection[]> {
    const tenant = this.#tenants.get(tenantId)
    return [...tenant?.users.get(userId)?.connections ?? []].flatMap((id) => tenant?.connections.get(id) ?? [])
  }

  async addChannel (tenantId: Id, connectionId: string, channel: string, limit: number): Promise<boolean> {
    const entry = this.#tenants.get(tenantId)?.connections.get(connectionId)
    if (entry === undefined) return true
    const channels = entry.channels ??= new Set()
    if (!channels.has(channel) && channels.size >= limit) return false
    channels.add(channel)
    return true
  }

  async removeChannel (tenantId: Id, connectionId: string, channel: string): Promise<void> {
    this.#tenants.get(tenantId)?.connections.get(connectionId)?.channels?.delete(channel)
  }

  async channels (tenantId: Id, connectionId: string): Promise<string[]> {
    return [...this.#tenants.get(tenantId)?.connections.get(connectionId)?.channels ?? []]
  }

  async usePresence ({ everyone, loadInvisible }: PresenceRulesOfRoster): Promise<void> {
    this.#everyone = everyone
    for (const { tenantId, userId, since } of await loadInvisible()) this.#invisibleIn(tenantId).set(userId, since)
  }

  tellsEveryone (tenantId: Id): boolean {
    return this.#tenants.get(tenantId)?.everyone ?? this.#everyone > 0
  }

  setPresence (tenantId: Id, userId: Id, presence: Presence): { isFirstOfUser: boolean, edge: Edge, standing: Standing } {
    const tenant = this.#tenant(tenantId)
    const wasShown = isShown(tenant.users.get(userId)?.presence.status ?? 'offline')
    if (presence.status === 'invisible') this.#invisibleIn(tenantId).set(userId, presence.hiddenSince ?? presence.seenAt)
    else if (this.#invisible.size > 0) this.#invisible.get(tenantId)?.delete(userId)
    const { user, isFirstOfUser } = this.#markOnline(tenant, tenantId, userId, presence.device)
    this.#show(tenant, userId, user, presence)
    tenant.version = ++this.#version
    if (user.connections.length === 0) {
      user.statusOnlyUntil = this.#clock.now() + this.#times.registrationTtl
      scheduleCheck(tenant, user.statusOnlyUntil)
    }
    const isShownNow = isShown(presence.status)
    return { isFirstOfUser, edge: wasShown === isShownNow ? null : isShownNow ? 'appeared' : 'vanished', standing: standingOf(tenant, user) }
  }

  standing (tenantId: Id, userId: Id): Standing {
    const tenant = this.#tenant(tenantId)
    return { everyone: tenant.everyone, online: tenant.shown, status: tenant.users.get(userId)?.presence.status ?? 'online' }
  }

  presence (tenantId: Id, userIds: Id[]): Array<Presence | null> {
    const users = this.#tenants.get(tenantId)?.users
    return userIds.map((id) => users?.get(id)?.presence ?? null)
  }

  async online (tenantId: Id, { limit, after }: { limit: number, after: Id }): Promise<OnlinePage> {
    const visible = [...this.#tenants.get(tenantId)?.users ?? []]
      .filter(([, { presence }]) => isShown(presence.status)).sort(([a], [b]) => this.#ids.compare(a, b))
    const from = visible.findIndex(([id]) => id > after)
    const page = from < 0 ? [] : visible.slice(from, from + limit)
    const last = page.at(-1)?.[0]
    return {
      users: page.map(([userId, { presence }]) => ({ userId, presence })),
      total: visible.length,
      next: from + limit < visible.length && last !== undefined ? last : null
    }
  }

  version (tenantId: Id): number {
    return this.#tenants.get(tenantId)?.version ?? 0
  }

  async counts (tenantId: Id, shown = false): Promise<Counts> {
    const tenant = this.#tenants.get(tenantId)
    if (tenant === undefined) return { total: 0, active: 0, users: 0 }
    const since = this.#clock.now() - this.#times.registrationTtl / 2
    const counted = (user: OnlineUser | undefined): boolean => !shown || isShown(user?.presence.status ?? 'online')
    const entries = [...tenant.connections.values()].filter(({ userId }) => counted(tenant.users.get(userId)))
    return {
      total: entries.length,
      active: entries.filter(({ nodeId, activeAt }) => nodeId !== null || activeAt >= since).length,
      users: [...tenant.users.values()].filter((user) => user.connections.length > 0 && counted(user)).length
    }
  }

  enter (tenantId: Id, channel: string, userId: Id): Room & Told {
    const now = this.#clock.now()
    const tenant = this.#tenant(tenantId)
    const room = roomOf(tenant, channel, now)
    enterRoom(tenant, room, userId, isShown(tenant.users.get(userId)?.presence.status ?? 'online'), now)
    const told = tellRoom(tenant, channel, now)
    const { members, version } = room
    return { count: members.size, version, users: members.size <= MAX_LISTED ? [...members].sort((a, b) => this.#ids.compare(a, b)) : null, ...told }
  }

  exit (tenantId: Id, channel: string, userId: Id, delay: number): Told {
    const tenant = this.#tenants.get(tenantId)
    const room = tenant?.rooms.get(channel)
    if (tenant === undefined || room === undefined) return { change: null, tellIn: null }
    exitRoom(tenant, room, userId, delay, this.#clock.now())
    return tellRoom(tenant, channel, this.#clock.now())
  }

  tell (tenantId: Id, channel: string): Told {
    const tenant = this.#tenants.get(tenantId)
    return tenant === undefined ? { change: null, tellIn: null } : tellRoom(tenant, channel, this.#clock.now())
  }

  async members (tenantId: Id, channel: string, { limit, after }: { limit: number, after: Id }): ReturnType<Roster['members']> {
    const room = this.#tenants.get(tenantId)?.rooms.get(channel)
    const users = [...room?.members ?? []].filter((id) => this.#ids.compare(id, after) > 0).sort((a, b) => this.#ids.compare(a, b))
    const page = users.slice(0, limit)
    return { users: page, total: room?.members.size ?? 0, version: room?.version ?? 0, next: users.length > limit ? page.at(-1) ?? null : null }
  }

  async roomSizes (tenantId: Id, channels: readonly string[]): ReturnType<Roster['roomSizes']> {
    const rooms = this.#tenants.get(tenantId)?.rooms
    return channels.map((channel) => {
      const room = rooms?.get(channel)
      return { users: room?.members.size ?? 0, connections: [...room?.members ?? []].reduce((sum, id) => sum + (room?.holders.get(id) ?? 0), 0) }
    })
  }

  startTyping (entry: TypingEntry): boolean {
    const tenant = this.#tenant(entry.tenantId)
    const { typing } = tenant
    const key = `${entry.userId}:${entry.conversationId}`
    const known = typing.get(key)
    const isTyping = known !== undefined && known.expiresAt > this.#clock.now()
    if (isTyping) known.expiresAt = entry.expiresAt
    else typing.set(key, { ...entry })
    scheduleCheck(tenant, entry.expiresAt)
    return !isTyping
  }

  async stopTyping (keys: TypingKey[]): Promise<TypingEntry[]> {
    return keys.flatMap(({ tenantId, userId, conversationId }) => {
      const typing = this.#tenants.get(tenantId)?.typing
      const entry = typing?.get(`${userId}:${conversationId}`)
      if (entry === undefined) return []
      typing?.delete(`${userId}:${conversationId}`)
      return [entry]
    })
  }

  async typing (tenantId: Id, conversationId: string): Promise<TypingEntry[]> {
    const now = this.#clock.now()
    return [...this.#tenants.get(tenantId)?.typing.values() ?? []]
      .filter((entry) => entry.conversationId === conversationId && entry.expiresAt > now)
      .sort((a, b) => a.startedAt - b.startedAt)
  }

  async claimDue (): Promise<Due[]> {
    const now = this.#clock.now()
    const found: Due[] = []
    for (const [tenantId, tenant] of this.#tenants) {
      if (tenant.users.size + tenant.connections.size + tenant.typing.size + tenant.rooms.size === 0 && tenant.tellAt === null) this.#tenants.delete(tenantId)
      if (tenant.dueAt > now) continue
      const due = collectDue(tenant, this.#times, now)
      const rooms = collectRooms(tenant, now)
      const tell = collectTell(tenant, now)
      if (due.expiredConnections.length + due.typing.length + due.offline.length + rooms.length > 0 || tell !== null) {
        found.push({ tenantId, ...due, rooms, mode: { everyone: tenant.everyone, online: tenant.shown }, tell })
      }
    }
    for (const [key, { until }] of this.#rateCounts) if (until <= now) this.#rateCounts.delete(key)
    return found
  }

  async confirmOffline (users: UsersOfTenant[]): Promise<UsersOfTenant[]> {
    return users.flatMap(({ tenantId, userIds }) => {
      const tenant = this.#tenants.get(tenantId)
      if (tenant !== undefined) tenant.version = ++this.#version
      const back = userIds.filter((id) => {
        const user = tenant?.users.get(id)
        if (user !== undefined && user.offlineAt === null) return true
        if (tenant !== undefined && user !== undefined && isShown(user.presence.status)) countShown(tenant, -1, this.#everyone, this.#clock.now())
        tenant?.users.delete(id)
        return false
      })
      return back.length === 0 ? [] : [{ tenantId, userIds: back }]
    })
  }

  async renew (): Promise<Renewed> {
    return { arrived: [], displaced: [] }
  }

  async reap (): Promise<boolean> {
    return false
  }

  async repair (): Promise<void> {}

  countRequest (key: string, window: number): RateCount {
    const now = this.#clock.now()
    const known = this.#rateCounts.get(key)
    if (known !== undefined && known.until > now) return { count: ++known.count, ttl: known.until - now }
    this.#rateCounts.set(key, { count: 1, until: now + window })
    return { count: 1, ttl: window }
  }

  /** Nobody shares them. */
  async addCounts (_window: number, counts: ReadonlyArray<{ key: string, count: number }>): Promise<number[]> {
    return counts.map(({ count }) => count)
  }

  async lock (): Promise<boolean> {
    return true
  }

  async aliveNodes (): Promise<string[]> {
    return [this.nodeId]
  }

  async close (): Promise<void> {
    this.#tenants.clear()
  }

  #tenant (tenantId: Id): Tenant {
    let tenant = this.#tenants.get(tenantId)
    if (tenant === undefined) {
      tenant = {
        connections: new Map(),
        users: new Map(),
        typing: new Map(),
        rooms: new Map(),
        version: ++this.#version,
        dueAt: Infinity,
        shown: 0,
        everyone: this.#everyone > 0,
        tellAt: null,
        hasFlipped: false,
        toldAt: 0
      }
      this.#tenants.set(tenantId, tenant)
    }
    return tenant
  }

  #markOnline (tenant: Tenant, tenantId: Id, userId: Id, device: RosterConnection['device']): { user: OnlineUser, isFirstOfUser: boolean } {
    const now = this.#clock.now()
    const known = tenant.users.get(userId)
    const user = known ?? { connections: [], presence: defaultPresence(device, now), offlineAt: null, statusOnlyUntil: null }
    user.offlineAt = null
    if (known !== undefined) {
      user.presence.seenAt = now
      return { user, isFirstOfUser: false }
    }
    const since = this.#invisible.size === 0 ? undefined : this.#invisible.get(tenantId)?.get(userId)
    if (since !== undefined) user.presence = { ...user.presence, status: 'invisible', hiddenSince: since }
    tenant.version = ++this.#version
    tenant.users.set(userId, user)
    if (since === undefined) countShown(tenant, 1, this.#everyone, now)
    return { user, isFirstOfUser: true }
  }

  /** Sets the presence of a user of the tenant. */
  #show (tenant: Tenant, userId: Id, user: OnlineUser, presence: Presence): void {
    const difference = Number(isShown(presence.status)) - Number(isShown(user.presence.status))
    user.presence = presence
    tenant.version = ++this.#version
    if (difference === 0) return
    countShown(tenant, difference, this.#everyone, this.#clock.now())
    setSeen(tenant, userId, difference > 0, this.#clock.now())
  }

  #invisibleIn (tenantId: Id): Map<Id, number> {
    const users = this.#invisible.get(tenantId) ?? new Map<Id, number>()
    this.#invisible.set(tenantId, users)
    return users
  }

  /** Removes the user's connections over the limit: those without a socket first, then the oldest; never the newest. */
  #evict (tenant: Tenant, user: OnlineUser, newest: string, limit: number): RosterConnection[] {
    const hasSocket = ({ nodeId }: RosterConnection): boolean => nodeId !== null
    const others = user.connections.map((id) => tenant.connections.get(id)).filter((entry) => entry !== undefined)
      .filter(({ connectionId }) => connectionId !== newest)
      .sort((a, b) => Number(hasSocket(a)) - Number(hasSocket(b)) || a.connectedAt - b.connectedAt)
    // An open socket is not evicted for a connection that may never have one.
    const candidates = tenant.connections.get(newest)?.nodeId === null ? others.filter((entry) => !hasSocket(entry)) : others
    const evicted = candidates.slice(0, user.connections.length - limit)
    for (const entry of evicted) remove(tenant, entry, this.#times.offlineDelay, this.#clock.now())
    return evicted
  }
}

/** The result of a join that changed nothing. */
export const NOTHING_JOINED = {
  ownedByOther: false, isNew: false, isFirstOfUser: false, hasAppeared: false, standing: { status: 'online', everyone: true, online: 0 }, replaced: null, evicted: []
} satisfies JoinResult

const standingOf = ({ everyone, shown }: Tenant, { presence: { status } }: OnlineUser): Standing => ({ everyone, online: shown, status })

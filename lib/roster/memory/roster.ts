import type { Clock } from '../../clock.js'
import type { Id, Ids } from '../../ids.js'
import type { UserRef } from '../../keys.js'
import {
  createGenerations, defaultPresence, isFull, isShown, type ConnectionRef, type Counts, type Due, type JoinResult, type OnlinePage, type Presence, type RateCount,
  type Renewed, type Roster, type RosterConnection, type RosterTimes, type UsersOfTenant
} from '../contract.js'
import { collectRooms, MemoryRooms } from './rooms.js'
import { dismiss, evict, remove, scheduleCheck, collectDue, collectAnnouncement, countShown, type OnlineUser, type Tenant } from './tenant.js'
import { MemoryTyping } from './typing.js'
import { MemoryUsers, NOTHING_JOINED, standingOf } from './users.js'
import { MemoryWatches } from './watches.js'

/** The roster of one process. */
export class MemoryRoster implements Roster {
  readonly nodeId: string
  readonly healthy = true
  readonly #ids: Ids
  readonly #clock: Clock
  readonly #times: RosterTimes
  readonly #newGeneration = createGenerations()
  readonly #tenants = new Map<Id, Tenant>()
  readonly #rooms: MemoryRooms
  readonly #typing: MemoryTyping
  readonly #users: MemoryUsers
  readonly #watches: MemoryWatches
  readonly #rateCounts = new Map<string, { count: number, until: number }>()

  constructor (nodeId: string, ids: Ids, clock: Clock, times: RosterTimes) {
    this.#ids = ids
    this.nodeId = nodeId
    this.#clock = clock
    this.#times = times
    const tenantOf = (tenantId: Id): Tenant => this.#tenant(tenantId)
    this.#users = new MemoryUsers(this.#tenants, tenantOf, clock, times)
    this.#watches = new MemoryWatches(this.#tenants)
    this.#rooms = new MemoryRooms(this.#tenants, tenantOf, ids, clock)
    this.#typing = new MemoryTyping(this.#tenants, tenantOf, clock)
  }

  async start (): Promise<void> {}

  join (entry: Omit<RosterConnection, 'generation'>, limit: number, tenantLimit = 0): JoinResult & { generation: string } {
    const tenant = this.#tenant(entry.tenantId)
    const generation = this.#newGeneration()
    const known = tenant.connections.get(entry.connectionId)
    if (known !== undefined && known.userId !== entry.userId) {
      return { ...NOTHING_JOINED, ownedByOther: true, generation }
    }
    if (known === undefined && isFull(tenant.connections.size, tenantLimit)) return { ...NOTHING_JOINED, isTenantFull: true, generation }
    const { user, isFirstOfUser } = this.#users.markOnline(tenant, entry.tenantId, entry.userId, entry.device)
    // `offline` ends with the next connection.
    const hasReturned = user.presence.status === 'offline'
    if (hasReturned) this.#users.show(tenant, entry.userId, user, defaultPresence(entry.device, this.#clock.now()))
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
      watches: known?.watches ?? null,
      activeAt: this.#clock.now()
    })
    // idle memory: a push would reserve space for sixteen more ids while the user is online.
    if (!user.connections.includes(entry.connectionId)) user.connections = user.connections.concat(entry.connectionId)
    user.statusOnlyUntil = null
    if (entry.nodeId === null) scheduleCheck(tenant, this.#clock.now() + this.#times.registrationTtl)
    const evicted = user.connections.length > limit ? evict(tenant, user, entry.connectionId, limit, this.#times.offlineDelay, this.#clock.now()) : []
    const kept = tenant.connections.get(entry.connectionId)?.generation ?? generation
    const replaced = entry.nodeId !== null && known !== undefined && known.nodeId !== null ? known : null
    const standing = standingOf(tenant, user)
    return {
      ownedByOther: false,
      isTenantFull: false,
      isNew: known === undefined,
      isFirstOfUser,
      hasAppeared: hasReturned || (isFirstOfUser && isShown(standing.status)),
      standing,
      presence: isFirstOfUser ? user.presence : null,
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

  readonly recordWatches: Roster['recordWatches'] = async (...args) => await this.#watches.recordWatches(...args)
  readonly dropWatches: Roster['dropWatches'] = async (...args) => await this.#watches.dropWatches(...args)
  readonly takeWatches: Roster['takeWatches'] = async (...args) => await this.#watches.takeWatches(...args)

  readonly usePresence: Roster['usePresence'] = async (rules) => { await this.#users.usePresence(rules) }
  readonly sendsToEveryone: Roster['sendsToEveryone'] = (tenantId) => this.#users.sendsToEveryone(tenantId)
  setPresence (...args: Parameters<MemoryUsers['setPresence']>): ReturnType<MemoryUsers['setPresence']> {
    return this.#users.setPresence(...args)
  }

  readonly standing: Roster['standing'] = (...args) => this.#users.standing(...args)

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

  readonly enter: Roster['enter'] = (...args) => this.#rooms.enter(...args)
  readonly exit: Roster['exit'] = (...args) => this.#rooms.exit(...args)
  readonly collectRoomChange: Roster['collectRoomChange'] = (...args) => this.#rooms.collectRoomChange(...args)
  readonly members: Roster['members'] = async (...args) => await this.#rooms.members(...args)
  readonly roomSizes: Roster['roomSizes'] = async (...args) => await this.#rooms.roomSizes(...args)

  readonly startTyping: Roster['startTyping'] = (entry) => this.#typing.startTyping(entry)
  readonly stopTyping: Roster['stopTyping'] = async (keys) => await this.#typing.stopTyping(keys)
  readonly typing: Roster['typing'] = async (...args) => await this.#typing.typing(...args)

  async claimDue (): Promise<Due[]> {
    const now = this.#clock.now()
    const found: Due[] = []
    for (const [tenantId, tenant] of this.#tenants) {
      if (tenant.users.size + tenant.connections.size + tenant.typing.size + tenant.rooms.size === 0 && tenant.announceAt === null) this.#tenants.delete(tenantId)
      if (tenant.dueAt > now) continue
      const due = collectDue(tenant, this.#times, now)
      const rooms = collectRooms(tenant, now)
      const announce = collectAnnouncement(tenant, now)
      if (due.expiredConnections.length + due.typing.length + due.offline.length + rooms.length > 0 || announce !== null) {
        found.push({ tenantId, ...due, rooms, mode: { everyone: tenant.everyone, online: tenant.shown }, announce })
      }
    }
    for (const [key, { until }] of this.#rateCounts) if (until <= now) this.#rateCounts.delete(key)
    return found
  }

  async confirmOffline (users: UsersOfTenant[]): Promise<UsersOfTenant[]> {
    return users.flatMap(({ tenantId, userIds }) => {
      const tenant = this.#tenants.get(tenantId)
      if (tenant !== undefined) tenant.version = ++this.#users.version
      const back = userIds.filter((id) => {
        const user = tenant?.users.get(id)
        if (user !== undefined && user.offlineAt === null) return true
        if (tenant !== undefined && user !== undefined && isShown(user.presence.status)) countShown(tenant, -1, this.#users.everyone, this.#clock.now())
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

  async dismiss ({ tenantId, userId }: UserRef): Promise<void> {
    this.#users.reveal(tenantId, userId)
    const tenant = this.#tenants.get(tenantId)
    if (tenant !== undefined) dismiss(tenant, userId, this.#clock.now())
  }

  async forget (): Promise<void> {}

  release (): void {}

  countRequest (key: string, window: number): RateCount {
    const now = this.#clock.now()
    const known = this.#rateCounts.get(key)
    if (known !== undefined && known.until > now) return { count: ++known.count, ttl: known.until - now }
    this.#rateCounts.set(key, { count: 1, until: now + window })
    return { count: 1, ttl: window }
  }

  /** A single process shares no counters: returns its own counts. */
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
        version: ++this.#users.version,
        dueAt: Infinity,
        shown: 0,
        everyone: this.#users.everyone > 0,
        announceAt: null,
        hasFlipped: false,
        announcedAt: 0
      }
      this.#tenants.set(tenantId, tenant)
    }
    return tenant
  }
}

import type { FastifyBaseLogger } from 'fastify'
import type { Clock } from '../../clock.js'
import type { Id, Ids } from '../../ids.js'
import { connectionKey, type UserRef } from '../../keys.js'
import type { RedisConnections } from '../../redis/connect.js'
import {
  createGenerations, defaultPresence, type ConnectionRef, type Counts, type Due, type JoinResult, type OnlinePage, type Presence, type RateCount,
  type Renewed, type Roster, type RosterConnection, type RosterTimes, type TypingEntry, type TypingKey, type UsersOfTenant
} from '../contract.js'
import { MemoryRoster } from '../memory/roster.js'
import { decodePresence, encodePresence, ownedByOther, toConnection, toJoined, toOnlinePage, type Joined } from './codec.js'
import { isUnavailable, RosterCommands, unavailable } from './commands.js'
import { Healing } from './heal.js'
import { Lease } from './lease.js'
import { LocalState, type LocalSocket } from './local-state.js'
import { OfflineReconciler } from './offline-reconciler.js'
import { RecentDepartures } from './recent-departures.js'
import { RecentPresences } from './recent-presences.js'
import { RedisRepair } from './repair.js'
import { RedisSweep } from './sweep.js'
import { RedisTyping } from './typing.js'

/** Upper bound of the time between two renewals, in milliseconds. */
const RENEWAL_INTERVAL = 1000

/** Results of the script `setPresence`. */
const [FIRST_OF_USER, NOT_CONNECTED, LOST] = [1, 2, 3]

/** The roster of all nodes, on one Redis. */
export class RedisRoster implements Roster {
  readonly nodeId: string
  readonly #commands: RosterCommands
  readonly #clock: Clock
  readonly #times: RosterTimes
  readonly #newGeneration = createGenerations()
  readonly #lease: Lease
  readonly #local = new LocalState()
  readonly #departures: RecentDepartures
  readonly #joining = new Set<string>()
  readonly #typing: RedisTyping
  readonly #presences: RecentPresences
  readonly #healing: Healing
  readonly #sweep: RedisSweep
  readonly #repair: RedisRepair
  /** Counts requests on this node while Redis is away. */
  readonly #fallback: MemoryRoster

  constructor (nodeId: string, redis: RedisConnections, ids: Ids, clock: Clock, times: RosterTimes, log: FastifyBaseLogger) {
    this.nodeId = nodeId
    const commands = new RosterCommands(redis, nodeId, ids, clock, log)
    const lease = new Lease(nodeId, commands, clock, times)
    const departures = new RecentDepartures(times.offlineDelay + times.nodeTimeout)
    const typing = new RedisTyping(nodeId, commands, lease, clock)
    const presences = new RecentPresences(commands, lease, clock, times.offlineDelay)
    const offline = new OfflineReconciler(commands, lease, departures, times)
    this.#commands = commands
    this.#clock = clock
    this.#times = times
    this.#lease = lease
    this.#departures = departures
    this.#typing = typing
    this.#presences = presences
    this.#healing = new Healing({ nodeId, commands, lease, local: this.#local, offline, typing, presences, joining: this.#joining, times, log })
    this.#sweep = new RedisSweep({ commands, lease, departures, typing, times, log })
    this.#repair = new RedisRepair(commands, lease, times)
    this.#fallback = new MemoryRoster(nodeId, ids, clock, times)
  }

  get healthy (): boolean {
    return this.#commands.redis.ready
  }

  async start (): Promise<void> {
    await this.#lease.renew()
    this.#lease.markComplete()
  }

  async join (entry: Omit<RosterConnection, 'generation'>, limit: number): Promise<JoinResult & { generation: string }> {
    const generation = this.#newGeneration()
    const mine = { ...entry, generation }
    const before = this.#local.get(entry)
    if (before !== undefined && before.entry.userId !== entry.userId) return ownedByOther(generation)
    const key = connectionKey(entry.tenantId, entry.connectionId)
    this.#joining.add(key)
    try {
      // A node with sockets in the tenant recorded it before.
      const isNewTenant = this.#local.sizeOf(entry.tenantId) === 0
      if (isNewTenant && this.#commands.redis.isCluster) await this.#commands.rememberTenants([entry.tenantId])
      const joined = await this.#join(mine, limit, isNewTenant)
      if (joined.ownedByOther) return joined
      if (before !== undefined) this.#correct(joined, mine, before.entry)
      if (this.#isReported(entry, this.#lease.now)) joined.isFirstOfUser = false
      if (entry.nodeId !== null) this.#add({ entry: mine, openedAt: joined.openedAt, isInRedis: true }, joined.isFirstOfUser)
      return joined
    } catch (err) {
      if (entry.nodeId === null || !isUnavailable(err)) throw err
      this.#add({ entry: mine, openedAt: this.#lease.now, isInRedis: false }, false)
      return { ownedByOther: false, isNew: before === undefined, isFirstOfUser: false, replaced: before?.entry ?? null, evicted: [], generation }
    } finally {
      this.#joining.delete(key)
    }
  }

  /** This node knows the socket that had the id before, even if Redis lost it. */
  #correct (joined: JoinResult, mine: RosterConnection, before: RosterConnection): void {
    joined.isNew = false
    if (mine.nodeId !== null) joined.replaced ??= before
  }

  /** Whether the user is known to have been reported online and not offline: by a socket here, or because the last one ended less than `offlineDelay` before `at`. */
  #isReported (user: UserRef, at: number): boolean {
    return this.#local.isReported(user) || this.#departures.hasLeft(user, at - this.#times.offlineDelay)
  }

  #add (socket: LocalSocket, isFirst: boolean): void {
    // Redis may have worked for one interval after the last renewal.
    const isReported = socket.isInRedis || this.#isReported(socket.entry, this.#lease.completeAt + RENEWAL_INTERVAL)
    this.#local.add(socket, { isReported, isFirst })
    this.#departures.markReturned(socket.entry)
    this.#healing.checkSoon(socket)
  }

  async leave (ref: ConnectionRef, offlineDelay = this.#times.offlineDelay): Promise<boolean> {
    const removed = this.#local.remove(ref)
    if (removed !== null && removed.goneUser !== null) this.#remember(removed.entry, removed.goneUser)
    try {
      const held = removed === null ? null : { userId: removed.entry.userId, nodeId: this.nodeId }
      return await this.#commands.leave(ref, offlineDelay, held)
    } catch (err) {
      if (!isUnavailable(err)) throw err
      // It was replaced by another socket of this node, or it has left before.
      if (removed === null && (this.#local.get(ref) !== undefined || this.#local.hasDeparture(ref))) return false
      if (removed === null) throw err
      this.#local.queueDeparture({ ...removed.entry, offlineDelay })
      return true
    }
  }

  /** The user's last socket on this node has ended. */
  #remember ({ tenantId, userId }: RosterConnection, { isReported, presence }: { isReported: boolean, presence: Presence | null }): void {
    if (isReported) this.#departures.add({ tenantId, userId, at: this.#lease.now, isReported: false })
    if (presence !== null) this.#presences.add({ tenantId, userId }, presence)
  }

  async heartbeat (tenantId: Id, connectionId: string): Promise<void> {
    await this.#commands.run('heartbeat', this.#commands.base(tenantId), { id: connectionId, registrationTtl: this.#times.registrationTtl })
  }

  async find (tenantId: Id, connectionId: string): Promise<RosterConnection | null> {
    const local = this.#local.get({ tenantId, connectionId })?.entry ?? null
    try {
      const text = await this.#commands.redis.hget(`${this.#commands.base(tenantId)}connections`, connectionId)
      return text === null ? local : { ...toConnection(this.#commands.ids, tenantId, text), connectionId }
    } catch (err) {
      if (local === null || !isUnavailable(err)) throw err
      return local
    }
  }

  async connectionsOf (tenantId: Id, userId: Id): Promise<RosterConnection[]> {
    const found = await this.#commands.run('connectionsOf', this.#commands.base(tenantId), { user: userId }) as string[]
    return found.map((text) => toConnection(this.#commands.ids, tenantId, text))
  }

  async addChannel (tenantId: Id, connectionId: string, channel: string, limit: number): Promise<boolean> {
    return await this.#commands.run('addChannel', this.#commands.base(tenantId), { id: connectionId, channel, limit }) === 1
  }

  async removeChannel (tenantId: Id, connectionId: string, channel: string): Promise<void> {
    await this.#commands.redis.srem(`${this.#commands.base(tenantId)}channels:${connectionId}`, channel)
  }

  async channels (tenantId: Id, connectionId: string): Promise<string[]> {
    return await this.#commands.redis.smembers(`${this.#commands.base(tenantId)}channels:${connectionId}`)
  }

  async setPresence (tenantId: Id, userId: Id, presence: Presence): Promise<{ isFirstOfUser: boolean }> {
    const user = { tenantId, userId }
    const isLocal = this.#local.has(user)
    this.#local.setPresence(user, presence)
    try {
      const isFirst = await this.#setPresence(tenantId, userId, presence, isLocal)
      if (!isLocal) this.#presences.add(user, presence)
      return { isFirstOfUser: isFirst && !this.#isReported(user, this.#lease.now) }
    } catch (err) {
      if (!isLocal || !isUnavailable(err)) throw err
      return { isFirstOfUser: false }
    }
  }

  async presence (tenantId: Id, userIds: Id[]): Promise<Array<Presence | null>> {
    const found = await this.#commands.run('presence', this.#commands.base(tenantId), {}, userIds) as string[]
    return userIds.map((_, i) => decodePresence(found[2 * i], found[2 * i + 1], this.#clock.now()))
  }

  async online (tenantId: Id, { limit, after }: { limit: number, after: Id }): Promise<OnlinePage> {
    const found = await this.#commands.run('online', this.#commands.base(tenantId), { after, limit }) as [number, ...string[]]
    return toOnlinePage(this.#commands.ids, found, limit, this.#clock.now())
  }

  /** Null: other nodes change the list, too. */
  version (): null {
    return null
  }

  async counts (tenantId: Id): Promise<Counts> {
    const found = await this.#commands.run('counts', this.#commands.base(tenantId), { activeTtl: this.#times.registrationTtl / 2 })
    const [total, active, users] = found as [number, number, number]
    return { total, active, users }
  }

  async startTyping (entry: TypingEntry): Promise<boolean> {
    return await this.#typing.start(entry)
  }

  async stopTyping (keys: TypingKey[]): Promise<TypingEntry[]> {
    return await this.#typing.stop(keys)
  }

  async typing (tenantId: Id, conversationId: string): Promise<TypingEntry[]> {
    return await this.#typing.list(tenantId, conversationId)
  }

  async claimDue (): Promise<Due[]> {
    return await this.#sweep.claimDue()
  }

  async confirmOffline (users: UsersOfTenant[]): Promise<UsersOfTenant[]> {
    return await this.#sweep.confirmOffline(users)
  }

  async renew (share = 1): Promise<Renewed> {
    return await this.#healing.renew(share)
  }

  async reap (): Promise<boolean> {
    return await this.#sweep.reap()
  }

  async repair (share = 1): Promise<void> {
    await this.#repair.repair(share)
  }

  async countRequest (key: string, window: number): Promise<RateCount> {
    try {
      const [count, ttl] = await this.#commands.run('countRequest', `${this.#commands.prefix}hits:${key}`, { window }) as [number, number]
      return { count, ttl }
    } catch (err) {
      if (!isUnavailable(err)) throw err
      return this.#fallback.countRequest(key, window)
    }
  }

  readonly addCounts: Roster['addCounts'] = async (...args) => await this.#commands.addCounts(...args)

  async lock (name: string, ttl: number): Promise<boolean> {
    return await this.#commands.run('lock', `${this.#commands.prefix}lock:${name}`, { owner: this.nodeId, ttl }) === 1
  }

  async aliveNodes (): Promise<string[]> {
    return await this.#commands.livingNodes()
  }

  async close (): Promise<void> {
    const sockets = [...this.#local.tenantIds].flatMap((tenantId) => [...this.#local.in(tenantId)])
    await Promise.all(sockets.map(async ({ entry }) => { await this.leave(entry) })).catch(() => {})
    await this.#lease.end().catch(() => {})
    await this.#commands.redis.del(this.#commands.tenantsKey(this.nodeId)).catch(() => {})
  }

  /** If Redis lost data it throws as if Redis were away: then nobody knows which connection is a user's first. */
  async #join (entry: RosterConnection, limit: number, isNewTenant: boolean): Promise<Joined> {
    const { tenantId, device } = entry
    const { registrationTtl } = this.#times
    if (this.#lease.state === '') throw unavailable('Redis may have lost data')
    const { connectionId: id, userId: user, generation, connectedAt } = entry
    const args = {
      id, user, node: entry.nodeId ?? '', generation, device, connectedAt, limit, registrationTtl, tenant: tenantId, isNewTenant: isNewTenant ? '1' : '0',
      defaultPresence: encodePresence(defaultPresence(device, this.#clock.now())), state: this.#lease.state
    }
    const result = await this.#commands.changes.add('join', tenantId, args, entry.nodeId === null ? registrationTtl : null)
    const joined = toJoined(this.#commands.ids, entry, result)
    if (joined === null) throw unavailable('Redis lost data')
    return joined
  }

  async #setPresence (tenantId: Id, userId: Id, presence: Presence, isLocal: boolean): Promise<boolean> {
    const { registrationTtl } = this.#times
    const args = { user: userId, presence: encodePresence(presence), registrationTtl, setAt: presence.seenAt, state: this.#lease.state, tenant: tenantId }
    // A connected user needs no scheduled check. Redis may have lost the connection; then the status lease must end, too.
    let outcome = isLocal ? await this.#commands.run('setPresence', this.#commands.keysOf(tenantId), { ...args, onlyConnected: '1' }) : NOT_CONNECTED
    if (outcome === NOT_CONNECTED) outcome = await this.#commands.runScheduled('setPresence', tenantId, registrationTtl, { ...args, onlyConnected: '0' })
    if (outcome === LOST) throw unavailable('Redis lost data')
    return outcome === FIRST_OF_USER
  }
}

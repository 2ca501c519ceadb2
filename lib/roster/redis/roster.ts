import type { FastifyBaseLogger } from 'fastify'
import type { Clock } from '../../clock.js'
import type { Id, Ids } from '../../ids.js'
import { connectionKey, type UserRef } from '../../keys.js'
import type { RedisConnections } from '../../redis/connect.js'
import {
  createGenerations, defaultPresence, isFull, type ConnectionRef, type Counts, type JoinResult, type Presence,
  type Roster, type RosterConnection, type RosterTimes
} from '../contract.js'
import { NOTHING_JOINED } from '../memory/users.js'
import { encodePresence, refused, toConnection, toJoined, type Joined } from './codec.js'
import { isUnavailable, RosterCommands, unavailable } from './commands.js'
import { dismiss, forget } from './erasure.js'
import { Healing } from './heal.js'
import { Invisible } from './invisible.js'
import { Lease } from './lease.js'
import { LocalState, type LocalSocket } from './local-state.js'
import { RedisLocks } from './locks.js'
import { Modes } from './modes.js'
import { OfflineReconciler } from './offline-reconciler.js'
import { RedisPresence } from './presence.js'
import { RecentDepartures } from './recent-departures.js'
import { RecentPresences } from './recent-presences.js'
import { RedisRepair } from './repair.js'
import { RequestedByRest } from './requested-by-rest.js'
import { RedisRooms } from './rooms.js'
import { RedisSweep } from './sweep.js'
import { RedisTyping } from './typing.js'

/** Upper bound of the time between two renewals, in milliseconds. */
const RENEWAL_INTERVAL = 1000

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
  readonly #presence: RedisPresence
  readonly #healing: Healing
  readonly #sweep: RedisSweep
  readonly #repair: RedisRepair
  readonly #modes = new Modes()
  readonly #invisible: Invisible
  readonly #rooms: RedisRooms
  readonly #requested: RequestedByRest
  readonly #locks: RedisLocks

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
    const invisible = new Invisible(commands, clock)
    this.#invisible = invisible
    const isReported = (user: UserRef, at: number): boolean => this.#isReported(user, at)
    this.#presence = new RedisPresence({ commands, lease, local: this.#local, presences, modes: this.#modes, invisible, clock, times, isReported })
    this.#requested = new RequestedByRest(commands)
    this.#rooms = new RedisRooms(nodeId, commands, lease)
    this.#healing = new Healing({ invisible, modes: this.#modes, rooms: this.#rooms, nodeId, commands, lease, local: this.#local, offline, typing, presences, joining: this.#joining, times, log })
    this.#sweep = new RedisSweep({ invisible, modes: this.#modes, commands, lease, departures, typing, times, log })
    this.#repair = new RedisRepair(commands, lease, times, invisible)
    this.#locks = new RedisLocks(nodeId, commands, ids, clock, times)
  }

  get healthy (): boolean {
    return this.#commands.redis.ready
  }

  async start (): Promise<void> {
    await this.#lease.renew()
    this.#lease.markComplete()
  }

  async join (entry: Omit<RosterConnection, 'generation'>, limit: number, tenantLimit = 0): Promise<JoinResult & { generation: string }> {
    const generation = this.#newGeneration()
    const mine = { ...entry, generation }
    const before = this.#local.get(entry)
    if (before !== undefined && before.entry.userId !== entry.userId) return refused('ownedByOther', generation)
    const key = connectionKey(entry.tenantId, entry.connectionId)
    this.#joining.add(key)
    try {
      // A node with sockets in the tenant recorded it before.
      const isNewTenant = this.#local.sizeOf(entry.tenantId) === 0
      if (isNewTenant && this.#commands.redis.isCluster) await this.#commands.rememberTenants([entry.tenantId])
      const joined = await this.#join(mine, { limit, tenantLimit }, isNewTenant)
      if (joined.ownedByOther || joined.isTenantFull) return joined
      if (before !== undefined) this.#correct(joined, mine, before.entry)
      if (this.#isReported(entry, this.#lease.now)) {
        joined.isFirstOfUser = false
        joined.hasAppeared = joined.hasReturned
      }
      if (entry.nodeId !== null) this.#add({ entry: mine, openedAt: joined.openedAt, isInRedis: true }, joined.isFirstOfUser)
      this.#learnStatus(mine, joined)
      return joined
    } catch (err) {
      if (entry.nodeId === null || !isUnavailable(err)) throw err
      if (before === undefined && isFull(this.#local.sizeOf(entry.tenantId), tenantLimit)) return refused('isTenantFull', generation)
      this.#add({ entry: mine, openedAt: this.#lease.now, isInRedis: false }, false)
      // `offline` ends with the next connection.
      const hasAppeared = this.#local.presence(entry)?.status === 'offline'
      if (hasAppeared) this.#local.setPresence(entry, defaultPresence(entry.device, this.#lease.now))
      return { ...NOTHING_JOINED, hasAppeared, standing: this.#presence.localStanding(entry), isNew: before === undefined, replaced: before?.entry ?? null, generation }
    } finally {
      this.#joining.delete(key)
    }
  }

  /** This node knows the socket that had the id before, even if Redis lost it. */
  #correct (joined: JoinResult, mine: RosterConnection, before: RosterConnection): void {
    joined.isNew = false
    if (mine.nodeId !== null) joined.replaced ??= before
  }

  /** Keeps a status that no node has set since the user's first connection, so that Redis can be restored. */
  #learnStatus (entry: RosterConnection, { hasReturned, invisibleSince, openedAt }: Joined): void {
    const known = this.#local.presence(entry)
    const presence = defaultPresence(entry.device, openedAt)
    if (invisibleSince !== null && known?.status !== 'invisible') {
      this.#local.setPresence(entry, { ...presence, status: 'invisible', hiddenSince: invisibleSince, seenAt: invisibleSince })
    } else if (hasReturned) {
      this.#local.setPresence(entry, presence)
    }
  }

  /**
   * Whether the user is known to have been reported online and not offline: by a socket here, or because the last one ended less
   * than `offlineDelay` before `at`.
   */
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
    if (presence !== null) this.#presence.keep({ tenantId, userId }, presence)
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

  readonly addChannel: Roster['addChannel'] = async (...args) => await this.#requested.addChannel(...args)
  readonly removeChannel: Roster['removeChannel'] = async (...args) => { await this.#requested.removeChannel(...args) }
  readonly channels: Roster['channels'] = async (...args) => await this.#requested.channels(...args)
  readonly recordWatches: Roster['recordWatches'] = async (...args) => await this.#requested.recordWatches(...args)
  readonly dropWatches: Roster['dropWatches'] = async (...args) => await this.#requested.dropWatches(...args)
  readonly takeWatches: Roster['takeWatches'] = async (...args) => await this.#requested.takeWatches(...args)

  readonly usePresence: Roster['usePresence'] = async (rules) => { await this.#presence.usePresence(rules) }
  readonly sendsToEveryone: Roster['sendsToEveryone'] = (tenantId) => this.#presence.sendsToEveryone(tenantId)
  readonly setPresence: Roster['setPresence'] = async (...args) => await this.#presence.setPresence(...args)
  readonly standing: Roster['standing'] = async (...args) => await this.#presence.standing(...args)
  readonly presence: Roster['presence'] = async (...args) => await this.#presence.presence(...args)
  readonly online: Roster['online'] = async (...args) => await this.#presence.online(...args)

  /** Null: other nodes change the list, too. */
  version (): null {
    return null
  }

  async counts (tenantId: Id, shown = false): Promise<Counts> {
    const found = await this.#commands.run('counts', this.#commands.base(tenantId), { activeTtl: this.#times.registrationTtl / 2, shown: shown ? '1' : '0' })
    const [total, active, users] = found as [number, number, number]
    return { total, active, users }
  }

  readonly enter: Roster['enter'] = (...args) => this.#rooms.enter(...args)
  readonly exit: Roster['exit'] = (...args) => this.#rooms.exit(...args)
  readonly collectRoomChange: Roster['collectRoomChange'] = (...args) => this.#rooms.collectRoomChange(...args)
  readonly members: Roster['members'] = (...args) => this.#rooms.members(...args)
  readonly roomSizes: Roster['roomSizes'] = (...args) => this.#rooms.roomSizes(...args)

  readonly startTyping: Roster['startTyping'] = async (entry) => await this.#typing.start(entry)
  readonly stopTyping: Roster['stopTyping'] = async (keys) => await this.#typing.stop(keys)
  readonly typing: Roster['typing'] = async (...args) => await this.#typing.list(...args)

  readonly claimDue: Roster['claimDue'] = async () => await this.#sweep.claimDue()
  readonly confirmOffline: Roster['confirmOffline'] = async (users) => await this.#sweep.confirmOffline(users)
  readonly renew: Roster['renew'] = async (share = 1) => await this.#healing.renew(share)
  readonly reap: Roster['reap'] = async () => await this.#sweep.reap()
  readonly repair: Roster['repair'] = async (share = 1) => { await this.#repair.repair(share) }

  readonly dismiss: Roster['dismiss'] = async (user) => { await dismiss(this.#commands, user) }
  readonly forget: Roster['forget'] = async (user) => { await forget(this.#commands, user) }

  release (user: UserRef): void {
    this.#typing.forget(user)
    // Otherwise the node would report the user offline once more.
    this.#departures.remove(user)
    this.#presence.release(user)
  }

  readonly countRequest: Roster['countRequest'] = async (...args) => await this.#locks.countRequest(...args)
  readonly addCounts: Roster['addCounts'] = async (...args) => await this.#locks.addCounts(...args)
  readonly lock: Roster['lock'] = async (...args) => await this.#locks.lock(...args)

  readonly aliveNodes: Roster['aliveNodes'] = async () => await this.#commands.livingNodes()

  async close (): Promise<void> {
    const sockets = [...this.#local.tenantIds].flatMap((tenantId) => [...this.#local.in(tenantId)])
    await Promise.all(sockets.map(async ({ entry }) => { await this.leave(entry) })).catch(() => {})
    await this.#lease.end().catch(() => {})
    await this.#commands.redis.del(this.#commands.tenantsKey(this.nodeId)).catch(() => {})
  }

  /** If Redis lost data it throws as if Redis were away: then it is unknown which connection is a user's first. */
  async #join (entry: RosterConnection, limits: { limit: number, tenantLimit: number }, isNewTenant: boolean): Promise<Joined> {
    const { registrationTtl } = this.#times
    if (this.#lease.state === '') throw unavailable('Redis may have lost data')
    const { tenantId, connectionId: id, userId: user, generation, device, connectedAt } = entry
    const args = {
      id, user, node: entry.nodeId ?? '', generation, device, connectedAt, ...limits, registrationTtl, tenant: tenantId, isNewTenant: isNewTenant ? '1' : '0',
      defaultPresence: encodePresence(defaultPresence(device, this.#clock.now())), state: this.#lease.state
    }
    const result = await this.#invisible.known(tenantId, async () => {
      const result = await this.#commands.changes.add('join', tenantId, args, entry.nodeId === null ? registrationTtl : null) as [string]
      return result[0] === 'unknown' ? null : result
    })
    const joined = toJoined(this.#commands.ids, this.#modes, entry, result)
    if (joined === null) throw unavailable('Redis lost data')
    if (this.#commands.redis.isCluster && joined.isFirstOfUser) await this.#commands.scheduleAnnouncement(tenantId)
    return joined
  }
}

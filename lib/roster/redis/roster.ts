import type { FastifyBaseLogger } from 'fastify'
import type { Clock } from '../../clock.js'
import type { RedisConnections } from '../../redis/connect.js'
import {
  defaultPresence, newGeneration, type Counts, type Due, type RosterConnection, type RateCount, type JoinResult, type OnlinePage, type Presence, type Renewed, type Roster,
  type RosterTimes, type TypingEntry, type UsersOfTenant
} from '../contract.js'
import { Farewells } from '../farewells.js'
import { MemoryRoster } from '../memory/roster.js'
import { decodePresence, encodePresence, toEntry, toJoined, type Joined } from './codec.js'
import { away, isAway, RosterCommands } from './commands.js'
import { Healing, joiningKey } from './heal.js'
import { Lease } from './lease.js'
import { LocalState, type Held } from './local-state.js'
import { Reminders } from './reminders.js'
import { RedisRepair } from './repair.js'
import { Sayings } from './sayings.js'
import { RedisSweep } from './sweep.js'
import { RedisTyping, type TypingKey } from './typing.js'

/** At least the time between two renewals, in milliseconds. */
const BEAT = 1000

/** What the script of a status answers. */
const [FIRST, NOT_CONNECTED, LOST] = [1, 2, 3]

/** The roster of all nodes on one Redis. */
export class RedisRoster implements Roster {
  readonly nodeId: string
  readonly #commands: RosterCommands
  readonly #clock: Clock
  readonly #times: RosterTimes
  readonly #lease: Lease
  readonly #local = new LocalState()
  readonly #farewells: Farewells
  readonly #joining = new Set<string>()
  readonly #typing: RedisTyping
  readonly #sayings: Sayings
  readonly #healing: Healing
  readonly #sweep: RedisSweep
  readonly #repair: RedisRepair
  /** Counters of this node while Redis is away. */
  readonly #fallback: MemoryRoster

  constructor (nodeId: string, redis: RedisConnections, clock: Clock, times: RosterTimes, log: FastifyBaseLogger) {
    this.nodeId = nodeId
    const commands = new RosterCommands(redis, nodeId, clock, log)
    const lease = new Lease(nodeId, commands, clock, times)
    const farewells = new Farewells(times.offlineDelay + times.nodeTimeout)
    const typing = new RedisTyping(nodeId, commands, lease, clock)
    const reminders = new Reminders(commands, lease, farewells, times)
    this.#commands = commands
    this.#clock = clock
    this.#times = times
    this.#lease = lease
    this.#farewells = farewells
    this.#typing = typing
    this.#sayings = new Sayings(commands, lease, clock, times.offlineDelay)
    this.#healing = new Healing({
      nodeId, commands, lease, holdings: this.#local, reminders, typing, sayings: this.#sayings, joining: this.#joining, times, log
    })
    this.#sweep = new RedisSweep({ commands, lease, farewells, typing, times, log })
    this.#repair = new RedisRepair(commands, lease, times)
    this.#fallback = new MemoryRoster(nodeId, clock, times)
  }

  get healthy (): boolean {
    return this.#commands.ready
  }

  async start (): Promise<void> {
    await this.#lease.renew()
    this.#lease.good()
  }

  async join (entry: Omit<RosterConnection, 'generation'>, limit: number): Promise<JoinResult & { generation: string }> {
    const generation = newGeneration()
    const mine = { ...entry, generation }
    const before = this.#local.get(entry)
    if (before !== undefined && before.entry.userId !== entry.userId) return taken(generation)
    const key = joiningKey(entry)
    this.#joining.add(key)
    try {
      // Holding something there, the node said so already.
      if (this.#local.sizeOf(entry.tenantId) === 0) await this.#commands.rememberTenant(entry.tenantId)
      const joined = await this.#join(mine, limit)
      if (joined.ownedByOther) return joined
      if (before !== undefined) this.#correct(joined, mine, before.entry)
      if (this.#isKnown(entry, this.#lease.now)) joined.isFirstOfUser = false
      if (entry.nodeId !== null) this.#hold({ entry: mine, openedAt: joined.openedAt, isInRedis: true }, joined.isFirstOfUser)
      return joined
    } catch (err) {
      if (entry.nodeId === null || !isAway(err)) throw err
      this.#hold({ entry: mine, openedAt: this.#lease.now, isInRedis: false }, false)
      return { ownedByOther: false, isNew: before === undefined, isFirstOfUser: false, replaced: before?.entry ?? null, evicted: [], generation }
    } finally {
      this.#joining.delete(key)
    }
  }

  /** What Redis lost of the socket that had this id, this node knows. */
  #correct (joined: JoinResult, mine: RosterConnection, before: RosterConnection): void {
    joined.isNew = false
    if (mine.nodeId !== null) joined.replaced ??= before
  }

  /** Others know that the user is online: by a connection here, or since the grace after the last one was not over at that time. */
  #isKnown (user: Pick<RosterConnection, 'tenantId' | 'userId'>, at: number): boolean {
    return this.#local.isTold(user) || this.#farewells.left(user, at - this.#times.offlineDelay)
  }

  #hold (held: Held, first: boolean): void {
    // A beat may have passed between the last renewal and the loss of Redis.
    this.#local.add(held, { told: held.isInRedis || this.#isKnown(held.entry, this.#lease.goodAt + BEAT), first })
    this.#farewells.back(held.entry)
    this.#healing.checkSoon(held)
  }

  async leave (entry: Pick<RosterConnection, 'tenantId' | 'connectionId' | 'generation'>): Promise<boolean> {
    const dropped = this.#local.remove(entry)
    if (dropped !== null && dropped.gone !== null) this.#remember(dropped.entry, dropped.gone)
    try {
      return await this.#commands.leave(entry, this.#times.offlineDelay, dropped === null ? null : { userId: dropped.entry.userId, nodeId: this.nodeId })
    } catch (err) {
      if (!isAway(err)) throw err
      // Another socket of this node took its place, or it left already.
      if (dropped === null && (this.#local.get(entry) !== undefined || this.#local.mourns(entry))) return false
      if (dropped === null) throw err
      this.#local.queueDeparture(dropped.entry)
      return true
    }
  }

  /** The user's last connection here is gone. */
  #remember ({ tenantId, userId }: RosterConnection, { told, said: outcome }: { told: boolean, said: Presence | null }): void {
    if (told) this.#farewells.add({ tenantId, userId, at: this.#lease.now, told: false })
    if (outcome !== null) this.#sayings.add({ tenantId, userId }, outcome)
  }

  async heartbeat (tenantId: number, connectionId: string): Promise<void> {
    await this.#commands.run('touch', this.#commands.base(tenantId), connectionId, this.#times.registrationTtl)
  }

  async find (tenantId: number, connectionId: string): Promise<RosterConnection | null> {
    const here = this.#local.get({ tenantId, connectionId })?.entry ?? null
    try {
      const text = await this.#commands.attempt(async (redis) => await redis.hget(`${this.#commands.base(tenantId)}connections`, connectionId))
      return text === null ? here : { ...toEntry(tenantId, text), connectionId }
    } catch (err) {
      if (here === null || !isAway(err)) throw err
      return here
    }
  }

  async connectionsOf (tenantId: number, userId: number): Promise<RosterConnection[]> {
    const found = await this.#commands.run('connectionsOf', this.#commands.base(tenantId), userId) as string[]
    return found.map((text) => toEntry(tenantId, text))
  }

  async addChannel (tenantId: number, connectionId: string, channel: string, limit: number): Promise<boolean> {
    return await this.#commands.run('addChannel', this.#commands.base(tenantId), connectionId, channel, limit) === 1
  }

  async removeChannel (tenantId: number, connectionId: string, channel: string): Promise<void> {
    await this.#commands.attempt(async (redis) => await redis.srem(`${this.#commands.base(tenantId)}channels:${connectionId}`, channel))
  }

  async channels (tenantId: number, connectionId: string): Promise<string[]> {
    return await this.#commands.attempt(async (redis) => await redis.smembers(`${this.#commands.base(tenantId)}channels:${connectionId}`))
  }

  async setPresence (tenantId: number, userId: number, presence: Presence): Promise<{ isFirstOfUser: boolean }> {
    const user = { tenantId, userId }
    const here = this.#local.has(user)
    this.#local.say(user, presence)
    try {
      const first = await this.#setPresence(tenantId, userId, presence, here)
      if (!here) this.#sayings.add(user, presence)
      return { isFirstOfUser: first && !this.#isKnown(user, this.#lease.now) }
    } catch (err) {
      if (!here || !isAway(err)) throw err
      return { isFirstOfUser: false }
    }
  }

  async presence (tenantId: number, userIds: number[]): Promise<Array<Presence | null>> {
    const found = await this.#commands.run('presence', this.#commands.base(tenantId), ...userIds) as string[]
    return userIds.map((_, i) => decodePresence(found[2 * i], found[2 * i + 1], this.#clock.now()))
  }

  async online (tenantId: number, { limit, after }: { limit: number, after: number }): Promise<OnlinePage> {
    const [total, ...rest] = await this.#commands.run('online', this.#commands.base(tenantId), after, limit) as [number, ...string[]]
    const users: OnlinePage['users'] = []
    for (let i = 0; i + 2 < rest.length; i += 3) {
      const presence = decodePresence(rest[i + 1], rest[i + 2], this.#clock.now())
      if (presence !== null) users.push({ userId: Number(rest[i]), presence })
    }
    const page = users.slice(0, limit)
    return { users: page, total, next: users.length > limit ? page.at(-1)?.userId ?? null : null }
  }

  /** Other nodes change it too. */
  version (): null {
    return null
  }

  async counts (tenantId: number): Promise<Counts> {
    const [total, active, users] = await this.#commands.run('counts', this.#commands.base(tenantId), this.#times.registrationTtl / 2) as [number, number, number]
    return { total, active, users }
  }

  async startTyping (entry: TypingEntry): Promise<boolean> {
    return await this.#typing.start(entry)
  }

  async stopTyping (keys: TypingKey[]): Promise<TypingEntry[]> {
    return await this.#typing.stop(keys)
  }

  async typing (tenantId: number, conversationId: string): Promise<TypingEntry[]> {
    return await this.#typing.list(tenantId, conversationId)
  }

  async claimDue (): Promise<Due[]> {
    return await this.#sweep.due()
  }

  async confirmOffline (told: UsersOfTenant[]): Promise<UsersOfTenant[]> {
    return await this.#sweep.settle(told)
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
      const [count, ttl] = await this.#commands.run('hit', `${this.#commands.prefix}hits:${key}`, window) as [number, number]
      return { count, ttl }
    } catch (err) {
      if (!isAway(err)) throw err
      return this.#fallback.countRequest(key, window)
    }
  }

  async lock (name: string, ttl: number): Promise<boolean> {
    return await this.#commands.run('lock', `${this.#commands.prefix}lock:${name}`, this.nodeId, ttl) === 1
  }

  async aliveNodes (): Promise<string[]> {
    return await this.#commands.run('nodes', this.#commands.nodesKey, '0') as string[]
  }

  async close (): Promise<void> {
    const entries = [...this.#local.tenantIds].flatMap((tenantId) => [...this.#local.in(tenantId)])
    await Promise.all(entries.map(async ({ entry }) => { await this.leave(entry) })).catch(() => {})
    await this.#lease.end().catch(() => {})
    await this.#commands.attempt(async (redis) => await redis.del(this.#commands.tenantsKey(this.nodeId))).catch(() => {})
  }

  /** Throws as if Redis were away while it lost what it had: then nobody knows who is the first. */
  async #join (entry: RosterConnection, limit: number): Promise<Joined> {
    const { tenantId, generation, device } = entry
    const join = async (): Promise<unknown> => await this.#commands.run('join', this.#commands.baseAndState(tenantId), entry.connectionId,
      entry.userId, entry.nodeId ?? '', generation, device, entry.connectedAt, limit, this.#times.registrationTtl,
      encodePresence(defaultPresence(device, this.#clock.now())), this.#lease.state)
    const joined = this.#lease.state === ''
      ? null
      : toJoined(entry, entry.nodeId === null ? await this.#commands.becomingDue([tenantId], this.#times.registrationTtl, join) : await join())
    if (joined === null) throw away('Redis is not as this node left it')
    return joined
  }

  async #setPresence (tenantId: number, userId: number, presence: Presence, here: boolean): Promise<boolean> {
    const set = async (connected: '0' | '1'): Promise<unknown> => await this.#commands.run('setPresence', this.#commands.baseAndState(tenantId), userId,
      encodePresence(presence), this.#times.registrationTtl, presence.seenAt, connected, this.#lease.state)
    // Who is connected is online for that. For others the sign is, and it must end: also where Redis lost the connection.
    const outcome = here ? await set('1') : NOT_CONNECTED
    const done = outcome !== NOT_CONNECTED ? outcome : await this.#commands.becomingDue([tenantId], this.#times.registrationTtl, async () => await set('0'))
    if (done === LOST) throw away('Redis is not as this node left it')
    return done === FIRST
  }
}

const taken = (generation: string): JoinResult & { generation: string } =>
  ({ ownedByOther: true, isNew: false, isFirstOfUser: false, replaced: null, evicted: [], generation })

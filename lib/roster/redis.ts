import type { FastifyBaseLogger } from 'fastify'
import type { Clock } from '../clock.js'
import type { RedisConnections } from '../redis.js'
import {
  defaultPresence, newGeneration, type Counts, type Due, type Entry, type Hit, type JoinResult, type OnlinePage, type Presence, type Roster, type RosterTimes,
  type TypingEntry
} from './contract.js'
import { Holdings } from './holdings.js'
import { MemoryRoster } from './memory.js'
import { decodePresence, encodePresence, RosterCommands, toEntry, toJoinResult } from './redis-commands.js'
import { RedisTyping, type TypingKey } from './redis-typing.js'

/** How long a node has to tell what became due before another one does. */
const CLAIM = 5000

/** What the script of a status answers. */
const [FIRST, NOT_CONNECTED] = [1, 2]

/** The roster of all nodes on one Redis. */
export class RedisRoster implements Roster {
  readonly nodeId: string
  readonly #commands: RosterCommands
  readonly #clock: Clock
  readonly #times: RosterTimes
  readonly #log: FastifyBaseLogger
  readonly #holdings = new Holdings()
  readonly #typing: RedisTyping
  #epoch = ''
  /** Counters of this node while Redis is away. */
  readonly #alone: MemoryRoster

  constructor (nodeId: string, redis: RedisConnections, clock: Clock, times: RosterTimes, log: FastifyBaseLogger) {
    this.nodeId = nodeId
    this.#commands = new RosterCommands(redis, nodeId, clock)
    this.#typing = new RedisTyping(this.#commands, clock)
    this.#clock = clock
    this.#times = times
    this.#log = log
    this.#alone = new MemoryRoster(nodeId, clock, times)
  }

  get healthy (): boolean {
    return this.#commands.ready
  }

  async start (): Promise<void> {
    await this.#commands.run('renew', this.#commands.nodesKey, this.nodeId, this.#times.lease)
    this.#epoch = await this.#commands.epoch()
  }

  async join (entry: Omit<Entry, 'generation'>, limit: number): Promise<JoinResult & { generation: string }> {
    const generation = newGeneration()
    const mine = { ...entry, generation }
    try {
      await this.#commands.remember(entry.tenantId)
      const joined = await this.#join(mine, limit)
      if (entry.nodeId !== null && !joined.taken) this.#holdings.hold(mine, true)
      return joined
    } catch (err) {
      if (entry.nodeId === null) throw err
      this.#holdings.hold(mine, false)
      return { taken: false, fresh: true, first: false, replaced: null, evicted: [], generation }
    }
  }

  async leave (entry: Pick<Entry, 'tenantId' | 'connectionId' | 'generation'>): Promise<boolean> {
    const held = this.#holdings.drop(entry)
    try {
      return await this.#leave(entry)
    } catch (err) {
      if (held === null) throw err
      this.#holdings.mourn(held)
      return true
    }
  }

  async touch (tenantId: number, connectionId: string): Promise<void> {
    await this.#commands.run('touch', this.#commands.base(tenantId), connectionId, this.#times.restLease)
  }

  async find (tenantId: number, connectionId: string): Promise<Entry | null> {
    const text = await this.#commands.attempt(async (redis) => await redis.hget(`${this.#commands.base(tenantId)}connections`, connectionId))
    return text === null ? null : { ...toEntry(tenantId, text), connectionId }
  }

  async connectionsOf (tenantId: number, userId: number): Promise<Entry[]> {
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

  async setPresence (tenantId: number, userId: number, presence: Presence): Promise<{ first: boolean }> {
    try {
      const first = await this.#setPresence(tenantId, userId, presence, false)
      this.#holdings.setPresence(tenantId, userId, presence, true)
      return { first }
    } catch {
      this.#holdings.setPresence(tenantId, userId, presence, false)
      return { first: false }
    }
  }

  async presence (tenantId: number, userIds: number[]): Promise<Array<Presence | null>> {
    const found = await this.#commands.run('presence', this.#commands.base(tenantId), ...userIds) as string[]
    return userIds.map((_, i) => decodePresence(found[2 * i], found[2 * i + 1]))
  }

  async online (tenantId: number, { limit, after }: { limit: number, after: number }): Promise<OnlinePage> {
    const [total, ...rest] = await this.#commands.run('online', this.#commands.base(tenantId), after, limit) as [number, ...string[]]
    const users: OnlinePage['users'] = []
    for (let i = 0; i + 2 < rest.length; i += 3) {
      const presence = decodePresence(rest[i + 1], rest[i + 2])
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
    const [total, active, users] = await this.#commands.run('counts', this.#commands.base(tenantId), this.#times.restLease / 2) as [number, number, number]
    return { total, active, users }
  }

  async startTyping (entry: TypingEntry): Promise<boolean> {
    return await this.#typing.start(entry)
  }

  async stopTyping (keys: TypingKey[]): Promise<TypingEntry[]> {
    return await this.#typing.stop(keys)
  }

  async typing (tenantId: number, conversationId: string): Promise<TypingEntry[]> {
    return await this.#typing.in(tenantId, conversationId)
  }

  async due (): Promise<Due[]> {
    const expired = this.#typing.expired()
    const tell = (typed: typeof expired): Due[] =>
      typed.map(({ entry }) => ({ tenantId: entry.tenantId, offline: [], typing: [entry], lapsed: [] }))
    try {
      const [ends = '', ...claimed] = await this.#commands.run('claimDue', this.#commands.dueKey, CLAIM) as string[]
      const tenants = claimed.filter((_, i) => i % 2 === 0)
      const shared = await Promise.all(tenants.map(async (tenant, i) => await this.#dueIn(tenant, ends, claimed[2 * i + 1] ?? '0')))
      return [...tell(expired.filter(({ written }) => !written)), ...shared]
    } catch (err) {
      if (expired.length === 0) throw err
      return tell(expired)
    }
  }

  async #dueIn (tenant: string, ends: string, mark: string): Promise<Due> {
    const tenantId = Number(tenant)
    const [offline, typing, lapsed, next] = await this.#commands.run('due', this.#commands.base(tenantId), this.#times.grace, CLAIM) as
      [string[], string[], string[], string]
    await this.#commands.run('finishDue', this.#commands.dueKey, tenant, ends, mark, next)
    return {
      tenantId,
      offline: offline.map(Number),
      typing: typing.map((text) => JSON.parse(text) as TypingEntry),
      lapsed: lapsed.map((text) => toEntry(tenantId, text))
    }
  }

  async settle (tenantId: number, userIds: number[]): Promise<number[]> {
    if (userIds.length === 0) return []
    return (await this.#commands.run('settle', this.#commands.base(tenantId), ...userIds) as string[]).map(Number)
  }

  async renew (): Promise<Array<Pick<Entry, 'tenantId' | 'userId' | 'connectionId'>>> {
    const known = await this.#commands.run('renew', this.#commands.nodesKey, this.nodeId, this.#times.lease) === 1
    const epoch = await this.#commands.epoch()
    const emptied = epoch !== this.#epoch
    const { entries, gone } = this.#holdings
    const missing = known && !emptied ? entries.filter(({ written }) => !written) : entries
    await this.#typing.writeBack(emptied)
    const firsts: Entry[] = []
    if (missing.length + gone.length > 0) {
      this.#log.warn({ connections: missing.length, left: gone.length, emptied }, 'writing to the roster what it missed of this node')
    }
    for (const tenantId of new Set([...missing.map(({ entry }) => entry.tenantId), ...gone.map((entry) => entry.tenantId)])) {
      await this.#commands.remember(tenantId)
    }
    for (const held of missing) {
      const { first } = await this.#join(held.entry, Number.MAX_SAFE_INTEGER)
      // Nobody was told offline by an emptied Redis; whoever took this node for dead did tell.
      if (first && !(emptied && held.written)) firsts.push(held.entry)
      held.written = true
    }
    for (const { tenantId, userId, presence, written } of this.#holdings.presences) {
      if (written && !emptied) continue
      await this.#setPresence(tenantId, userId, presence, true)
      this.#holdings.setPresence(tenantId, userId, presence, true)
    }
    for (const entry of gone) {
      // Listeners still see the user: back in for a moment, so that the grace and the one `offline` take their course.
      if (emptied) await this.#join(entry, Number.MAX_SAFE_INTEGER)
      await this.#leave(entry)
      this.#holdings.buried(entry)
    }
    this.#epoch = epoch
    return firsts
  }

  async reap (): Promise<void> {
    const dead = await this.#commands.run('nodes', this.#commands.nodesKey, '1') as string[]
    for (const nodeId of dead) {
      const key = this.#commands.tenantsKey(nodeId)
      for (const tenant of await this.#commands.attempt(async (redis) => await redis.smembers(key))) {
        await this.#commands.becomingDue(Number(tenant), 0, async () => {
          while (await this.#commands.run('reap', this.#commands.base(Number(tenant)), nodeId) as number > 0);
        })
        await this.#commands.attempt(async (redis) => await redis.srem(key, tenant))
      }
      // Last, so that whoever is interrupted leaves the node to the next reaper.
      await this.#commands.attempt(async (redis) => await redis.zrem(this.#commands.nodesKey, nodeId))
      this.#log.info({ node: nodeId }, 'dead node reaped')
    }
  }

  async hit (key: string, window: number): Promise<Hit> {
    try {
      const [count, ttl] = await this.#commands.run('hit', `${this.#commands.prefix}hits:${key}`, window) as [number, number]
      return { count, ttl }
    } catch {
      return this.#alone.hit(key, window)
    }
  }

  async lock (name: string, ttl: number): Promise<boolean> {
    return await this.#commands.run('lock', `${this.#commands.prefix}lock:${name}`, this.nodeId, ttl) === 1
  }

  async aliveNodes (): Promise<string[]> {
    return await this.#commands.run('nodes', this.#commands.nodesKey, '0') as string[]
  }

  async close (): Promise<void> {
    await Promise.all(this.#holdings.entries.map(async ({ entry }) => { await this.leave(entry) })).catch(() => {})
    await this.#commands.attempt(async (redis) => await redis.zrem(this.#commands.nodesKey, this.nodeId)).catch(() => {})
    await this.#commands.attempt(async (redis) => await redis.del(this.#commands.tenantsKey(this.nodeId))).catch(() => {})
  }

  async #join (entry: Entry, limit: number): Promise<JoinResult & { generation: string }> {
    const { tenantId, generation, device } = entry
    const join = async (): Promise<unknown> => await this.#commands.run('join', this.#commands.base(tenantId), entry.connectionId,
      entry.userId, entry.nodeId ?? '', generation, device, entry.connectedAt, limit, this.#times.restLease,
      encodePresence(defaultPresence(device, this.#clock.now())))
    return toJoinResult(entry, entry.nodeId === null ? await this.#commands.becomingDue(tenantId, this.#times.restLease, join) : await join())
  }

  async #leave ({ tenantId, connectionId, generation }: Pick<Entry, 'tenantId' | 'connectionId' | 'generation'>): Promise<boolean> {
    return await this.#commands.becomingDue(tenantId, this.#times.grace, async () =>
      await this.#commands.run('leave', this.#commands.base(tenantId), connectionId, generation, this.#times.grace)) === 1
  }

  async #setPresence (tenantId: number, userId: number, presence: Presence, again: boolean): Promise<boolean> {
    const set = async (connected: '0' | '1'): Promise<unknown> => await this.#commands.run('setPresence', this.#commands.base(tenantId), userId,
      encodePresence(presence), presence.status === 'offline' ? '0' : '1', this.#times.restLease, presence.seenAt, again ? '1' : '0', connected)
    // Who is connected is online for that. For others the sign is, and it must end: also where Redis lost the connection.
    const said = this.#holdings.has(tenantId, userId) ? await set('1') : NOT_CONNECTED
    return (said !== NOT_CONNECTED ? said : await this.#commands.becomingDue(tenantId, this.#times.restLease, async () => await set('0'))) === FIRST
  }
}

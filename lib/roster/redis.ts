import { randomUUID } from 'node:crypto'
import type { FastifyBaseLogger } from 'fastify'
import type { Clock } from '../clock.js'
import type { RedisConnections } from '../redis.js'
import {
  defaultPresence, type Counts, type Due, type Entry, type JoinResult, type OnlinePage, type Presence, type Roster, type RosterTimes,
  type TypingEntry
} from './contract.js'
import { Holdings } from './holdings.js'
import { MemoryRoster } from './memory.js'
import { decodePresence, encodePresence, RosterCommands, toEntry } from './redis-commands.js'
import { TypedHere } from './typed-here.js'

/** How long a node has to tell what became due before another one does. */
const CLAIM = 5000

/** The roster of all nodes on one Redis. */
export class RedisRoster implements Roster {
  readonly nodeId: string
  readonly #commands: RosterCommands
  readonly #clock: Clock
  readonly #times: RosterTimes
  readonly #log: FastifyBaseLogger
  readonly #holdings = new Holdings()
  readonly #typed = new TypedHere()
  /** Counters of this node while Redis is away. */
  readonly #alone: MemoryRoster

  constructor (nodeId: string, redis: RedisConnections, clock: Clock, times: RosterTimes, log: FastifyBaseLogger) {
    this.nodeId = nodeId
    this.#commands = new RosterCommands(redis, nodeId, clock)
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
  }

  async join (entry: Omit<Entry, 'generation'>, limit: number): Promise<JoinResult & { generation: string }> {
    const generation = randomUUID()
    const held = entry.nodeId === null ? null : this.#holdings.hold({ ...entry, generation })
    try {
      await this.#commands.remember(entry.tenantId)
      const joined = await this.#join({ ...entry, generation }, limit)
      if (joined.taken) this.#holdings.drop({ ...entry, generation })
      else if (held !== null) held.written = true
      return joined
    } catch (err) {
      if (held === null) throw err
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
    this.#holdings.setPresence(tenantId, userId, presence)
    return { first: await this.#setPresence(tenantId, userId, presence).catch(() => false) }
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

  async counts (tenantId: number): Promise<Counts> {
    const [total, active, users] = await this.#commands.run('counts', this.#commands.base(tenantId), this.#times.restLease / 2) as [number, number, number]
    return { total, active, users }
  }

  async startTyping (entry: TypingEntry): Promise<boolean> {
    const before = this.#typed.get(entry, this.#clock.now())
    const lasting = before === null ? entry : { ...before.entry, expiresAt: entry.expiresAt }
    try {
      const started = await this.#startTyping(lasting)
      this.#typed.set(lasting, true)
      // Where it began while Redis was away it was told then.
      return started && before === null
    } catch {
      this.#typed.set(lasting, false)
      return before === null
    }
  }

  async stopTyping (keys: Array<Pick<TypingEntry, 'tenantId' | 'userId' | 'conversationId'>>): Promise<TypingEntry[]> {
    const here = this.#typed.take(keys)
    const tenants = [...new Set(keys.map(({ tenantId }) => tenantId))]
    const stopped = await Promise.all(tenants.map(async (tenantId) => {
      const own = keys.filter((key) => key.tenantId === tenantId).map(typingKey)
      try {
        const found = await this.#commands.run('stopTyping', this.#commands.base(tenantId), ...own) as string[]
        return [...here.filter(({ entry, written }) => entry.tenantId === tenantId && !written).map(({ entry }) => entry),
          ...found.map((text) => JSON.parse(text) as TypingEntry)]
      } catch {
        return here.filter(({ entry }) => entry.tenantId === tenantId).map(({ entry }) => entry)
      }
    }))
    return stopped.flat()
  }

  async typing (tenantId: number, conversationId: string): Promise<TypingEntry[]> {
    const found = await this.#commands.run('typing', this.#commands.base(tenantId), conversationId) as string[]
    const entries: TypingEntry[] = []
    for (let i = 0; i + 1 < found.length; i += 2) {
      entries.push({ ...JSON.parse(found[i] ?? '') as TypingEntry, expiresAt: Number(found[i + 1]) })
    }
    return entries.sort((a, b) => a.startedAt - b.startedAt)
  }

  async due (): Promise<Due[]> {
    const expired = this.#typed.expired(this.#clock.now())
    const tell = (typed: typeof expired): Due[] =>
      typed.map(({ entry }) => ({ tenantId: entry.tenantId, offline: [], typing: [entry], lapsed: [] }))
    try {
      const [ends = '', ...tenants] = await this.#commands.run('claimDue', this.#commands.dueKey, CLAIM) as string[]
      return [...tell(expired.filter(({ written }) => !written)), ...await Promise.all(tenants.map(async (tenant) => await this.#dueIn(tenant, ends)))]
    } catch (err) {
      if (expired.length === 0) throw err
      return tell(expired)
    }
  }

  async #dueIn (tenant: string, ends: string): Promise<Due> {
    const tenantId = Number(tenant)
    const [offline, typing, lapsed, next] = await this.#commands.run('due', this.#commands.base(tenantId), this.#times.grace, CLAIM) as
      [string[], string[], string[], string]
    await this.#commands.run('finishDue', this.#commands.dueKey, tenant, ends, next)
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
    const { entries, gone } = this.#holdings
    const missing = known ? entries.filter(({ written }) => !written) : entries
    for (const { entry, written } of this.#typed.all) {
      if (known && written) continue
      await this.#startTyping(entry)
      this.#typed.set(entry, true)
    }
    if (missing.length + gone.length === 0) return []
    this.#log.warn({ connections: missing.length, left: gone.length, emptied: !known }, 'writing to the roster what it missed of this node')
    for (const tenantId of new Set([...missing.map(({ entry }) => entry.tenantId), ...gone.map((entry) => entry.tenantId)])) {
      await this.#commands.remember(tenantId)
    }
    const firsts: Entry[] = []
    for (const held of missing) {
      const { first } = await this.#join(held.entry, Number.MAX_SAFE_INTEGER)
      // Who was written before was told online before.
      if (first && !held.written) firsts.push(held.entry)
      held.written = true
    }
    for (const { tenantId, userId, presence } of this.#holdings.presences) await this.#setPresence(tenantId, userId, presence)
    for (const entry of gone) {
      // Listeners still see the user: back in for a moment, so that the grace and the one `offline` take their course.
      if (!known) await this.#join(entry, Number.MAX_SAFE_INTEGER)
      await this.#leave(entry)
      this.#holdings.buried(entry)
    }
    return firsts
  }

  async reap (): Promise<void> {
    const dead = await this.#commands.run('nodes', this.#commands.nodesKey, '1') as string[]
    for (const nodeId of dead) {
      const key = this.#commands.tenantsKey(nodeId)
      for (const tenant of await this.#commands.attempt(async (redis) => await redis.smembers(key))) {
        await this.#commands.dueAt(Number(tenant), 0)
        while (await this.#commands.run('reap', this.#commands.base(Number(tenant)), nodeId) as number > 0);
        await this.#commands.attempt(async (redis) => await redis.srem(key, tenant))
      }
      // Last, so that whoever is interrupted leaves the node to the next reaper.
      await this.#commands.attempt(async (redis) => await redis.zrem(this.#commands.nodesKey, nodeId))
      this.#log.info({ node: nodeId }, 'dead node reaped')
    }
  }

  async hit (key: string, window: number): Promise<{ count: number, ttl: number }> {
    try {
      const [count, ttl] = await this.#commands.run('hit', `${this.#commands.prefix}hits:${key}`, window) as [number, number]
      return { count, ttl }
    } catch {
      return await this.#alone.hit(key, window)
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
    if (entry.nodeId === null) await this.#commands.dueAt(tenantId, this.#times.restLease)
    const [state, fresh, first, replaced, kept, ...evicted] = await this.#commands.run('join', this.#commands.base(tenantId), entry.connectionId, entry.userId,
      entry.nodeId ?? '', generation, device, entry.connectedAt, limit, this.#times.restLease,
      encodePresence(defaultPresence(device, this.#clock.now()))) as [string, number, number, string, string, ...string[]]
    if (state === 'taken') return { taken: true, fresh: false, first: false, replaced: null, evicted: [], generation }
    return {
      taken: false,
      fresh: fresh === 1,
      first: first === 1,
      replaced: replaced === '' ? null : toEntry(tenantId, replaced),
      evicted: evicted.map((text) => toEntry(tenantId, text)),
      generation: kept
    }
  }

  async #leave ({ tenantId, connectionId, generation }: Pick<Entry, 'tenantId' | 'connectionId' | 'generation'>): Promise<boolean> {
    await this.#commands.dueAt(tenantId, this.#times.grace)
    return await this.#commands.run('leave', this.#commands.base(tenantId), connectionId, generation, this.#times.grace) === 1
  }

  async #startTyping (entry: TypingEntry): Promise<boolean> {
    const { tenantId, expiresAt } = entry
    await this.#commands.dueAt(tenantId, expiresAt - this.#clock.now())
    return await this.#commands.run('startTyping', this.#commands.base(tenantId), typingKey(entry), JSON.stringify(entry), expiresAt) === 1
  }

  async #setPresence (tenantId: number, userId: number, presence: Presence): Promise<boolean> {
    await this.#commands.dueAt(tenantId, this.#times.restLease)
    return await this.#commands.run('setPresence', this.#commands.base(tenantId), userId, encodePresence(presence),
      presence.status === 'offline' ? '0' : '1', this.#times.restLease) === 1
  }
}

const typingKey = ({ userId, conversationId }: Pick<TypingEntry, 'userId' | 'conversationId'>): string => `${userId}:${conversationId}`

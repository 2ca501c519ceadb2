import { randomUUID } from 'node:crypto'
import type { Redis } from 'ioredis'
import type { FastifyBaseLogger } from 'fastify'
import type { Clock } from '../clock.js'
import { RealtimeError } from '../errors.js'
import type { RedisConnections } from '../redis.js'
import type { Device } from '../schemas.js'
import {
  defaultPresence, type Counts, type Due, type Entry, type JoinResult, type OnlinePage, type Presence, type Roster, type RosterTimes,
  type TypingEntry
} from './contract.js'
import * as scripts from './redis-scripts.js'

type Script = keyof typeof scripts
type Argument = string | number
type Commands = Redis & Record<`rt_${Script}`, (...args: Argument[]) => Promise<unknown>>

/** How long a node has to tell what became due before another one does. */
const CLAIM = 5000

/** The roster of all nodes on one Redis. */
export class RedisRoster implements Roster {
  readonly nodeId: string
  readonly #commands: Commands
  readonly #prefix: string
  readonly #clock: Clock
  readonly #times: RosterTimes
  readonly #log: FastifyBaseLogger
  /** What this node holds, to write it back when Redis lost it. */
  readonly #mine = new Map<string, Entry>()

  constructor (nodeId: string, { commands, prefix }: RedisConnections, clock: Clock, times: RosterTimes, log: FastifyBaseLogger) {
    this.nodeId = nodeId
    for (const [name, lua] of Object.entries(scripts)) commands.defineCommand(`rt_${name}`, { lua, numberOfKeys: 1 })
    this.#commands = commands as Commands
    this.#prefix = prefix
    this.#clock = clock
    this.#times = times
    this.#log = log
  }

  get healthy (): boolean {
    return this.#commands.status === 'ready'
  }

  async start (): Promise<void> {
    await this.#run('renew', this.#nodesKey, this.nodeId, this.#times.lease)
  }

  async join (entry: Omit<Entry, 'generation'>, limit: number): Promise<JoinResult & { generation: string }> {
    const generation = randomUUID()
    await this.#remember(entry.tenantId)
    const [state, fresh, first, replaced, kept, ...evicted] = await this.#join({ ...entry, generation }, limit) as
      [string, number, number, string, string, ...string[]]
    if (state === 'taken') return { taken: true, fresh: false, first: false, replaced: null, evicted: [], generation }
    if (entry.nodeId !== null) this.#mine.set(mineKey(entry), { ...entry, generation })
    return {
      taken: false,
      fresh: fresh === 1,
      first: first === 1,
      replaced: replaced === '' ? null : toEntry(entry.tenantId, replaced),
      evicted: evicted.map((text) => toEntry(entry.tenantId, text)),
      generation: kept
    }
  }

  async leave (entry: Pick<Entry, 'tenantId' | 'connectionId' | 'generation'>): Promise<boolean> {
    const { tenantId, connectionId, generation } = entry
    if (this.#mine.get(mineKey(entry))?.generation === generation) this.#mine.delete(mineKey(entry))
    await this.#dueAt(tenantId, this.#times.grace)
    return await this.#run('leave', this.#base(tenantId), connectionId, generation, this.#times.grace) === 1
  }

  async touch (tenantId: number, connectionId: string): Promise<void> {
    await this.#run('touch', this.#base(tenantId), connectionId, this.#times.restLease)
  }

  async find (tenantId: number, connectionId: string): Promise<Entry | null> {
    const text = await this.#attempt(async () => await this.#commands.hget(`${this.#base(tenantId)}connections`, connectionId))
    return text === null ? null : { ...toEntry(tenantId, text), connectionId }
  }

  async connectionsOf (tenantId: number, userId: number): Promise<Entry[]> {
    const found = await this.#run('connectionsOf', this.#base(tenantId), userId) as string[]
    return found.map((text) => toEntry(tenantId, text))
  }

  async addChannel (tenantId: number, connectionId: string, channel: string, limit: number): Promise<boolean> {
    return await this.#run('addChannel', this.#base(tenantId), connectionId, channel, limit) === 1
  }

  async removeChannel (tenantId: number, connectionId: string, channel: string): Promise<void> {
    await this.#attempt(async () => await this.#commands.srem(`${this.#base(tenantId)}channels:${connectionId}`, channel))
  }

  async channels (tenantId: number, connectionId: string): Promise<string[]> {
    return await this.#attempt(async () => await this.#commands.smembers(`${this.#base(tenantId)}channels:${connectionId}`))
  }

  async setPresence (tenantId: number, userId: number, presence: Presence): Promise<{ first: boolean }> {
    await this.#dueAt(tenantId, this.#times.restLease)
    const first = await this.#run('setPresence', this.#base(tenantId), userId, encodePresence(presence),
      presence.status === 'offline' ? '0' : '1', this.#times.restLease)
    return { first: first === 1 }
  }

  async presence (tenantId: number, userIds: number[]): Promise<Array<Presence | null>> {
    const found = await this.#run('presence', this.#base(tenantId), ...userIds) as string[]
    return userIds.map((_, i) => decodePresence(found[2 * i], found[2 * i + 1]))
  }

  async online (tenantId: number, { limit, after }: { limit: number, after: number }): Promise<OnlinePage> {
    const [total, ...rest] = await this.#run('online', this.#base(tenantId), after, limit) as [number, ...string[]]
    const users: OnlinePage['users'] = []
    for (let i = 0; i + 2 < rest.length; i += 3) {
      const presence = decodePresence(rest[i + 1], rest[i + 2])
      if (presence !== null) users.push({ userId: Number(rest[i]), presence })
    }
    const page = users.slice(0, limit)
    return { users: page, total, next: users.length > limit ? page.at(-1)?.userId ?? null : null }
  }

  async counts (tenantId: number): Promise<Counts> {
    const [total, active, users] = await this.#run('counts', this.#base(tenantId), this.#times.restLease / 2) as [number, number, number]
    return { total, active, users }
  }

  async startTyping (entry: TypingEntry): Promise<boolean> {
    await this.#dueAt(entry.tenantId, entry.expiresAt - this.#clock.now())
    return await this.#run('startTyping', this.#base(entry.tenantId), typingKey(entry), JSON.stringify(entry), entry.expiresAt) === 1
  }

  async stopTyping (keys: Array<Pick<TypingEntry, 'tenantId' | 'userId' | 'conversationId'>>): Promise<TypingEntry[]> {
    const tenants = [...new Set(keys.map(({ tenantId }) => tenantId))]
    const stopped = await Promise.all(tenants.map(async (tenantId) => {
      const own = keys.filter((key) => key.tenantId === tenantId).map(typingKey)
      return await this.#run('stopTyping', this.#base(tenantId), ...own) as string[]
    }))
    return stopped.flat().map((text) => JSON.parse(text) as TypingEntry)
  }

  async typing (tenantId: number, conversationId: string): Promise<TypingEntry[]> {
    const found = await this.#run('typing', this.#base(tenantId), conversationId) as string[]
    const entries: TypingEntry[] = []
    for (let i = 0; i + 1 < found.length; i += 2) {
      entries.push({ ...JSON.parse(found[i] ?? '') as TypingEntry, expiresAt: Number(found[i + 1]) })
    }
    return entries.sort((a, b) => a.startedAt - b.startedAt)
  }

  async due (): Promise<Due[]> {
    const [ends = '', ...tenants] = await this.#run('claimDue', this.#dueKey, CLAIM) as string[]
    return await Promise.all(tenants.map(async (tenant) => {
      const tenantId = Number(tenant)
      const [offline, typing, lapsed, next] = await this.#run('due', this.#base(tenantId), this.#times.grace, CLAIM) as
        [string[], string[], string[], string]
      await this.#run('finishDue', this.#dueKey, tenant, ends, next)
      return {
        tenantId,
        offline: offline.map(Number),
        typing: typing.map((text) => JSON.parse(text) as TypingEntry),
        lapsed: lapsed.map((text) => toEntry(tenantId, text))
      }
    }))
  }

  async settle (tenantId: number, userIds: number[]): Promise<number[]> {
    if (userIds.length === 0) return []
    return (await this.#run('settle', this.#base(tenantId), ...userIds) as string[]).map(Number)
  }

  async renew (): Promise<void> {
    const known = await this.#run('renew', this.#nodesKey, this.nodeId, this.#times.lease)
    if (known === 1) return
    this.#log.warn({ connections: this.#mine.size }, 'roster lost this node: writing back what it holds')
    const tenants = new Set([...this.#mine.values()].map(({ tenantId }) => tenantId))
    for (const tenantId of tenants) await this.#remember(tenantId)
    for (const entry of this.#mine.values()) await this.#join(entry, Number.MAX_SAFE_INTEGER)
  }

  async reap (): Promise<void> {
    const dead = await this.#run('nodes', this.#nodesKey, '1') as string[]
    for (const nodeId of dead) {
      const key = `${this.#prefix}tenants:${nodeId}`
      for (const tenant of await this.#commands.smembers(key)) {
        await this.#dueAt(Number(tenant), 0)
        while (await this.#run('reap', this.#base(Number(tenant)), nodeId) as number > 0);
        await this.#commands.srem(key, tenant)
      }
      // Last, so that whoever is interrupted leaves the node to the next reaper.
      await this.#commands.zrem(this.#nodesKey, nodeId)
      this.#log.info({ node: nodeId }, 'dead node reaped')
    }
  }

  async hit (key: string, window: number): Promise<{ count: number, ttl: number }> {
    const [count, ttl] = await this.#run('hit', `${this.#prefix}hits:${key}`, window) as [number, number]
    return { count, ttl }
  }

  async lock (name: string, ttl: number): Promise<boolean> {
    return await this.#run('lock', `${this.#prefix}lock:${name}`, this.nodeId, ttl) === 1
  }

  async aliveNodes (): Promise<string[]> {
    return await this.#run('nodes', this.#nodesKey, '0') as string[]
  }

  async close (): Promise<void> {
    await Promise.all([...this.#mine.values()].map(async (entry) => { await this.leave(entry) })).catch(() => {})
    await this.#commands.zrem(this.#nodesKey, this.nodeId).catch(() => {})
    await this.#commands.del(`${this.#prefix}tenants:${this.nodeId}`).catch(() => {})
  }

  get #nodesKey (): string {
    return `${this.#prefix}nodes`
  }

  get #dueKey (): string {
    return `${this.#prefix}due`
  }

  #base (tenantId: number): string {
    return `${this.#prefix}{${tenantId}}:`
  }

  async #join (entry: Entry, limit: number): Promise<unknown> {
    if (entry.nodeId === null) await this.#dueAt(entry.tenantId, this.#times.restLease)
    return await this.#run('join', this.#base(entry.tenantId), entry.connectionId, entry.userId, entry.nodeId ?? '', entry.generation,
      entry.device, entry.connectedAt, limit, this.#times.restLease, encodePresence(defaultPresence(entry.device, this.#clock.now())))
  }

  /** Written before the entries, so that a reaper finds every tenant in which this node may hold something. */
  async #remember (tenantId: number): Promise<void> {
    await this.#attempt(async () => await this.#commands.sadd(`${this.#prefix}tenants:${this.nodeId}`, tenantId))
  }

  /** Written before what becomes due: at worst a sweep finds nothing, never is something due and not found. */
  async #dueAt (tenantId: number, inMs: number): Promise<void> {
    await this.#attempt(async () => await this.#commands.zadd(this.#dueKey, 'LT', this.#clock.now() + inMs, String(tenantId)))
  }

  async #run (script: Script, key: string, ...args: Argument[]): Promise<unknown> {
    const offset = this.#clock.now() - Date.now()
    return await this.#attempt(async () => await this.#commands[`rt_${script}`](key, offset, ...args))
  }

  async #attempt<T> (command: () => Promise<T>): Promise<T> {
    try {
      return await command()
    } catch (cause) {
      throw new RealtimeError('RT_STORAGE_UNAVAILABLE', 'Presence cannot be read or written now', { retryAfter: 1, cause })
    }
  }
}

const mineKey = ({ tenantId, connectionId }: Pick<Entry, 'tenantId' | 'connectionId'>): string => `${tenantId}/${connectionId}`

const typingKey = ({ userId, conversationId }: Pick<TypingEntry, 'userId' | 'conversationId'>): string => `${userId}:${conversationId}`

function toEntry (tenantId: number, text: string): Entry {
  const { id, u, n, g, d, c } = JSON.parse(text) as { id: string, u: string, n: string, g: string, d: Device, c: string }
  return { tenantId, userId: Number(u), connectionId: id, nodeId: n === '' ? null : n, generation: g, device: d, connectedAt: Number(c) }
}

const encodePresence = ({ status, device, lastMessage, awaySince }: Presence): string =>
  JSON.stringify({ status, device, lastMessage, awaySince })

function decodePresence (text: string | undefined, seen: string | undefined): Presence | null {
  if (text === undefined || text === '') return null
  return { ...JSON.parse(text) as Omit<Presence, 'seenAt'>, seenAt: Number(seen) }
}

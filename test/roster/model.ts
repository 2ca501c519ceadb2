import type { Redis } from 'ioredis'
import { Ids } from '../../lib/ids.js'
import { LifecycleBus } from '../../lib/lifecycle/events.js'
import type { RedisConnections } from '../../lib/redis/connect.js'
import type { RosterConnection, Presence, TypingEntry } from '../../lib/roster/contract.js'
import { RedisRoster } from '../../lib/roster/redis/roster.js'
import { RosterSweeper } from '../../lib/upkeep/roster-sweeper.js'
import { log, type TestClock } from '../suites.js'
import { LIMIT, times } from './world.js'

export const BEAT = 500
const TYPING = 30_000

type Status = Presence['status']
interface Typing { until: number, node: ModelNode }

/** A node and the sockets that it really has. */
export interface ModelNode {
  roster: RedisRoster
  sweeper: RosterSweeper
  sockets: Map<string, RosterConnection>
}

/**
 * Nodes with their rosters on one Redis, and beside it what is true: which sockets are open, what their users said, who
 * types; and everything that was told to listeners, in its order.
 */
export class Model {
  readonly nodes: ModelNode[] = []
  readonly clock: TestClock
  readonly told: string[] = []
  /** What was done and told, for whoever looks for the reason of a failure. */
  readonly journal: string[] = []
  readonly said = new Map<string, Status>()
  readonly typing = new Map<string, Typing>()
  readonly #prefix: string
  /** When users' last connections were closed. */
  readonly #leftAt = new Map<string, number>()
  #booted = 0

  constructor (clock: TestClock, prefix: string) {
    this.clock = clock
    this.#prefix = prefix
  }

  async boot (redis: RedisConnections): Promise<ModelNode> {
    const events = new LifecycleBus(log)
    const roster = new RedisRoster(`node-${++this.#booted}`, { ...redis, prefix: this.#prefix }, new Ids('integer'), this.clock, times, log)
    const node: ModelNode = {
      roster, sockets: new Map(), sweeper: new RosterSweeper({ roster, events, share: BEAT / (times.nodeTimeout / 3), enabled: true })
    }
    events.on('online', ({ tenantId, userId }) => { this.#tell(`${tenantId}/${userId} online`) })
    events.on('offline', ({ tenantId, userId }) => {
      this.#tell(`${tenantId}/${userId} offline`)
      this.said.delete(`${tenantId}/${userId}`)
    })
    events.on('typingExpired', (entry) => { this.#tell(`${typingOf(entry)} stops`) })
    events.on('displaced', ({ entry }) => { void this.close(entry) })
    await roster.start()
    this.nodes.push(node)
    return node
  }

  /** Opens a socket, and closes the one that it replaces. */
  async open (node: ModelNode, tenantId: number, userId: number, connectionId: string): Promise<void> {
    const entry = { tenantId, userId, connectionId, nodeId: node.roster.nodeId, device: 'web' as const, connectedAt: this.clock.now() }
    const { ownedByOther, isFirstOfUser, replaced, generation } = await node.roster.join(entry, LIMIT)
    if (ownedByOther) throw new Error(`${connectionId} is taken`)
    node.sockets.set(keyOf(entry), { ...entry, generation })
    // It ends with the next connection.
    if (this.said.get(`${tenantId}/${userId}`) === 'offline') this.said.delete(`${tenantId}/${userId}`)
    if (isFirstOfUser) this.#tell(`${tenantId}/${userId} online`)
    if (replaced !== null) await this.close(replaced)
  }

  /** Closes a socket, if it is still the one of this generation. */
  async close (entry: RosterConnection): Promise<void> {
    const node = this.nodes.find(({ roster }) => roster.nodeId === entry.nodeId)
    const socket = node?.sockets.get(keyOf(entry))
    if (socket?.generation === entry.generation) node?.sockets.delete(keyOf(entry))
    await node?.roster.leave(entry)
    const user = `${entry.tenantId}/${entry.userId}`
    if (this.connected.has(user)) return
    this.#leftAt.set(user, this.clock.now())
    for (const [key, typing] of this.typing) if (key.startsWith(`${user}:`)) await this.stop(typing.node, key)
  }

  /** On a node where the user is not connected it fails while Redis is away. */
  async say (node: ModelNode, { tenantId, userId }: RosterConnection, status: Status): Promise<void> {
    const seenAt = this.clock.now()
    try {
      const { isFirstOfUser } = await node.roster.setPresence(tenantId, userId, { status, device: 'web', lastMessage: null, data: null, awaySince: null, hiddenSince: null, seenAt })
      if (isFirstOfUser) this.#tell(`${tenantId}/${userId} online`)
      this.said.set(`${tenantId}/${userId}`, status)
    } catch (err) {
      if ((err as { code?: string }).code !== 'RT_STORAGE_UNAVAILABLE') throw err
    }
  }

  async type (node: ModelNode, { tenantId, userId, connectionId }: RosterConnection, conversationId: string): Promise<void> {
    const now = this.clock.now()
    const entry: TypingEntry = {
      tenantId, userId, conversationId, conversationType: 'group', channels: [], connectionId, startedAt: now, expiresAt: now + TYPING
    }
    if (await node.roster.startTyping(entry)) this.#tell(`${typingOf(entry)} starts`)
    this.typing.set(typingOf(entry), { until: entry.expiresAt, node })
  }

  async stop (node: ModelNode, key: string): Promise<void> {
    const [, tenantId = '', userId = '', conversationId = ''] = /^(\d+)\/(\d+):(.*)$/.exec(key) ?? []
    this.typing.delete(key)
    for (const entry of await node.roster.stopTyping([{ tenantId: Number(tenantId), userId: Number(userId), conversationId }])) {
      this.#tell(`${typingOf(entry)} stops`)
    }
  }

  #tell (line: string): void {
    this.told.push(line)
    this.journal.push(`        ${line}`)
  }

  /** Time passes, and every node looks after the roster as often as it does. */
  async pass (ms: number): Promise<void> {
    for (let left = ms; left > 0; left -= BEAT) {
      this.clock.advance(Math.min(BEAT, left))
      await Promise.all(this.nodes.map(async ({ sweeper }) => { await sweeper.sweep().catch(() => {}) }))
      for (const [key, { until }] of this.typing) if (until <= this.clock.now() - 4 * BEAT) this.typing.delete(key)
    }
  }

  get sockets (): RosterConnection[] {
    return this.nodes.flatMap(({ sockets }) => [...sockets.values()])
  }

  /** `{tenant}/{user}` of all that have a socket. */
  get connected (): Set<string> {
    return new Set(this.sockets.map(({ tenantId, userId }) => `${tenantId}/${userId}`))
  }

  /** Typing that ends about now: whether that was told yet, nobody can say. */
  get ending (): string[] {
    return [...this.typing].filter(([, { until }]) => until <= this.clock.now() + 2 * BEAT).map(([key]) => key)
  }

  /** Until nobody is about to be told offline: for that moment no node knows whether another one did it. */
  async passGraces (): Promise<void> {
    const isEnding = (at: number): boolean => Math.abs(at + times.offlineDelay - this.clock.now()) < 3 * BEAT
    while ([...this.#leftAt.values()].some(isEnding)) await this.pass(BEAT)
  }

  statusOf (user: string): Status {
    return this.said.get(user) ?? 'online'
  }

  /** Keys that the roster keeps of any tenant. */
  async keysOf (redis: Redis): Promise<string[]> {
    return (await redis.keys(`${this.#prefix}{*`)).map((key) => key.slice(this.#prefix.length)).toSorted()
  }
}

const keyOf = ({ tenantId, connectionId }: Pick<RosterConnection, 'tenantId' | 'connectionId'>): string => `${tenantId}/${connectionId}`
const typingOf = ({ tenantId, userId, conversationId }: TypingEntry): string => `${tenantId}/${userId}:${conversationId}`

import { randomUUID } from 'node:crypto'
import { Type } from '@sinclair/typebox'
import { Value } from '@sinclair/typebox/value'
import type { FastifyBaseLogger } from 'fastify'
import { withTimeout } from '../async/with-timeout.js'
import { callNodes } from '../backplane/call-nodes.js'
import type { Backplane } from '../backplane/contract.js'
import type { Clock } from '../clock.js'
import { RealtimeError } from '../errors.js'
import { withIds } from '../id-schemas.js'
import type { Id as IdOfUser, Ids } from '../ids.js'
import { userKey, type UserKey } from '../keys.js'
import { Id, Nullable } from '../schemas.js'
import type { Restrictions } from './restrictions.js'
import { accessKinds, type AccessEntry, type AccessKind, type AccessStore, type StoredAccessEntry } from './store.js'

/** The effect of a decision of the host: the number of connections, and whether every node has responded. */
export interface AccessResult {
  connections: number
  /** False if a node, the database or a host function did not respond in time; the decision still reaches them. */
  complete: boolean
}

/**
 * Applies an entry to the connections of this node. `isOwn`: this node was called, and also handles connections without a node.
 * Must not reject.
 */
export type AccessEffect = (entry: AccessEntry, isOwn: boolean) => Promise<AccessResult>

export interface AccessLogOptions {
  store: AccessStore
  ids: Ids
  restrictions: Restrictions
  backplane: Pick<Backplane, 'call' | 'nodeId'>
  aliveNodes: () => Promise<string[]>
  onApplied: (kind: AccessKind) => void
  /** This node was called with this decision. */
  onDecided: (entry: AccessEntry) => void
  clock: Clock
  log: FastifyBaseLogger
}

/** The RPC between nodes. */
export const APPLY = 'access.apply'

/** Calls stop waiting after this time, in milliseconds, so that they resolve within 2 s on a busy event loop too; unfinished work continues. */
const ANSWER_WITHIN = 1600
/** An effect reports its progress within this time, in milliseconds: early enough for the report to reach the node that was called. */
export const EFFECT_WITHIN = 1200
const POLL_INTERVAL = 5000
const RETRY_INTERVAL = 1000
/** Number of ids below the newest among which late commits of other nodes are searched. */
const LATE_IDS = 200
/** Maximum number of entries remembered as applied. */
const MAX_APPLIED = 10_000
/** A join, kick or recheck that is older when it is read does not apply to current connections. */
const MAX_EFFECT_AGE = 10 * 60_000
/** A decision that was not stored is lost if its node dies: after this time only the log counts. */
const MAX_UNREAD_AGE = 60_000
const PURGE_INTERVAL = 3600_000

const Entry = Type.Object({
  key: Type.String({ minLength: 1, maxLength: 40 }),
  kind: Type.Union(accessKinds.map((kind) => Type.Literal(kind))),
  tenantId: Id,
  userId: Nullable(Id),
  channel: Nullable(Type.String({ maxLength: 255 })),
  tokenId: Nullable(Type.String({ maxLength: 255 })),
  issuedBefore: Nullable(Type.Number()),
  until: Nullable(Type.Number()),
  reason: Nullable(Type.String({ maxLength: 255 })),
  createdAt: Type.Number()
})

/**
 * The log of the host's decisions about live connections, shared by all nodes (websocket_access). A decision is applied on this
 * node immediately, sent to every other node, and stored. A node that could not be reached reads the log every five seconds,
 * and at its start. Each node applies each entry once.
 */
export class AccessLog {
  readonly #options: AccessLogOptions
  readonly #entry: typeof Entry
  readonly #effects = new Map<AccessKind, AccessEffect>()
  readonly #applied = new Set<string>()
  readonly #unstored = new Set<AccessEntry>()
  /** By user, the ban or unban that was applied before it was read from the log: older entries do not undo it. */
  readonly #unread = new Map<UserKey, { key: string, since: number }>()
  /** By user, the id of the newest ban or unban that was read, as far back as late commits are searched. */
  readonly #readBans = new Map<UserKey, number>()
  #newest = 0
  #count = 0
  #purgedAt = 0
  #timer: NodeJS.Timeout | null = null
  #retry: NodeJS.Timeout | null = null
  #polling: Promise<void> | null = null
  #failing = false
  #closed = false

  constructor (options: AccessLogOptions) {
    this.#options = options
    this.#entry = withIds(Entry, options.ids.kind)
  }

  /** Number of entries applied here. A caller compares it before and after calling the host, to detect a decision in the meantime. */
  get count (): number {
    return this.#count
  }

  /** Adds an effect of a kind of entries. */
  on (kind: AccessKind, effect: AccessEffect): void {
    const before = this.#effects.get(kind)
    this.#effects.set(kind, before === undefined ? effect : async (...args) => {
      const [first, second] = await Promise.all([before(...args), effect(...args)])
      // Both may concern the same connections.
      return { connections: Math.max(first.connections, second.connections), complete: first.complete && second.complete }
    })
  }

  /** Reads the entries in force. Rejects if the database does not respond: a node without the bans must not start. */
  async start (): Promise<void> {
    await this.#readAll()
    this.#purgedAt = performance.now()
    this.#timer = setInterval(() => { this.poll().catch(() => {}) }, POLL_INTERVAL)
  }

  /** Stores an entry, applies it here and on every other node. Resolves within two seconds. */
  async record (entry: Pick<AccessEntry, 'kind' | 'tenantId'> & Partial<AccessEntry>): Promise<AccessResult> {
    const whole: AccessEntry = {
      userId: null, channel: null, tokenId: null, issuedBefore: null, until: null, reason: null, ...entry,
      key: randomUUID(), createdAt: this.#options.clock.now()
    }
    const failed: AccessResult = { connections: 0, complete: false }
    const bounded = async (part: Promise<AccessResult>): Promise<AccessResult> =>
      await withTimeout(part, ANSWER_WITHIN, () => new Error('no answer')).catch(() => failed)
    this.#options.onDecided(whole)
    const stored = this.#store(whole)
    const asked = new Set([this.#options.backplane.nodeId])
    // The other nodes start while this node is busy with its own connections.
    const elsewhere = this.#elsewhere(whole, asked)
    const parts = await Promise.all([
      bounded(this.#apply(whole, true)),
      bounded(stored.then((isStored) => ({ connections: 0, complete: isStored }))),
      bounded(elsewhere),
      // Again after it is stored: a node that started meanwhile has read the log without it.
      bounded(stored.then(async () => await this.#elsewhere(whole, asked)))
    ])
    return {
      connections: parts.reduce((sum, { connections }) => sum + connections, 0),
      complete: parts.every(({ complete }) => complete)
    }
  }

  /** Applies an entry from another node. Throws `RT_INVALID_DATA`. */
  async receive (data: unknown): Promise<AccessResult> {
    if (!Value.Check(this.#entry, data)) throw new RealtimeError('RT_INVALID_DATA', 'not an access entry')
    return await this.#apply(data, false)
  }

  /** Applies entries of other nodes that did not reach this one. */
  async poll (): Promise<void> {
    this.#polling ??= this.#poll().finally(() => { this.#polling = null })
    await this.#polling
  }

  async close (): Promise<void> {
    this.#closed = true
    if (this.#timer !== null) clearInterval(this.#timer)
    if (this.#retry !== null) clearTimeout(this.#retry)
    await this.#polling?.catch(() => {})
    for (const entry of this.#unstored) await this.#options.store.insert(entry).catch(() => {})
  }

  async #readAll (): Promise<void> {
    for (const entry of await this.#options.store.after(0)) {
      this.#newest = Math.max(this.#newest, entry.id)
      this.#markApplied(entry.key)
      if (entry.kind !== 'ban' && entry.kind !== 'unban') this.#restrict(entry)
      else if (this.#isNews(entry)) this.#restrict(entry)
    }
    this.#forgetOldBans()
  }

  async #poll (): Promise<void> {
    const { store, clock, log, restrictions } = this.#options
    try {
      for (const entry of await store.after(Math.max(0, this.#newest - LATE_IDS))) {
        this.#newest = Math.max(this.#newest, entry.id)
        if (!this.#applied.has(entry.key)) void this.#apply(entry, false)
        if ((entry.kind === 'ban' || entry.kind === 'unban') && this.#isNews(entry)) {
          this.#restrict(entry)
          // No effect if the ban was in force already.
          if (entry.kind === 'ban') void this.#act(entry, false)
        }
      }
      this.#forgetOldBans()
      restrictions.expire()
      if (performance.now() - this.#purgedAt > PURGE_INTERVAL) {
        this.#purgedAt = performance.now()
        await store.purge(clock.now())
      }
      this.#failing = false
    } catch (err) {
      if (!this.#failing) log.warn({ err }, 'Cannot read the access log, retrying')
      this.#failing = true
    }
  }

  /**
   * Whether a ban or unban that was read is the latest one of its user. If two nodes ban and unban a user at the same time, the
   * order of the log decides.
   */
  #isNews (entry: StoredAccessEntry): boolean {
    const user = userOf(entry)
    const unread = this.#unread.get(user)
    const isRead = unread?.key === entry.key
    if (unread !== undefined && (isRead || performance.now() - unread.since > MAX_UNREAD_AGE)) this.#unread.delete(user)
    if (entry.id <= (this.#readBans.get(user) ?? 0)) return false
    this.#readBans.set(user, entry.id)
    return !this.#unread.has(user)
  }

  #forgetOldBans (): void {
    for (const [user, id] of this.#readBans) if (id < this.#newest - LATE_IDS) this.#readBans.delete(user)
  }

  async #apply (entry: AccessEntry, isOwn: boolean): Promise<AccessResult> {
    if (this.#applied.has(entry.key)) return { connections: 0, complete: true }
    this.#markApplied(entry.key)
    if (entry.kind === 'ban' || entry.kind === 'unban') this.#unread.set(userOf(entry), { key: entry.key, since: performance.now() })
    this.#count++
    this.#options.onApplied(entry.kind)
    this.#restrict(entry)
    const isLasting = entry.kind === 'ban' || entry.kind === 'revoke'
    if (!isLasting && this.#options.clock.now() - entry.createdAt > MAX_EFFECT_AGE) return { connections: 0, complete: true }
    return await this.#act(entry, isOwn)
  }

  async #act (entry: AccessEntry, isOwn: boolean): Promise<AccessResult> {
    try {
      return await this.#effects.get(entry.kind)?.(entry, isOwn) ?? { connections: 0, complete: true }
    } catch (err) {
      this.#options.log.error({ err, kind: entry.kind }, 'Could not apply a decision about live connections')
      return { connections: 0, complete: false }
    }
  }

  #restrict ({ kind, tenantId, userId, tokenId, issuedBefore, until, reason }: AccessEntry): void {
    const { restrictions } = this.#options
    if (kind === 'ban' && userId !== null) restrictions.ban(tenantId, userId, { until, reason })
    if (kind === 'unban' && userId !== null) restrictions.unban(tenantId, userId)
    if (kind !== 'revoke' || until === null) return
    if (tokenId !== null) restrictions.revokeToken(tenantId, tokenId, until)
    else if (userId !== null && issuedBefore !== null) restrictions.revokeUser(tenantId, userId, { issuedBefore, until })
  }

  #markApplied (key: string): void {
    this.#applied.add(key)
    if (this.#applied.size <= MAX_APPLIED) return
    for (const oldest of this.#applied) {
      this.#applied.delete(oldest)
      return
    }
  }

  /** Resolves to true when it is stored; to false if it failed and is retried, as long as this node lives. */
  async #store (entry: AccessEntry): Promise<boolean> {
    try {
      await this.#options.store.insert(entry)
      this.#unstored.delete(entry)
      return true
    } catch (err) {
      if (!this.#unstored.has(entry)) this.#options.log.warn({ err, kind: entry.kind }, 'Cannot store an access entry, retrying')
      this.#unstored.add(entry)
      this.#retryLater()
      return false
    }
  }

  #retryLater (): void {
    if (this.#closed) return
    this.#retry ??= setTimeout(() => {
      this.#retry = null
      void Promise.all([...this.#unstored].map(async (entry) => await this.#store(entry)))
    }, RETRY_INTERVAL)
  }

  /** Calls the nodes that were not called yet to apply an entry. */
  async #elsewhere (entry: AccessEntry, asked: Set<string>): Promise<AccessResult> {
    const { backplane, aliveNodes } = this.#options
    const others = (await aliveNodes()).filter((node) => !asked.has(node))
    for (const node of others) asked.add(node)
    const results = await callNodes(backplane, others, { op: APPLY, data: entry, timeout: ANSWER_WITHIN - 100 })
    return others.reduce<AccessResult>((sum, node) => {
      const answer = results.get(node)
      const result = isResult(answer) ? answer : { connections: 0, complete: false }
      return { connections: sum.connections + result.connections, complete: sum.complete && result.complete }
    }, { connections: 0, complete: true })
  }
}

const isResult = (value: unknown): value is AccessResult =>
  typeof value === 'object' && value !== null && 'connections' in value && typeof value.connections === 'number' &&
  'complete' in value && typeof value.complete === 'boolean'

/** The user of a ban or unban, which always name one. */
const userOf = ({ tenantId, userId }: AccessEntry): UserKey => userKey(tenantId, userId as IdOfUser)

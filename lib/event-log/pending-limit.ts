import type { FastifyBaseLogger } from 'fastify'
import { BoundedMap } from '../async/bounded-map.js'
import type { Clock } from '../clock.js'
import type { Id, Ids } from '../ids.js'
import { channelKey, splitKey, type ChannelKey } from '../keys.js'
import type { PendingStore } from './pending-store.js'

/** Milliseconds between two checks: well within the promised minute. */
const INTERVAL_MS = 20_000
/** Recipients whose number of unconfirmed events is remembered. */
const MAX_KNOWN = 100_000
const TOO_MANY = 'too many waiting'
/** Recipients that are counted by one statement. */
const CHUNK = 100
/** Events that are given up at once. */
const MAX_EXCESS = 5000

export interface PendingLimitOptions {
  store: PendingStore
  ids: Ids
  clock: Clock
  log: FastifyBaseLogger
}

/**
 * Limits the unconfirmed events of one recipient. Each node checks the recipients of the events that it stored, and only those
 * who may have reached the limit since the last check.
 */
export class PendingLimit {
  /** Unconfirmed events of one recipient; 0: no limit. */
  max = 0
  readonly #options: PendingLimitOptions
  /** Upper bounds: the last count, plus the events stored since. */
  readonly #known = new BoundedMap<ChannelKey, number>(MAX_KNOWN)
  #added = new Map<ChannelKey, number>()
  #lookedAt: number

  constructor (options: PendingLimitOptions) {
    this.#options = options
    this.#lookedAt = options.clock.now()
  }

  /** An event was stored that its recipient has to confirm. */
  add (tenantId: Id, channel: string): void {
    if (this.max === 0) return
    const key = channelKey(tenantId, channel)
    this.#added.set(key, (this.#added.get(key) ?? 0) + 1)
  }

  /** Gives up the events beyond the limit, if a check is due. */
  async look (): Promise<void> {
    const now = this.#options.clock.now()
    if (now - this.#lookedAt < INTERVAL_MS) return
    this.#lookedAt = now
    const added = this.#added
    this.#added = new Map()
    const doubtful: ChannelKey[] = []
    for (const [key, count] of added) {
      const known = this.#known.get(key)
      if (known !== undefined && known + count <= this.max) this.#known.set(key, known + count)
      else doubtful.push(key)
    }
    for (let at = 0; at < doubtful.length; at += CHUNK) await this.#count(doubtful.slice(at, at + CHUNK), now)
  }

  async #count (keys: readonly ChannelKey[], now: number): Promise<void> {
    const { store, ids } = this.#options
    const counts = await store.countPending(keys.map((key) => splitKey(key, ids)), this.max + MAX_EXCESS)
    for (const [i, key] of keys.entries()) {
      const count = counts[i] ?? 0
      this.#known.set(key, Math.min(count, this.max))
      if (count > this.max) await this.#giveUp(key, now)
      // The rest is given up by the next check.
      if (count >= this.max + MAX_EXCESS) this.#added.set(key, (this.#added.get(key) ?? 0) + 1)
    }
  }

  async #giveUp (key: ChannelKey, now: number): Promise<void> {
    const { store, ids, log } = this.#options
    const waiting = await store.pendingOf(splitKey(key, ids), this.max + MAX_EXCESS)
    const events = await store.giveUp(tooMany(waiting, this.max), TOO_MANY, now)
    log.warn({ channel: key, events }, 'Too many events wait for one recipient, gave up the oldest of the sender with the most')
  }
}

/** Ids of the events beyond `max`: repeatedly the oldest one of the sender who has the most. `waiting` is ordered, oldest first. */
export function tooMany (waiting: ReadonlyArray<{ id: number, userId: Id }>, max: number): number[] {
  const bySender = new Map<Id, number[]>()
  for (const { id, userId } of waiting) {
    const ids = bySender.get(userId)
    if (ids === undefined) bySender.set(userId, [id])
    else ids.push(id)
  }
  const senders = [...bySender.values()].map((ids) => ({ ids, left: ids.length }))
  for (let excess = waiting.length - max; excess > 0; excess--) {
    let most = senders[0]
    for (const sender of senders) if (most === undefined || sender.left > most.left) most = sender
    if (most !== undefined) most.left--
  }
  return senders.flatMap(({ ids, left }) => ids.slice(0, ids.length - left))
}

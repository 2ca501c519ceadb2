import { BoundedMap } from '../../async/bounded-map.js'
import { privateChannel } from '../../channel-names.js'
import type { UserRef } from '../../keys.js'
import type { TypingEntry, TypingKey } from '../contract.js'

export interface LocalTypingEntry {
  entry: TypingEntry
  /** It was written to Redis, which reports when it expires. */
  isInRedis: boolean
}

/** Typing that was started through this node: enough to stop it while Redis is away, and to write it back. */
export class LocalTyping {
  readonly #entries = new Map<string, LocalTypingEntry>()

  /** The entry, unless it has expired by `now`. */
  get (key: TypingKey, now: number): LocalTypingEntry | null {
    const typing = this.#entries.get(keyOf(key))
    return typing !== undefined && typing.entry.expiresAt > now ? typing : null
  }

  set (entry: TypingEntry, isInRedis: boolean): void {
    this.#entries.set(keyOf(entry), { entry, isInRedis })
  }

  has (typing: LocalTypingEntry): boolean {
    return this.#entries.get(keyOf(typing.entry)) === typing
  }

  /** Removes and returns entries. */
  take (keys: TypingKey[]): LocalTypingEntry[] {
    return keys.flatMap((key) => {
      const typing = this.#entries.get(keyOf(key))
      this.#entries.delete(keyOf(key))
      return typing ?? []
    })
  }

  /** Removes and returns expired entries. Those in Redis are kept unless `isRedisReliable`: Redis may have lost them. */
  takeExpired (now: number, isRedisReliable: boolean): LocalTypingEntry[] {
    return this.take([...this.#entries.values()]
      .filter(({ entry, isInRedis }) => entry.expiresAt <= now && (isRedisReliable || !isInRedis)).map(({ entry }) => entry))
  }

  /** Typing of a user, and of others for that user alone. */
  forget ({ tenantId, userId }: UserRef): void {
    const own = privateChannel(userId)
    for (const [key, { entry }] of this.#entries) {
      if (entry.tenantId === tenantId && (entry.userId === userId || entry.channels.includes(own))) this.#entries.delete(key)
    }
  }

  get all (): LocalTypingEntry[] {
    return [...this.#entries.values()]
  }
}

/** Typing that ended, and whose end was reported. */
export interface EndedTyping extends TypingKey {
  at: number
  /** It expired, which any node may have reported. */
  isExpired: boolean
}

/** Milliseconds. In a copy of Redis that is older than this, all typing has expired. */
const ENDED_TTL = 10 * 60_000
const MAX_ENDED = 20_000

/** Typing that ended on this node: if Redis lost that, the end must not be reported again. */
export class RecentlyEndedTyping {
  readonly #ended = new BoundedMap<string, EndedTyping>(MAX_ENDED)

  add (ended: EndedTyping): void {
    this.#ended.set(keyOf(ended), ended)
  }

  /** Typing whose end was reported before Redis lost data, which had everything until `completeAt`. */
  reportedBy (completeAt: number): EndedTyping[] {
    for (const [key, { at }] of this.#ended) if (at < completeAt - ENDED_TTL) this.#ended.delete(key)
    return [...this.#ended.values()].filter(({ at, isExpired }) => !isExpired || at < completeAt)
  }
}

const keyOf = ({ tenantId, userId, conversationId }: TypingKey): string => `${tenantId}/${userId}:${conversationId}`

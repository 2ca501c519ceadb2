import type { TypingEntry } from '../contract.js'

type Key = Pick<TypingEntry, 'tenantId' | 'userId' | 'conversationId'>

export interface Typed {
  entry: TypingEntry
  /** The shared roster has it, and will tell when it runs out. */
  isInRedis: boolean
}

/** Typing that was said to this node: enough to tell its stop while the shared roster is away, and to write it back. */
export class LocalTyping {
  readonly #entries = new Map<string, Typed>()

  /** What was typed there and has not run out at `now`. */
  get (key: Key, now: number): Typed | null {
    const typed = this.#entries.get(keyOf(key))
    return typed !== undefined && typed.entry.expiresAt > now ? typed : null
  }

  set (entry: TypingEntry, isInRedis: boolean): void {
    this.#entries.set(keyOf(entry), { entry, isInRedis })
  }

  has (typed: Typed): boolean {
    return this.#entries.get(keyOf(typed.entry)) === typed
  }

  take (keys: Key[]): Typed[] {
    return keys.flatMap((key) => {
      const typed = this.#entries.get(keyOf(key))
      this.#entries.delete(keyOf(key))
      return typed ?? []
    })
  }

  /** Takes out what ran out. What is written stays while it is not known whether the shared roster still has it. */
  expired (now: number, known: boolean): Typed[] {
    return this.take([...this.#entries.values()]
      .filter(({ entry, isInRedis }) => entry.expiresAt <= now && (known || !isInRedis)).map(({ entry }) => entry))
  }

  get all (): Typed[] {
    return [...this.#entries.values()]
  }
}

/** The end of typing, which was told. */
export interface Ended extends Key {
  at: number
  /** It ran out, and was told by whichever node looked. */
  ranOut: boolean
}

/** Milliseconds. An older copy of the shared roster than this says of no typing any more that it goes on. */
const KEEP_ENDED = 10 * 60_000
const MAX_ENDED = 20_000

/** What is no longer typed here: a shared roster that forgot it must not let it end once more. */
export class TypedBefore {
  readonly #ended = new Map<string, Ended>()

  add (ended: Ended): void {
    const key = keyOf(ended)
    this.#ended.delete(key)
    this.#ended.set(key, ended)
    if (this.#ended.size > MAX_ENDED) this.#ended.delete(this.#ended.keys().next().value ?? '')
  }

  /** All that was told by `good`, as far as it is remembered. */
  told (good: number): Ended[] {
    for (const [key, { at }] of this.#ended) if (at < good - KEEP_ENDED) this.#ended.delete(key)
    return [...this.#ended.values()].filter(({ at, ranOut }) => !ranOut || at < good)
  }
}

const keyOf = ({ tenantId, userId, conversationId }: Key): string => `${tenantId}/${userId}:${conversationId}`

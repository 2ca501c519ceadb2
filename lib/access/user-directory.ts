import type { FastifyBaseLogger } from 'fastify'
import { batchLoader } from '../async/batch-loader.js'
import { BoundedMap } from '../async/bounded-map.js'
import { withTimeout } from '../async/with-timeout.js'
import type { Clock } from '../clock.js'
import type { ResolveUsers } from '../host-functions.js'
import { userKey, type UserKey, type UserRef } from '../keys.js'

/** Names kept at most: a bound for hosts with very many users. */
const MAX_NAMES = 50_000
/** How long it is remembered that a user has no name, in milliseconds. */
const UNKNOWN_TTL_MS = 2000
/** How long an answer waits for names, in milliseconds. */
const NAMES_TIMEOUT_MS = 500

/** Names of users, from the host's `resolveUsers`: asked in batches, cached, absent where the host knows none. */
export class UserDirectory {
  readonly #cache = new BoundedMap<UserKey, { name: string | null, until: number }>(MAX_NAMES)
  readonly #clock: Clock
  readonly #ttl: number
  /** Absent where the host names nobody. */
  readonly #load: ((user: UserRef) => Promise<string | null | undefined>) | null

  constructor ({ resolveUsers, clock, log, ttl }: {
    resolveUsers: ResolveUsers | undefined, clock: Clock, log: FastifyBaseLogger, ttl: number
  }) {
    this.#clock = clock
    this.#ttl = ttl
    this.#load = resolveUsers === undefined ? null : batchLoader(async (users) => {
      const names = new Map<UserRef, string | null>()
      const tenants = [...new Set(users.map(({ tenantId }) => tenantId))]
      await Promise.all(tenants.map(async (tenantId) => {
        const theirs = users.filter((user) => user.tenantId === tenantId)
        try {
          const found = await resolveUsers(tenantId, theirs.map(({ userId }) => userId))
          for (const user of theirs) names.set(user, found.get(user.userId)?.name ?? null)
        } catch (err) {
          log.warn({ err, tenantId }, 'resolveUsers failed: names are left out')
        }
      }))
      return names
    }, { keyOf: ({ tenantId, userId }) => userKey(tenantId, userId) })
  }

  /** The names of these users, in their order; null where none is known, or where the host takes too long. */
  async names (tenantId: number, userIds: number[]): Promise<Array<string | null>> {
    return (await this.namesWithExpiry(tenantId, userIds)).names
  }

  /** The same, and until when they are to be believed; a time gone by where some could not be had. */
  async namesWithExpiry (tenantId: number, userIds: number[]): Promise<{ names: Array<string | null>, until: number }> {
    if (this.#load === null) return { names: userIds.map(() => null), until: Infinity }
    const load = this.#load
    const keys = userIds.map((userId) => userKey(tenantId, userId))
    const known = keys.map((key) => this.#known(key))
    // Mostly so: a page of a hundred is then no hundred promises.
    if (known.every((name) => name !== undefined)) return { names: known, until: this.#until(keys) }
    const names = Promise.all(userIds.map(async (userId, i) => known[i] ?? await this.#name({ tenantId, userId }, load)))
    // The host's users table may be away; who is online is still worth an answer.
    return await withTimeout(names, NAMES_TIMEOUT_MS, () => new Error('resolveUsers takes too long')).then(
      (names) => ({ names, until: this.#until(keys) }),
      () => ({ names: keys.map((key) => this.#cache.get(key)?.name ?? null), until: 0 })
    )
  }

  /** From the cache; null: nobody knows a name, undefined: to be asked. */
  #known (key: UserKey): string | null | undefined {
    const known = this.#cache.get(key)
    return known !== undefined && known.until > this.#clock.now() ? known.name : undefined
  }

  #until (keys: UserKey[]): number {
    return keys.reduce((until, key) => Math.min(until, this.#cache.get(key)?.until ?? 0), Infinity)
  }

  async #name (user: UserRef, load: (user: UserRef) => Promise<string | null | undefined>): Promise<string | null> {
    const key = userKey(user.tenantId, user.userId)
    const known = this.#known(key)
    if (known !== undefined) return known
    const name = await load(user)
    if (name === undefined) return this.#cache.get(key)?.name ?? null
    const now = this.#clock.now()
    // Someone without a name may have just signed up: asked again soon.
    this.#cache.set(key, { name, until: now + (name === null ? Math.min(this.#ttl, UNKNOWN_TTL_MS) : this.#ttl) })
    return name
  }
}

import type { FastifyBaseLogger } from 'fastify'
import { batchLoader } from '../async/batch-loader.js'
import { BoundedMap } from '../async/bounded-map.js'
import { withTimeout } from '../async/with-timeout.js'
import type { Clock } from '../clock.js'
import type { ResolveUsers } from '../host-functions.js'
import type { Id } from '../ids.js'
import { userKey, type UserKey, type UserRef } from '../keys.js'

/** Maximum number of cached names, for hosts with very many users. */
const MAX_NAMES = 50_000
/** Time for which a missing name is cached, in milliseconds. */
const UNKNOWN_TTL_MS = 2000
/** Time for which a response waits for names, in milliseconds. */
const NAMES_TIMEOUT_MS = 500

/** The names of users, from the host's `resolveUsers`: loaded in batches, and cached. */
export class UserDirectory {
  readonly #cache = new BoundedMap<UserKey, { name: string | null, until: number }>(MAX_NAMES)
  readonly #clock: Clock
  readonly #ttl: number
  /** Absent without `resolveUsers`. */
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
          log.warn({ err, tenant_id: tenantId }, 'resolveUsers failed: names are left out')
        }
      }))
      return names
    }, { keyOf: ({ tenantId, userId }) => userKey(tenantId, userId) })
  }

  /** The names of these users, in the same order; null for an unknown name, or if the host takes too long. */
  async names (tenantId: Id, userIds: Id[]): Promise<Array<string | null>> {
    return (await this.namesWithExpiry(tenantId, userIds)).names
  }

  /** The same, with the time until which they are valid; a past time if some could not be loaded. */
  async namesWithExpiry (tenantId: Id, userIds: Id[]): Promise<{ names: Array<string | null>, until: number }> {
    if (this.#load === null) return { names: userIds.map(() => null), until: Infinity }
    const load = this.#load
    const keys = userIds.map((userId) => userKey(tenantId, userId))
    const known = keys.map((key) => this.#known(key))
    // The usual case, without a promise per name (bench row "REST: online list").
    if (known.every((name) => name !== undefined)) return { names: known, until: this.#until(keys) }
    const names = Promise.all(userIds.map(async (userId, i) => known[i] ?? await this.#name({ tenantId, userId }, load)))
    // The host's database may be unavailable: the response is sent without names.
    return await withTimeout(names, NAMES_TIMEOUT_MS, () => new Error('resolveUsers takes too long')).then(
      (names) => ({ names, until: this.#until(keys) }),
      () => ({ names: keys.map((key) => this.#cache.get(key)?.name ?? null), until: 0 })
    )
  }

  /** From the cache; null: the user has no name, undefined: not cached. */
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
    // A user without a name may have just signed up: cached for a shorter time.
    this.#cache.set(key, { name, until: now + (name === null ? Math.min(this.#ttl, UNKNOWN_TTL_MS) : this.#ttl) })
    return name
  }
}

import type { FastifyBaseLogger } from 'fastify'
import { privateOwner } from '../channel-names.js'
import type { Clock } from '../clock.js'
import type { Ids } from '../ids.js'
import { userKey, type UserKey, type UserRef } from '../keys.js'
import type { ClaimStore } from './claim-store.js'

/** Milliseconds for which users who leave are collected. */
const INTERVAL_MS = 200
/** Users of one look. */
const CHUNK = 100
/** Users who are remembered at most; the events of the others are found at their next retry. */
const MAX_USERS = 20_000

export interface DeparturesOptions {
  claims: ClaimStore
  ids: Ids
  clock: Clock
  log: Pick<FastifyBaseLogger, 'debug'>
  connectedAmong (users: readonly UserRef[]): Promise<Set<UserKey>>
}

/**
 * Users whose last connection may have ended: their unconfirmed events are due at once, so that `waiting` is emitted for them.
 * Most users leave none; for a hundred of these one statement suffices.
 */
export class Departures {
  readonly #options: DeparturesOptions
  #users = new Map<UserKey, UserRef>()
  #timer: NodeJS.Timeout | null = null

  constructor (options: DeparturesOptions) {
    this.#options = options
  }

  /** One of the user's connections ended. */
  add ({ tenantId, userId }: UserRef): void {
    if (this.#users.size >= MAX_USERS) return
    this.#users.set(userKey(tenantId, userId), { tenantId, userId })
    this.#timer ??= setTimeout(() => {
      this.#timer = null
      this.#look().catch((err: unknown) => { this.#options.log.debug({ err }, 'Could not find events of users who left, the next retry sends them') })
    }, INTERVAL_MS).unref()
  }

  stop (): void {
    if (this.#timer !== null) clearTimeout(this.#timer)
    this.#users.clear()
  }

  async #look (): Promise<void> {
    const { claims, ids, clock, connectedAmong } = this.#options
    const all = [...this.#users.values()]
    this.#users = new Map()
    for (let at = 0; at < all.length; at += CHUNK) {
      const now = clock.now()
      const found = (await claims.unannounced(all.slice(at, at + CHUNK), now))
        .map(({ id, tenantId, channel }) => ({ id, tenantId, userId: privateOwner(channel, ids) ?? ids.system }))
      if (found.length === 0) continue
      const connected = await connectedAmong(found)
      await claims.makeDue(found.filter(({ tenantId, userId }) => !connected.has(userKey(tenantId, userId))).map(({ id }) => id), now)
    }
  }
}

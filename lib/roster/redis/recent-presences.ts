import type { Clock } from '../../clock.js'
import { userKey, type UserKey, type UserRef } from '../../keys.js'
import type { Presence } from '../contract.js'
import { encodePresence } from './codec.js'
import type { RosterCommands } from './commands.js'
import type { Lease } from './lease.js'
import { partsOf } from './parts.js'

/**
 * Presences that users set through this node without being connected to it, or before they disconnected. The nodes to which
 * the users are connected learn them when they compare their sockets with Redis; until then only Redis and this node have
 * them.
 */
export class RecentPresences {
  readonly #commands: RosterCommands
  readonly #lease: Lease
  readonly #clock: Clock
  readonly #presences = new Map<UserKey, UserRef & { presence: Presence, addedAt: number, isWritten: boolean }>()
  readonly #ttl: number
  #writtenAt = -Infinity

  /** `ttl`: how long a presence is kept here, in milliseconds. */
  constructor (commands: RosterCommands, lease: Lease, clock: Clock, ttl: number) {
    this.#ttl = ttl
    this.#commands = commands
    this.#lease = lease
    this.#clock = clock
  }

  add ({ tenantId, userId }: UserRef, presence: Presence): void {
    this.#presences.set(userKey(tenantId, userId), { tenantId, userId, presence, addedAt: this.#clock.now(), isWritten: false })
  }

  remove ({ tenantId, userId }: UserRef): void {
    this.#presences.delete(userKey(tenantId, userId))
  }

  /** Writes the presences that Redis does not have. */
  async write (hasLost: boolean): Promise<void> {
    const now = this.#clock.now()
    if (this.#presences.size === 0 || (!hasLost && now - this.#writtenAt < this.#ttl / 4)) return
    this.#writtenAt = now
    // After this time the user may have been reported offline, which voids the presence.
    for (const [key, { addedAt, isWritten }] of this.#presences) {
      if (isWritten && !this.#lease.isIncomplete && addedAt < now - this.#ttl) this.#presences.delete(key)
    }
    const results = await this.#commands.runOver('restorePresences', {}, partsOf(this.#presences.values(), ({ tenantId }) => tenantId),
      ({ userId, presence }) => ({ user: userId, presence: encodePresence(presence), setAt: presence.seenAt }))
    for (const { rows } of results) for (const entry of rows) entry.isWritten = true
  }
}

import type { Clock } from '../clock.js'
import type { Entry, Presence } from './contract.js'
import { encodePresence } from './redis-codec.js'
import { partsOf, type RosterCommands } from './redis-commands.js'
import type { Lease } from './redis-lease.js'

type UserKey = Pick<Entry, 'tenantId' | 'userId'>

/**
 * What users said through this node who are not connected to it, or not any more. The nodes to which they are connected learn
 * it when they compare what they hold; until then only Redis has it, and this.
 */
export class Sayings {
  readonly #commands: RosterCommands
  readonly #lease: Lease
  readonly #clock: Clock
  readonly #said = new Map<string, UserKey & { presence: Presence, addedAt: number }>()
  #writtenAt = -Infinity

  constructor (commands: RosterCommands, lease: Lease, clock: Clock) {
    this.#commands = commands
    this.#lease = lease
    this.#clock = clock
  }

  add ({ tenantId, userId }: UserKey, presence: Presence): void {
    this.#said.set(`${tenantId}/${userId}`, { tenantId, userId, presence, addedAt: this.#clock.now() })
  }

  /** Writes what Redis misses. */
  async write (lost: boolean): Promise<void> {
    const now = this.#clock.now()
    if (this.#said.size === 0 || (!lost && now - this.#writtenAt < this.#lease.round / 2)) return
    this.#writtenAt = now
    await this.#commands.runOver('sayAgain', [], partsOf(this.#said.values(), ({ tenantId }) => tenantId),
      ({ userId, presence }) => [userId, encodePresence(presence), presence.seenAt])
    for (const [key, { addedAt }] of this.#said) if (addedAt < now - 2 * this.#lease.round) this.#said.delete(key)
  }
}

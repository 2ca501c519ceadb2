import type { Clock } from '../../clock.js'
import type { RosterConnection, Presence } from '../contract.js'
import { encodePresence } from './codec.js'
import { partsOf, type RosterCommands } from './commands.js'
import type { Lease } from './lease.js'

type UserKey = Pick<RosterConnection, 'tenantId' | 'userId'>

/**
 * What users said through this node who are not connected to it, or not any more. The nodes to which they are connected learn
 * it when they compare what they hold; until then only Redis has it, and this.
 */
export class Sayings {
  readonly #commands: RosterCommands
  readonly #lease: Lease
  readonly #clock: Clock
  readonly #said = new Map<string, UserKey & { presence: Presence, addedAt: number, isWritten: boolean }>()
  readonly #keep: number
  #writtenAt = -Infinity

  /** `keep`: how long what was said is remembered here, in milliseconds. */
  constructor (commands: RosterCommands, lease: Lease, clock: Clock, keep: number) {
    this.#keep = keep
    this.#commands = commands
    this.#lease = lease
    this.#clock = clock
  }

  add ({ tenantId, userId }: UserKey, presence: Presence): void {
    this.#said.set(`${tenantId}/${userId}`, { tenantId, userId, presence, addedAt: this.#clock.now(), isWritten: false })
  }

  /** Writes what Redis misses. */
  async write (lost: boolean): Promise<void> {
    const now = this.#clock.now()
    if (this.#said.size === 0 || (!lost && now - this.#writtenAt < this.#keep / 4)) return
    this.#writtenAt = now
    // After the grace the user may have been told offline, and what was said is forgotten.
    for (const [key, { addedAt, isWritten }] of this.#said) {
      if (isWritten && !this.#lease.isUnsettled && addedAt < now - this.#keep) this.#said.delete(key)
    }
    const answered = await this.#commands.runOver('sayAgain', [], partsOf(this.#said.values(), ({ tenantId }) => tenantId),
      ({ userId, presence }) => [userId, encodePresence(presence), presence.seenAt])
    for (const { rows } of answered) for (const saying of rows) saying.isWritten = true
  }
}

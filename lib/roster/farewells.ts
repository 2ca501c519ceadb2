import type { RosterConnection } from './contract.js'

type UserKey = Pick<RosterConnection, 'tenantId' | 'userId'>

/** The end of a user's presence, as far as this node had to do with it. */
export interface Farewell extends UserKey {
  /** By the clock of the shared roster. */
  at: number
  /** This node told the user offline. False: the user's last connection to this node ended. */
  told: boolean
}

/** Milliseconds. An older copy of the shared roster is made up for by what was told since, if it is not older than this. */
const KEEP_TOLD = 10 * 60_000
const MAX_KEPT = 100_000

/**
 * Who left this node, and whom it told offline. What a node holds says who is online; this says who is not, so that a shared
 * roster that lost or forgot it neither leaves them online nor has them told twice.
 */
export class Farewells {
  /** In the order of their times. */
  readonly #users = new Map<string, Farewell>()
  readonly #keepLeft: number

  /** `keepLeft`: how long it is remembered that a user left; by then some node told it. */
  constructor (keepLeft: number) {
    this.#keepLeft = keepLeft
  }

  add (farewell: Farewell): void {
    const key = keyOf(farewell)
    this.#users.delete(key)
    this.#users.set(key, farewell)
    if (this.#users.size > MAX_KEPT) this.#users.delete(this.#users.keys().next().value ?? '')
  }

  /** They left after `since`, and this node did not tell it. */
  left (user: UserKey, since: number): boolean {
    const farewell = this.#users.size === 0 ? undefined : this.#users.get(keyOf(user))
    return farewell !== undefined && !farewell.told && farewell.at > since
  }

  /** The user is back here. What was told stays true of the time when it was. */
  back (user: UserKey): void {
    if (this.left(user, -Infinity)) this.forget(user)
  }

  forget (user: UserKey): void {
    this.#users.delete(keyOf(user))
  }

  /** Those after `since`. `good`: until then the shared roster is known to have had it all. */
  after (since: number, good: number): Farewell[] {
    this.#prune(good)
    return [...this.#users.values()].filter(({ at }) => at > since)
  }

  #prune (good: number): void {
    for (const [key, { at, told }] of this.#users) {
      if (at > good - this.#keepLeft) break
      if (!told || at <= good - KEEP_TOLD) this.#users.delete(key)
    }
  }
}

const keyOf = ({ tenantId, userId }: UserKey): string => `${tenantId}/${userId}`

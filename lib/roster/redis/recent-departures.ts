import { BoundedMap } from '../../async/bounded-map.js'
import { userKey, type UserKey, type UserRef } from '../../keys.js'

/** A user whose presence ended, as far as this node took part in it. */
export interface Departure extends UserRef {
  /** By Redis' clock. */
  at: number
  /** True: this node reported the user offline. False: the user's last connection to this node ended. */
  isReported: boolean
}

/** Milliseconds for which reports are kept: an older copy of Redis than this cannot be corrected. */
const REPORT_TTL = 10 * 60_000
const MAX_DEPARTURES = 100_000

/**
 * Users who left this node, and users whom it reported offline. The node's sockets are the users who are online; these are the users who are not.
 * If Redis lost that, users are neither left online nor reported offline twice.
 */
export class RecentDepartures {
  /** Oldest first. */
  readonly #users = new BoundedMap<UserKey, Departure>(MAX_DEPARTURES)
  readonly #departureTtl: number

  /** `departureTtl`: the time after which some node has reported a user who left, in milliseconds. */
  constructor (departureTtl: number) {
    this.#departureTtl = departureTtl
  }

  add (departure: Departure): void {
    this.#users.set(userKey(departure.tenantId, departure.userId), departure)
  }

  /** Whether the user left after `since`, and this node has not reported it. */
  hasLeft (user: UserRef, since: number): boolean {
    const departure = this.#users.size === 0 ? undefined : this.#users.get(userKey(user.tenantId, user.userId))
    return departure !== undefined && !departure.isReported && departure.at > since
  }

  /** The user connected to this node again. A report is kept: it was right at its time. */
  markReturned (user: UserRef): void {
    if (this.hasLeft(user, -Infinity)) this.remove(user)
  }

  remove (user: UserRef): void {
    this.#users.delete(userKey(user.tenantId, user.userId))
  }

  /** Departures after `since`. Removes those that have become obsolete by `reliableAt`, until when Redis had everything. */
  after (since: number, reliableAt: number): Departure[] {
    this.#prune(reliableAt)
    return [...this.#users.values()].filter(({ at }) => at > since)
  }

  #prune (reliableAt: number): void {
    for (const [key, { at, isReported }] of this.#users) {
      if (at > reliableAt - this.#departureTtl) break
      if (!isReported || at <= reliableAt - REPORT_TTL) this.#users.delete(key)
    }
  }
}

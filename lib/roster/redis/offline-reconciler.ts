import type { Renewed, RosterTimes } from '../contract.js'
import type { RosterCommands } from './commands.js'
import type { Lease } from './lease.js'
import { partsOf } from './parts.js'
import type { Departure, RecentDepartures } from './recent-departures.js'

/** Milliseconds after its deadline by which a user has been reported offline. */
const REPORT_DELAY = 1500
/** Milliseconds before a renewal from which a write may not have reached Redis. */
const MARGIN = 1000

/**
 * Writes to Redis which users left this node. Users whose deadline Redis lost are still reported offline; users who were
 * reported are not reported again if Redis has them online once more; and users who were reported offline although they are
 * connected are reported online.
 */
export class OfflineReconciler {
  readonly #commands: RosterCommands
  readonly #lease: Lease
  readonly #departures: RecentDepartures
  readonly #times: RosterTimes
  #reportsWrittenAt = -Infinity

  constructor (commands: RosterCommands, lease: Lease, departures: RecentDepartures, times: RosterTimes) {
    this.#commands = commands
    this.#lease = lease
    this.#departures = departures
    this.#times = times
  }

  /** Returns the users to report online. */
  async reconcile (hasLost: boolean): Promise<Renewed['arrived']> {
    const departures = this.#toWrite(hasLost)
    if (departures.length === 0) return []
    const { now, cautiousOfflineDelay, isIncomplete, isRecovering } = this.#lease
    const arrived: Renewed['arrived'] = []
    const results = await this.#commands.runOver('reconcileOffline', {
      offlineDelay: cautiousOfflineDelay, hasLost: hasLost || isRecovering ? '1' : '0', isComplete: isIncomplete ? '0' : '1'
    }, partsOf(departures, ({ tenantId }) => tenantId), ({ userId, at, isReported }) => ({ user: userId, leftAt: at, isReported: isReported ? '1' : '0' }))
    for (const { part: { tenantId }, result } of results) {
      for (const userId of (result as string[]).map((user) => this.#commands.ids.parse(user))) {
        this.#departures.remove({ tenantId, userId })
        arrived.push({ tenantId, userId, connectionId: null })
      }
    }
    const waiting = new Set(departures.filter(({ isReported }) => !isReported).map(({ tenantId }) => tenantId))
    await this.#commands.scheduleAt([...waiting].map((tenantId) => [tenantId, now + cautiousOfflineDelay]))
    return arrived
  }

  #toWrite (hasLost: boolean): Departure[] {
    const { now, reliableAt, isRecovering, isIncomplete, comparisonInterval } = this.#lease
    const { offlineDelay, nodeTimeout } = this.#times
    // A departure that may have been reported by another node is not written again: a user who came back would not be
    // reported online.
    const leftSince = (hasLost ? reliableAt - MARGIN - REPORT_DELAY : now) - offlineDelay
    const withReports = hasLost || isIncomplete || now - this.#reportsWrittenAt >= comparisonInterval
    if (withReports) this.#reportsWrittenAt = now
    const reportedSince = isRecovering || hasLost ? -Infinity : now - nodeTimeout
    return this.#departures.after(Math.min(leftSince, withReports ? reportedSince : leftSince), reliableAt)
      .filter(({ at, isReported }) => isReported ? withReports && at > reportedSince : at > leftSince)
  }
}

import type { Renewed, RosterTimes } from '../contract.js'
import type { Farewell, Farewells } from '../farewells.js'
import { partsOf, type RosterCommands } from './commands.js'
import type { Lease } from './lease.js'

/** Milliseconds after the grace within which an offline is told. */
const TELLING = 1500
/** How sure it is that what was known at one renewal reached Redis, in milliseconds. */
const MARGIN = 1000

/**
 * Reminds Redis of who left: those whose grace was lost are told offline all the same, those who were told are not told
 * again where Redis counts them as online once more, and those who were told offline although they are connected are told
 * online.
 */
export class Reminders {
  readonly #commands: RosterCommands
  readonly #lease: Lease
  readonly #farewells: Farewells
  readonly #times: RosterTimes
  #toldAt = -Infinity

  constructor (commands: RosterCommands, lease: Lease, farewells: Farewells, times: RosterTimes) {
    this.#commands = commands
    this.#lease = lease
    this.#farewells = farewells
    this.#times = times
  }

  /** Returns who must be told online. */
  async send (lost: boolean): Promise<Renewed['arrived']> {
    const due = this.#due(lost)
    if (due.length === 0) return []
    const { now, patience, isUnsettled, isRecovering } = this.#lease
    const arrived: Renewed['arrived'] = []
    const answered = await this.#commands.runOver('remind', [patience, lost || isRecovering ? '1' : '0', isUnsettled ? '0' : '1'],
      partsOf(due, ({ tenantId }) => tenantId), ({ userId, at, told }) => [userId, at, told ? '1' : '0'])
    for (const { part: { tenantId }, answer } of answered) {
      for (const userId of (answer as string[]).map(Number)) {
        this.#farewells.forget({ tenantId, userId })
        arrived.push({ tenantId, userId, connectionId: null })
      }
    }
    const waiting = new Set(due.filter(({ told }) => !told).map(({ tenantId }) => tenantId))
    if (waiting.size > 0) await this.#commands.run('dueBy', this.#commands.dueKey, ...[...waiting].flatMap((tenantId) => [now + patience, tenantId]))
    return arrived
  }

  #due (lost: boolean): Farewell[] {
    const { now, sureAt, isRecovering, isUnsettled, round } = this.#lease
    const { offlineDelay, nodeTimeout } = this.#times
    // What may have been told since is not written anew for nothing: who comes back meanwhile would not be told online.
    const untoldSince = (lost ? sureAt - MARGIN - TELLING : now) - offlineDelay
    const isTurn = lost || isUnsettled || now - this.#toldAt >= round
    if (isTurn) this.#toldAt = now
    const toldSince = isRecovering || lost ? -Infinity : now - nodeTimeout
    return this.#farewells.after(Math.min(untoldSince, isTurn ? toldSince : untoldSince), sureAt)
      .filter(({ at, told }) => told ? isTurn && at > toldSince : at > untoldSince)
  }
}

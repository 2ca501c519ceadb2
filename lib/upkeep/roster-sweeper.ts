import type { LifecycleBus } from '../lifecycle/events.js'
import type { Due, Roster } from '../roster/contract.js'

export interface RosterSweeperOptions {
  roster: Roster
  events: LifecycleBus
  /** The part of what this node holds that one sweep compares with shared state. */
  share: number
  /** Whether this node looks after what others left behind. */
  enabled: boolean
}

/** The lock of the node that looks after the dead, in milliseconds; another takes over when it is not renewed. */
const LOCK_TTL = 5000
/** The repair takes the time of several comparisons. */
const REPAIRS_PER_SHARE = 0.5

/** Looks after the roster once each time it is asked to: renews the lease, tells what became due, removes dead nodes. */
export class RosterSweeper {
  readonly #options: RosterSweeperOptions

  constructor (options: RosterSweeperOptions) {
    this.#options = options
  }

  async sweep (): Promise<void> {
    const { roster, share, enabled } = this.#options
    // First, so that nobody is told anything by a state that was lost since.
    const renewed = await this.#renew().then(() => null, (err: unknown) => ({ err }))
    // Also while Redis is away: typing of this node runs out as ever.
    if (enabled) await this.#tellDue()
    if (renewed !== null) throw renewed.err
    if (!enabled || !await roster.lock('reaper', LOCK_TTL)) return
    if (await roster.reap()) await this.#tellDue()
    await roster.repair(share * REPAIRS_PER_SHARE)
  }

  async #renew (): Promise<void> {
    const { roster, events, share } = this.#options
    const { arrived, displaced } = await roster.renew(share)
    for (const entry of arrived) events.emit('online', entry)
    for (const one of displaced) events.emit('displaced', one)
  }

  /** Part by part: what became due with a dead node can be a lot. */
  async #tellDue (): Promise<void> {
    const { roster, events } = this.#options
    for (let due = await roster.claimDue(); due.length > 0; due = await roster.claimDue()) {
      for (const one of due) this.#tell(one)
      // Only now, after it was told: a crash before leaves them due for another node.
      const back = await roster.confirmOffline(due.map(({ tenantId, offline }) => ({ tenantId, userIds: offline })))
      for (const { tenantId, userIds } of back) for (const userId of userIds) events.emit('online', { tenantId, userId, connectionId: null })
    }
  }

  #tell ({ tenantId, offline, presences, typing, expiredConnections }: Due): void {
    const { events } = this.#options
    for (const entry of expiredConnections) events.emit('connectionExpired', entry)
    for (const entry of typing) events.emit('typingExpired', entry)
    offline.forEach((userId, i) => { events.emit('offline', { tenantId, userId, presence: presences[i] ?? null }) })
  }
}

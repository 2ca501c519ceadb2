import type { LifecycleBus } from '../lifecycle/events.js'
import type { Due, Roster } from '../roster/contract.js'

export interface RosterSweeperOptions {
  roster: Roster
  events: LifecycleBus
  /** The share of this node's entries that one sweep compares with shared state, from 0 to 1. */
  share: number
  /** Whether this node removes dead nodes, and emits events that became due on any node. */
  enabled: boolean
}

/** The lock of the node that removes dead nodes. Another one takes over when it is not renewed. */
const LOCK_TTL_MS = 5000
/** The repair takes the time of several comparisons. */
const REPAIRS_PER_SHARE = 0.5

/** One periodic task for the roster: renews the lease, emits events that became due, removes dead nodes. */
export class RosterSweeper {
  readonly #options: RosterSweeperOptions

  constructor (options: RosterSweeperOptions) {
    this.#options = options
  }

  async sweep (): Promise<void> {
    const { roster, share, enabled } = this.#options
    // First, so that no event is based on state that Redis has lost.
    const renewed = await this.#renew().then(() => null, (err: unknown) => ({ err }))
    // Also while Redis is unavailable: typing of this node expires as usual.
    if (enabled) await this.#emitDue()
    if (renewed !== null) throw renewed.err
    if (!enabled || !await roster.lock('reaper', LOCK_TTL_MS)) return
    if (await roster.reap()) await this.#emitDue()
    await roster.repair(share * REPAIRS_PER_SHARE)
  }

  async #renew (): Promise<void> {
    const { roster, events, share } = this.#options
    const { arrived, displaced } = await roster.renew(share)
    for (const entry of arrived) events.emit('online', { ...entry, presence: null })
    for (const one of displaced) events.emit('displaced', one)
  }

  /** In several parts, because a dead node can leave many users and entries. */
  async #emitDue (): Promise<void> {
    const { roster, events } = this.#options
    for (let due = await roster.claimDue(); due.length > 0; due = await roster.claimDue()) {
      for (const one of due) this.#emit(one)
      // Only after the events: if this node crashes before, another node emits them.
      const back = await roster.confirmOffline(due.map(({ tenantId, offline }) => ({ tenantId, userIds: offline })))
      for (const { tenantId, userIds } of back) for (const userId of userIds) events.emit('online', { tenantId, userId, connectionId: null, presence: null })
    }
  }

  #emit ({ tenantId, offline, presences, typing, expiredConnections, mode, rooms, announce }: Due): void {
    const { events } = this.#options
    for (const entry of expiredConnections) events.emit('connectionExpired', entry)
    for (const entry of typing) events.emit('typingExpired', entry)
    offline.forEach((userId, i) => { events.emit('offline', { tenantId, userId, presence: presences[i] ?? null }) })
    for (const change of rooms) events.emit('roomChanged', { tenantId, change })
    if (announce !== null) events.emit('counted', { tenantId, announce, ...mode })
  }
}

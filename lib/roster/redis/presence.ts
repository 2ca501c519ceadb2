import type { Clock } from '../../clock.js'
import type { Id } from '../../ids.js'
import type { UserRef } from '../../keys.js'
import { isShown, type Edge, type OnlinePage, type Presence, type PresenceRulesOfRoster, type RosterPresence, type RosterTimes, type Standing } from '../contract.js'
import { decodePresence, encodePresence, toOnlinePage, toStanding } from './codec.js'
import { isUnavailable, unavailable, type RosterCommands } from './commands.js'
import type { Invisible } from './invisible.js'
import type { Lease } from './lease.js'
import type { LocalState } from './local-state.js'
import type { Modes } from './modes.js'
import type { RecentPresences } from './recent-presences.js'

/** Results of the script `setPresence`. */
const [FIRST_OF_USER, NOT_CONNECTED, LOST] = [1, 2, 3]

export interface PresenceParts {
  commands: RosterCommands
  lease: Lease
  local: LocalState
  presences: RecentPresences
  modes: Modes
  invisible: Invisible
  clock: Clock
  times: RosterTimes
  /** Whether the user is known to have been reported online and not offline. */
  isReported (user: UserRef, at: number): boolean
}

/** The presence of users, and who sees it. */
export class RedisPresence implements Omit<RosterPresence, 'version'> {
  readonly #parts: PresenceParts

  constructor (parts: PresenceParts) {
    this.#parts = parts
  }

  /** A presence of a user without a socket here, see {@link RecentPresences}. */
  keep (user: UserRef, presence: Presence): void {
    this.#parts.presences.add(user, presence)
  }

  /** See `Roster.release`. */
  release (user: UserRef): void {
    this.#parts.presences.remove(user)
  }

  async usePresence ({ everyone, loadInvisible }: PresenceRulesOfRoster): Promise<void> {
    this.#parts.commands.everyone = everyone
    this.#parts.modes.everyone = everyone > 0
    await this.#parts.invisible.use(loadInvisible)
  }

  sendsToEveryone (tenantId: Id): boolean {
    return this.#parts.modes.of(tenantId).everyone
  }

  async setPresence (tenantId: Id, userId: Id, presence: Presence): Promise<{ isFirstOfUser: boolean, edge: Edge, standing: Standing }> {
    const user = { tenantId, userId }
    const isLocal = this.#parts.local.has(user)
    const before = this.#parts.local.presence(user)
    const isVisible = isShown(presence.status)
    this.#parts.local.setPresence(user, presence)
    try {
      const { isFirst, wasVisible, standing } = await this.#setPresence(tenantId, userId, presence, isLocal)
      if (!isLocal) this.#parts.presences.add(user, presence)
      const isFirstOfUser = isFirst && !this.#parts.isReported(user, this.#parts.lease.now)
      // If Redis lost only this user, this node knows the status that others see.
      const wasShown = isFirst && !isFirstOfUser ? isShown(before?.status ?? 'online') : wasVisible
      return { isFirstOfUser, edge: edgeOf(wasShown, isVisible), standing }
    } catch (err) {
      if (!isLocal || !isUnavailable(err)) throw err
      return { isFirstOfUser: false, edge: edgeOf(isShown(before?.status ?? 'online'), isVisible), standing: this.localStanding(user) }
    }
  }

  async standing (tenantId: Id, userId: Id): Promise<Standing> {
    const { commands, invisible, modes, local } = this.#parts
    try {
      return toStanding(modes, tenantId, await invisible.known(tenantId, async () => {
        const text = await commands.run('standing', commands.base(tenantId), { user: userId }) as string
        return text === '' ? null : text
      }))
    } catch (err) {
      // Only Redis knows whether a user without a socket here is invisible.
      if (!isUnavailable(err) || (commands.redis.ready && !local.has({ tenantId, userId }))) throw err
      return this.localStanding({ tenantId, userId })
    }
  }

  /** While Redis is unavailable: as far as this node knows. */
  localStanding (user: UserRef): Standing {
    return { ...this.#parts.modes.of(user.tenantId), status: this.#parts.local.presence(user)?.status ?? 'online' }
  }

  async presence (tenantId: Id, userIds: Id[]): Promise<Array<Presence | null>> {
    const found = await this.#parts.commands.run('presence', this.#parts.commands.base(tenantId), {}, userIds) as string[]
    return userIds.map((_, i) => decodePresence(found[2 * i], found[2 * i + 1], this.#parts.clock.now()))
  }

  async online (tenantId: Id, { limit, after }: { limit: number, after: Id }): Promise<OnlinePage> {
    const found = await this.#parts.commands.run('online', this.#parts.commands.base(tenantId), { after, limit }) as [number, ...string[]]
    return toOnlinePage(this.#parts.commands.ids, found, limit, this.#parts.clock.now())
  }

  async #setPresence (tenantId: Id, userId: Id, presence: Presence, isLocal: boolean): Promise<{ isFirst: boolean, wasVisible: boolean, standing: Standing }> {
    const { registrationTtl } = this.#parts.times
    const args = { user: userId, presence: encodePresence(presence), registrationTtl, setAt: presence.seenAt, state: this.#parts.lease.state, tenant: tenantId }
    // A connected user needs no scheduled check. Redis may have lost the connection; then the status lease must end, too.
    let result: unknown = isLocal ? await this.#parts.commands.run('setPresence', this.#parts.commands.keysOf(tenantId), { ...args, onlyConnected: '1' }) : [NOT_CONNECTED]
    if ((result as [number])[0] === NOT_CONNECTED) result = await this.#parts.commands.runScheduled('setPresence', tenantId, registrationTtl, { ...args, onlyConnected: '0' })
    const [outcome, wasVisible, standing] = result as [number, string, string]
    if (outcome === LOST) throw unavailable('Redis lost data')
    if (this.#parts.commands.redis.isCluster) await this.#parts.commands.scheduleAnnouncement(tenantId)
    return { isFirst: outcome === FIRST_OF_USER, wasVisible: wasVisible === '1', standing: toStanding(this.#parts.modes, tenantId, standing) }
  }
}

const edgeOf = (wasShown: boolean, isShownNow: boolean): Edge => wasShown === isShownNow ? null : isShownNow ? 'appeared' : 'vanished'

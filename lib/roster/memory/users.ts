import type { Clock } from '../../clock.js'
import type { Id } from '../../ids.js'
import type { PresenceStatus } from '../../schemas.js'
import {
  defaultPresence, isShown, type Edge, type JoinResult, type Presence, type PresenceRulesOfRoster, type RosterConnection, type RosterTimes, type Standing
} from '../contract.js'
import { setSeen } from './rooms.js'
import { countShown, scheduleCheck, type OnlineUser, type Tenant } from './tenant.js'

/** The result of a join that changed nothing. */
export const NOTHING_JOINED = {
  ownedByOther: false, isTenantFull: false, isNew: false, isFirstOfUser: false, hasAppeared: false, standing: { status: 'online', everyone: true, online: 0 }, presence: null, replaced: null, evicted: []
} satisfies JoinResult

export const standingOf = ({ everyone, shown }: Tenant, { presence: { status } }: OnlineUser): Standing => ({ everyone, online: shown, status })

/** The users of one process: who is online, and the status that others see. */
export class MemoryUsers {
  /** See `PresenceRulesOfRoster`. */
  everyone = Infinity
  /** The version of the tenant that changed last. */
  version = 0
  /** Since when users are invisible, by tenant. */
  readonly #invisible = new Map<Id, Map<Id, number>>()
  readonly #tenants: ReadonlyMap<Id, Tenant>
  readonly #tenant: (tenantId: Id) => Tenant
  readonly #clock: Clock
  readonly #times: RosterTimes

  constructor (tenants: ReadonlyMap<Id, Tenant>, tenantOf: (tenantId: Id) => Tenant, clock: Clock, times: RosterTimes) {
    this.#tenants = tenants
    this.#tenant = tenantOf
    this.#clock = clock
    this.#times = times
  }

  async usePresence ({ everyone, loadInvisible }: PresenceRulesOfRoster): Promise<void> {
    this.everyone = everyone
    for (const { tenantId, userId, since } of await loadInvisible()) this.#invisibleIn(tenantId).set(userId, since)
  }

  /** Ends `invisible` with the next connection. */
  reveal (tenantId: Id, userId: Id): void {
    this.#invisible.get(tenantId)?.delete(userId)
  }

  sendsToEveryone (tenantId: Id): boolean {
    return this.#tenants.get(tenantId)?.everyone ?? this.everyone > 0
  }

  setPresence (tenantId: Id, userId: Id, presence: Presence): { isFirstOfUser: boolean, edge: Edge, standing: Standing } {
    const tenant = this.#tenant(tenantId)
    const wasShown = isShown(tenant.users.get(userId)?.presence.status ?? 'offline')
    if (presence.status === 'invisible') this.#invisibleIn(tenantId).set(userId, presence.hiddenSince ?? presence.seenAt)
    else if (this.#invisible.size > 0) this.#invisible.get(tenantId)?.delete(userId)
    const { user, isFirstOfUser } = this.markOnline(tenant, tenantId, userId, presence.device)
    this.show(tenant, userId, user, presence)
    tenant.version = ++this.version
    if (user.connections.length === 0) {
      user.statusOnlyUntil = this.#clock.now() + this.#times.registrationTtl
      scheduleCheck(tenant, user.statusOnlyUntil)
    }
    const isShownNow = isShown(presence.status)
    return { isFirstOfUser, edge: wasShown === isShownNow ? null : isShownNow ? 'appeared' : 'vanished', standing: standingOf(tenant, user) }
  }

  standing (tenantId: Id, userId: Id): Standing {
    const tenant = this.#tenant(tenantId)
    return { everyone: tenant.everyone, online: tenant.shown, status: this.#statusOf(tenant, tenantId, userId) }
  }

  #statusOf (tenant: Tenant, tenantId: Id, userId: Id): PresenceStatus {
    return tenant.users.get(userId)?.presence.status ?? (this.#invisible.get(tenantId)?.has(userId) === true ? 'invisible' : 'online')
  }

  /** The user has a connection, or set a status. */
  markOnline (tenant: Tenant, tenantId: Id, userId: Id, device: RosterConnection['device']): { user: OnlineUser, isFirstOfUser: boolean } {
    const now = this.#clock.now()
    const known = tenant.users.get(userId)
    const user = known ?? { connections: [], presence: defaultPresence(device, now), offlineAt: null, statusOnlyUntil: null }
    user.offlineAt = null
    if (known !== undefined) {
      user.presence.seenAt = now
      return { user, isFirstOfUser: false }
    }
    const since = this.#invisible.size === 0 ? undefined : this.#invisible.get(tenantId)?.get(userId)
    if (since !== undefined) user.presence = { ...user.presence, status: 'invisible', hiddenSince: since }
    tenant.version = ++this.version
    tenant.users.set(userId, user)
    if (since === undefined) countShown(tenant, 1, this.everyone, now)
    return { user, isFirstOfUser: true }
  }

  /** Sets the presence of a user of the tenant. */
  show (tenant: Tenant, userId: Id, user: OnlineUser, presence: Presence): void {
    const difference = Number(isShown(presence.status)) - Number(isShown(user.presence.status))
    user.presence = presence
    tenant.version = ++this.version
    if (difference === 0) return
    countShown(tenant, difference, this.everyone, this.#clock.now())
    setSeen(tenant, userId, difference > 0, this.#clock.now())
  }

  #invisibleIn (tenantId: Id): Map<Id, number> {
    const users = this.#invisible.get(tenantId) ?? new Map<Id, number>()
    this.#invisible.set(tenantId, users)
    return users
  }
}

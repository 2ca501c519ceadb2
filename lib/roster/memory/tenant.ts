import type { Due, RosterConnection, Presence, RosterTimes, TypingEntry } from '../contract.js'

/** A user with connections, or in the grace after the last one. */
export interface Present {
  connections: string[]
  presence: Presence
  /** Told offline from then on; null while connected. */
  graceUntil: number | null
  /** Online without a connection, by a REST update. */
  statusOnlyUntil: number | null
}

export interface Tenant {
  connections: Map<string, RosterConnection & { channels: Set<string> | null, heardAt: number }>
  users: Map<number, Present>
  /** `{user}:{conversation}` */
  typing: Map<string, TypingEntry>
  /** Never the same again, in no tenant, after who is online changed, or what they say. */
  version: number
  /** Before then nothing of it is due. */
  dueAt: number
}

/** Something of it becomes due at that time. */
export function scheduleCheck (tenant: Tenant, at: number): void {
  if (at < tenant.dueAt) tenant.dueAt = at
}

/** Takes a connection out; its user's grace begins with the last one. */
export function remove (tenant: Tenant, entry: RosterConnection, { offlineDelay }: RosterTimes, now: number): void {
  tenant.connections.delete(entry.connectionId)
  const user = tenant.users.get(entry.userId)
  if (user === undefined) return
  const at = user.connections.indexOf(entry.connectionId)
  if (at >= 0) user.connections.splice(at, 1)
  user.presence.seenAt = now
  if (user.connections.length > 0 || user.statusOnlyUntil !== null) return
  user.graceUntil ??= now + offlineDelay
  scheduleCheck(tenant, user.graceUntil)
}

/** What became due. Looked for only where something may have: with many tenants, a look at each of all users each second shows. */
export function collectDue (tenant: Tenant, times: RosterTimes, now: number): Omit<Due, 'tenantId'> {
  const expiredConnections: RosterConnection[] = []
  const offline: number[] = []
  const presences: Presence[] = []
  const typing: TypingEntry[] = []
  if (tenant.dueAt > now) return { expiredConnections, offline, presences, typing }
  tenant.dueAt = Infinity
  tenant.connections.forEach((entry) => {
    if (entry.nodeId !== null) return
    const until = entry.heardAt + times.registrationTtl
    if (until <= now) expiredConnections.push(entry)
    else scheduleCheck(tenant, until)
  })
  for (const entry of expiredConnections) remove(tenant, entry, times, now)
  tenant.users.forEach((user, id) => {
    if (user.statusOnlyUntil !== null && user.statusOnlyUntil <= now) {
      user.statusOnlyUntil = null
      if (user.connections.length === 0) user.graceUntil ??= now + times.offlineDelay
    }
    if (user.graceUntil !== null && user.graceUntil <= now) {
      offline.push(id)
      presences.push(user.presence)
    }
    // Due again until it is settled.
    scheduleCheck(tenant, user.statusOnlyUntil ?? user.graceUntil ?? Infinity)
  })
  tenant.typing.forEach((entry, key) => {
    if (entry.expiresAt <= now) {
      typing.push(entry)
      tenant.typing.delete(key)
    } else {
      scheduleCheck(tenant, entry.expiresAt)
    }
  })
  return { expiredConnections, offline, presences, typing }
}

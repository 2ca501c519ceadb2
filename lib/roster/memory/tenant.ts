import type { Id } from '../../ids.js'
import { CHANGE_INTERVAL, type Due, type RosterConnection, type Presence, type RosterTimes, type TypingEntry } from '../contract.js'
import type { Room } from './rooms.js'

/** A user who counts as online: with connections, by a status update, or until `offlineAt`. */
export interface OnlineUser {
  connections: string[]
  presence: Presence
  /** When the user goes offline; null while connected. */
  offlineAt: number | null
  /** Until when the user is online without a connection, by a status update; else null. */
  statusOnlyUntil: number | null
}

export interface Tenant {
  connections: Map<string, RosterConnection & { channels: Set<string> | null, watches: Map<Id, string> | null, activeAt: number }>
  users: Map<Id, OnlineUser>
  /** `{user}:{conversation}` */
  typing: Map<string, TypingEntry>
  /** By channel. */
  rooms: Map<string, Room>
  /** Unique over all tenants; changes when a user goes online or offline, or sets a presence. */
  version: number
  /** No deadline of the tenant is before this time. */
  dueAt: number
  /** Number of users whom others see as online. */
  shown: number
  /** Whether every change of presence is sent to everyone. */
  everyone: boolean
  /** When the count, or the mode, is to be sent to everyone; null: nothing has changed. */
  announceAt: number | null
  hasFlipped: boolean
  announcedAt: number
}

/** A user came into sight of others, or went out of it. `limit`: up to this number everyone is sent every change. */
export function countShown (tenant: Tenant, difference: number, limit: number, now: number): void {
  tenant.shown += difference
  const everyone = limit > 0 && tenant.shown <= (tenant.everyone ? limit : Math.floor(limit * 0.9))
  tenant.hasFlipped ||= everyone !== tenant.everyone
  tenant.everyone = everyone
  if (everyone && !tenant.hasFlipped) return
  tenant.announceAt = tenant.hasFlipped ? now : tenant.announceAt ?? Math.max(now, tenant.announcedAt + CHANGE_INTERVAL)
  scheduleCheck(tenant, tenant.announceAt)
}

/** Returns `mode` or `count` if that must be sent to everyone now. */
export function collectAnnouncement (tenant: Tenant, now: number): Due['announce'] {
  if (tenant.announceAt === null) return null
  if (tenant.announceAt > now) {
    scheduleCheck(tenant, tenant.announceAt)
    return null
  }
  const announce = tenant.hasFlipped ? 'mode' : 'count'
  tenant.announceAt = null
  tenant.hasFlipped = false
  tenant.announcedAt = now
  return announce
}

/** Records a deadline. */
export function scheduleCheck (tenant: Tenant, at: number): void {
  if (at < tenant.dueAt) tenant.dueAt = at
}

/** Removes a connection; with the last one, its user's offline delay begins. */
export function remove (tenant: Tenant, entry: RosterConnection, offlineDelay: number, now: number): void {
  tenant.connections.delete(entry.connectionId)
  const user = tenant.users.get(entry.userId)
  if (user === undefined) return
  const at = user.connections.indexOf(entry.connectionId)
  if (at >= 0) user.connections.splice(at, 1)
  user.presence.seenAt = now
  if (user.connections.length > 0 || user.statusOnlyUntil !== null) return
  user.offlineAt ??= now + offlineDelay
  scheduleCheck(tenant, user.offlineAt)
}

/** A user without connections goes offline, leaves channels and stops typing with the next `collectDue`. */
export function dismiss (tenant: Tenant, userId: Id, now: number): void {
  const user = tenant.users.get(userId)
  if (user !== undefined && user.connections.length === 0) Object.assign(user, { statusOnlyUntil: null, offlineAt: now })
  for (const { leaving } of tenant.rooms.values()) if (leaving.has(userId)) leaving.set(userId, now)
  for (const entry of tenant.typing.values()) if (entry.userId === userId) entry.expiresAt = now
  scheduleCheck(tenant, now)
}

/** Removes the user's connections over the limit: those without a socket first, then the oldest; never the newest. */
export function evict (tenant: Tenant, user: OnlineUser, newest: string, limit: number, offlineDelay: number, now: number): RosterConnection[] {
  const hasSocket = ({ nodeId }: RosterConnection): boolean => nodeId !== null
  const others = user.connections.map((id) => tenant.connections.get(id)).filter((entry) => entry !== undefined)
    .filter(({ connectionId }) => connectionId !== newest)
    .sort((a, b) => Number(hasSocket(a)) - Number(hasSocket(b)) || a.connectedAt - b.connectedAt)
  // An open socket is not evicted for a connection that may never have one.
  const candidates = tenant.connections.get(newest)?.nodeId === null ? others.filter((entry) => !hasSocket(entry)) : others
  const evicted = candidates.slice(0, user.connections.length - limit)
  for (const entry of evicted) remove(tenant, entry, offlineDelay, now)
  return evicted
}

/** Returns the due events. Call it only after `dueAt`: visiting all users each second is noticeable with many tenants. */
export function collectDue (tenant: Tenant, times: RosterTimes, now: number): Omit<Due, 'tenantId' | 'mode' | 'announce' | 'rooms'> {
  const expiredConnections: RosterConnection[] = []
  const offline: Id[] = []
  const presences: Presence[] = []
  const typing: TypingEntry[] = []
  tenant.dueAt = Infinity
  tenant.connections.forEach((entry) => {
    if (entry.nodeId !== null) return
    const until = entry.activeAt + times.registrationTtl
    if (until <= now) expiredConnections.push(entry)
    else scheduleCheck(tenant, until)
  })
  for (const entry of expiredConnections) remove(tenant, entry, times.offlineDelay, now)
  tenant.users.forEach((user, id) => {
    if (user.statusOnlyUntil !== null && user.statusOnlyUntil <= now) {
      user.statusOnlyUntil = null
      if (user.connections.length === 0) user.offlineAt ??= now + times.offlineDelay
    }
    if (user.offlineAt !== null && user.offlineAt <= now) {
      offline.push(id)
      presences.push(user.presence)
    }
    // An offline user is due again until `confirmOffline`.
    scheduleCheck(tenant, user.statusOnlyUntil ?? user.offlineAt ?? Infinity)
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

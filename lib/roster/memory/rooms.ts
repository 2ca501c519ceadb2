import type { Clock } from '../../clock.js'
import type { Id, Ids } from '../../ids.js'
import { isShown, MAX_LISTED, CHANGE_INTERVAL, type Room as RoomState, type RoomChange, type RosterRooms, type DueChange } from '../contract.js'
import { scheduleCheck, type Tenant } from './tenant.js'

/** A channel whose members are known. */
export interface Room {
  /** Connections of each user. */
  readonly holders: Map<Id, number>
  /** Users without a connection, by the time at which they leave. */
  readonly leaving: Map<Id, number>
  /** Users whom others see. */
  readonly members: Set<Id>
  /** Since the last change that was sent: true, the user joined. */
  readonly delta: Map<Id, boolean>
  version: number
  sentAt: number
  sendAt: number | null
}

function roomOf (tenant: Tenant, channel: string, now: number): Room {
  let room = tenant.rooms.get(channel)
  if (room === undefined) {
    // Starts at the current time, so that no version is used twice after the room was empty.
    room = { holders: new Map(), leaving: new Map(), members: new Set(), delta: new Map(), version: Math.floor(now), sentAt: -Infinity, sendAt: null }
    tenant.rooms.set(channel, room)
  }
  return room
}

function enterRoom (tenant: Tenant, room: Room, userId: Id, isSeen: boolean, now: number): void {
  room.holders.set(userId, (room.holders.get(userId) ?? 0) + 1)
  room.leaving.delete(userId)
  if (isSeen) setMember(tenant, room, userId, true, now)
}

function exitRoom (tenant: Tenant, room: Room, userId: Id, delay: number, now: number): void {
  const left = (room.holders.get(userId) ?? 0) - 1
  if (left > 0) {
    room.holders.set(userId, left)
    return
  }
  room.holders.delete(userId)
  if (delay > 0 && room.members.has(userId)) {
    room.leaving.set(userId, now + delay)
    scheduleCheck(tenant, now + delay)
  } else {
    setMember(tenant, room, userId, false, now)
  }
}

/** The user came into sight of others, or went out of it. */
export function setSeen (tenant: Tenant, userId: Id, isSeen: boolean, now: number): void {
  for (const room of tenant.rooms.values()) if (room.holders.has(userId) || !isSeen) setMember(tenant, room, userId, isSeen, now)
}

/** The change to send to the room's subscribers now, or the time until then. */
function collectChange (tenant: Tenant, channel: string, now: number): DueChange {
  const room = tenant.rooms.get(channel)
  if (room === undefined) return { change: null, sendIn: null }
  const change = takeChange(channel, room, now)
  if (change === null && room.sendAt !== null) scheduleCheck(tenant, room.sendAt)
  if (room.holders.size + room.members.size + room.delta.size === 0) tenant.rooms.delete(channel)
  return { change, sendIn: room.sendAt === null ? null : room.sendAt - now }
}

/** Removes users whose grace has ended. Returns the changes to send now. */
export function collectRooms (tenant: Tenant, now: number): RoomChange[] {
  const changes: RoomChange[] = []
  for (const [channel, room] of tenant.rooms) {
    for (const [userId, at] of room.leaving) {
      if (at > now) scheduleCheck(tenant, at)
      else setMember(tenant, room, userId, false, now)
    }
    const { change } = collectChange(tenant, channel, now)
    if (change !== null) changes.push(change)
  }
  return changes
}

function setMember (tenant: Tenant, room: Room, userId: Id, isMember: boolean, now: number): void {
  if (!isMember) room.leaving.delete(userId)
  if (room.members.has(userId) === isMember) return
  if (isMember) room.members.add(userId)
  else room.members.delete(userId)
  if (room.delta.has(userId)) room.delta.delete(userId)
  else room.delta.set(userId, isMember)
  room.sendAt ??= Math.max(now, room.sentAt + CHANGE_INTERVAL)
  scheduleCheck(tenant, room.sendAt)
}

function takeChange (channel: string, room: Room, now: number): RoomChange | null {
  if (room.sendAt === null || room.sendAt > now) return null
  room.sendAt = null
  if (room.delta.size === 0) return null
  const isListed = room.members.size <= MAX_LISTED && room.delta.size <= MAX_LISTED
  const ids = (isMember: boolean): Id[] => [...room.delta].filter(([, joined]) => joined === isMember).map(([id]) => id)
  const change = { channel, version: ++room.version, count: room.members.size, joined: isListed ? ids(true) : null, left: isListed ? ids(false) : null }
  room.delta.clear()
  room.sentAt = now
  return change
}

/** The members of the channels of one process. */
export class MemoryRooms implements RosterRooms {
  readonly #tenants: ReadonlyMap<Id, Tenant>
  readonly #tenantOf: (tenantId: Id) => Tenant
  readonly #ids: Ids
  readonly #clock: Clock

  constructor (tenants: ReadonlyMap<Id, Tenant>, tenantOf: (tenantId: Id) => Tenant, ids: Ids, clock: Clock) {
    this.#tenants = tenants
    this.#tenantOf = tenantOf
    this.#ids = ids
    this.#clock = clock
  }

  enter (tenantId: Id, channel: string, userId: Id): RoomState & DueChange {
    const now = this.#clock.now()
    const tenant = this.#tenantOf(tenantId)
    const room = roomOf(tenant, channel, now)
    enterRoom(tenant, room, userId, isShown(tenant.users.get(userId)?.presence.status ?? 'online'), now)
    const due = collectChange(tenant, channel, now)
    const { members, version } = room
    return { count: members.size, version, users: members.size <= MAX_LISTED ? [...members].sort((a, b) => this.#ids.compare(a, b)) : null, ...due }
  }

  exit (tenantId: Id, channel: string, userId: Id, delay: number): DueChange {
    const tenant = this.#tenants.get(tenantId)
    const room = tenant?.rooms.get(channel)
    if (tenant === undefined || room === undefined) return { change: null, sendIn: null }
    exitRoom(tenant, room, userId, delay, this.#clock.now())
    return collectChange(tenant, channel, this.#clock.now())
  }

  collectRoomChange (tenantId: Id, channel: string): DueChange {
    const tenant = this.#tenants.get(tenantId)
    return tenant === undefined ? { change: null, sendIn: null } : collectChange(tenant, channel, this.#clock.now())
  }

  async members (tenantId: Id, channel: string, { limit, after }: { limit: number, after: Id }): ReturnType<RosterRooms['members']> {
    const room = this.#tenants.get(tenantId)?.rooms.get(channel)
    const users = [...room?.members ?? []].filter((id) => this.#ids.compare(id, after) > 0).sort((a, b) => this.#ids.compare(a, b))
    const page = users.slice(0, limit)
    return { users: page, total: room?.members.size ?? 0, version: room?.version ?? 0, next: users.length > limit ? page.at(-1) ?? null : null }
  }

  async roomSizes (tenantId: Id, channels: readonly string[]): ReturnType<RosterRooms['roomSizes']> {
    const rooms = this.#tenants.get(tenantId)?.rooms
    return channels.map((channel) => {
      const room = rooms?.get(channel)
      return { users: room?.members.size ?? 0, connections: [...room?.members ?? []].reduce((sum, id) => sum + (room?.holders.get(id) ?? 0), 0) }
    })
  }
}

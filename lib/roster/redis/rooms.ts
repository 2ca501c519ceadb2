import type { Id } from '../../ids.js'
import { MAX_LISTED, CHANGE_INTERVAL, type Room, type RoomChange, type RosterRooms, type DueChange } from '../contract.js'
import { isUnavailable, type RosterCommands } from './commands.js'
import type { Lease } from './lease.js'
import { partsOf } from './parts.js'

/** Version, number of members, 1 if they are listed, and users who joined and left. */
export type ChangeResult = [version: string, count: number, isListed: number, joined: string[], left: string[]] | ''

interface Held { tenantId: Id, channel: string, userId: Id }

const NOTHING: DueChange = { change: null, sendIn: null }

/** The members of channels: this node's entries, and those of all nodes in Redis. */
export class RedisRooms implements RosterRooms {
  readonly #nodeId: string
  readonly #commands: RosterCommands
  readonly #lease: Lease
  /** Connections of this node, by tenant, channel and user. */
  readonly #held = new Map<Id, Map<string, Map<Id, number>>>()
  #comparedAt = -Infinity

  constructor (nodeId: string, commands: RosterCommands, lease: Lease) {
    this.#nodeId = nodeId
    this.#commands = commands
    this.#lease = lease
  }

  async enter (tenantId: Id, channel: string, userId: Id): Promise<Room & DueChange> {
    const count = this.#add(tenantId, channel, userId, 1)
    try {
      const [change, sendIn, members, version, isListed, ...users] = await this.#set({ tenantId, channel, userId }, count, 0, true) as
        [ChangeResult, string, number, string, number, ...string[]]
      return {
        ...this.#toDueChange(channel, change, sendIn),
        count: members,
        version: Number(version),
        users: isListed === 1 ? users.map((user) => this.#commands.ids.parse(user)) : null
      }
    } catch (err) {
      if (!isUnavailable(err)) throw err
      const users = [...this.#held.get(tenantId)?.get(channel)?.keys() ?? []].sort((a, b) => this.#commands.ids.compare(a, b))
      return { ...NOTHING, count: users.length, version: 0, users: users.length > MAX_LISTED ? null : users }
    }
  }

  async exit (tenantId: Id, channel: string, userId: Id, delay: number): Promise<DueChange> {
    const count = this.#add(tenantId, channel, userId, -1)
    try {
      const [change, sendIn] = await this.#set({ tenantId, channel, userId }, count, delay, false) as [ChangeResult, string]
      return this.#toDueChange(channel, change, sendIn)
    } catch (err) {
      // The next comparison finds it.
      if (!isUnavailable(err)) throw err
      this.#comparedAt = -Infinity
      return NOTHING
    }
  }

  async collectRoomChange (tenantId: Id, channel: string): Promise<DueChange> {
    const [change, sendIn] = await this.#commands.run('collectRoomChange', this.#commands.base(tenantId), { channel }) as [ChangeResult, string]
    return this.#toDueChange(channel, change, sendIn)
  }

  async members (tenantId: Id, channel: string, { limit, after }: { limit: number, after: Id }): ReturnType<RosterRooms['members']> {
    const [total, version, ...found] = await this.#commands.run('members', this.#commands.base(tenantId), { channel, after, limit }) as [number, string, ...string[]]
    const users = found.slice(0, limit).map((user) => this.#commands.ids.parse(user))
    return { users, total, version: Number(version), next: found.length > limit ? users.at(-1) ?? null : null }
  }

  async roomSizes (tenantId: Id, channels: readonly string[]): ReturnType<RosterRooms['roomSizes']> {
    const found = await this.#commands.run('roomSizes', this.#commands.base(tenantId), {}, channels) as number[]
    return channels.map((_, i) => ({ users: found[2 * i] ?? 0, connections: found[2 * i + 1] ?? 0 }))
  }

  /** Makes Redis agree with this node's entries: each third of the lease, and at once if Redis may have lost something. */
  async compare (hasLost: boolean): Promise<void> {
    const { now, comparisonInterval } = this.#lease
    if (!hasLost && now - this.#comparedAt < comparisonInterval) return
    if (this.#held.size === 0 && !this.#hadRooms) return
    const tenants = [...this.#held.keys()]
    const results = await this.#commands.runOver('restoreRooms', { node: this.#nodeId }, [
      ...partsOf(this.#entries(), ({ tenantId }) => tenantId), ...this.#emptied(tenants)
    ], ({ tenantId, channel, userId }: Held) => {
      const count = this.#countOf(tenantId, channel, userId)
      return count === 0 ? null : { channel, user: userId, count }
    })
    // The last part of a tenant saw all of it.
    const assigned = new Map(results.map(({ part: { tenantId }, result }) => [tenantId, Number(result)]))
    for (const [tenantId, count] of assigned) if (count !== this.#sizeOf(tenantId)) await this.#disown(tenantId)
    if (assigned.size > 0) await this.#commands.scheduleAnnouncement(...assigned.keys())
    this.#known = new Set(this.#held.keys())
    this.#comparedAt = now
  }

  /** Tenants of the last comparison: Redis may assign entries in them to this node that it has no more. */
  #known = new Set<Id>()

  get #hadRooms (): boolean {
    return this.#known.size > 0
  }

  #emptied (tenants: readonly Id[]): Array<{ tenantId: Id, rows: Held[] }> {
    return [...this.#known].filter((tenantId) => !tenants.includes(tenantId)).map((tenantId) => ({ tenantId, rows: [] }))
  }

  async #disown (tenantId: Id): Promise<void> {
    const members = await this.#commands.redis.smembers(`${this.#commands.base(tenantId)}crowd:${this.#nodeId}`)
    const isForeign = (member: string): boolean => {
      const slash = member.indexOf('/')
      return slash < 0 || this.#countOf(tenantId, member.slice(slash + 1), this.#commands.ids.parse(member.slice(0, slash))) === 0
    }
    await this.#commands.runOver('disownRooms', { node: this.#nodeId, delay: this.#lease.cautiousOfflineDelay },
      partsOf(members.filter(isForeign), () => tenantId), (member) => isForeign(member) ? { member } : null)
  }

  async #set ({ tenantId, channel, userId }: Held, count: number, delay: number, withMembers: boolean): Promise<unknown> {
    this.#known.add(tenantId)
    const args = { channel, user: userId, node: this.#nodeId, count, delay, withMembers: withMembers ? '1' : '0', tenant: tenantId }
    // On a cluster the change itself cannot schedule when it is sent.
    return await this.#commands.changes.add('setRoom', tenantId, args, count === 0 && delay > 0 ? delay : CHANGE_INTERVAL)
  }

  #toDueChange (channel: string, change: ChangeResult, sendIn: string): DueChange {
    return { change: toChange(this.#commands.ids.parse.bind(this.#commands.ids), channel, change), sendIn: sendIn === '' ? null : Number(sendIn) }
  }

  #add (tenantId: Id, channel: string, userId: Id, difference: 1 | -1): number {
    const tenant = this.#held.get(tenantId) ?? new Map<string, Map<Id, number>>()
    const room = tenant.get(channel) ?? new Map<Id, number>()
    const count = Math.max(0, (room.get(userId) ?? 0) + difference)
    if (count > 0) {
      room.set(userId, count)
      tenant.set(channel, room)
      this.#held.set(tenantId, tenant)
      return count
    }
    room.delete(userId)
    if (room.size === 0) tenant.delete(channel)
    if (tenant.size === 0) this.#held.delete(tenantId)
    return 0
  }

  #countOf (tenantId: Id, channel: string, userId: Id): number {
    return this.#held.get(tenantId)?.get(channel)?.get(userId) ?? 0
  }

  #sizeOf (tenantId: Id): number {
    let size = 0
    for (const room of this.#held.get(tenantId)?.values() ?? []) size += room.size
    return size
  }

  * #entries (): Generator<Held, void> {
    for (const [tenantId, tenant] of this.#held) {
      for (const [channel, room] of tenant) for (const userId of room.keys()) yield { tenantId, channel, userId }
    }
  }
}

export function toChange (parse: (id: string) => Id, channel: string, result: ChangeResult): RoomChange | null {
  if (result === '') return null
  const [version, count, isListed, joined, left] = result
  return { channel, version: Number(version), count, joined: isListed === 1 ? joined.map(parse) : null, left: isListed === 1 ? left.map(parse) : null }
}

import type { FastifyBaseLogger } from 'fastify'
import type { MaybePromise } from '../../lib/async/maybe-promise.js'
import type { LocalConnection } from '../../lib/delivery/connection.js'
import type { Joining } from '../../lib/delivery/joining.js'
import { OptionError } from '../../lib/errors.js'
import type { Id } from '../../lib/ids.js'
import type { Internals } from '../../lib/internals.js'
import { channelKey, splitKey, type ChannelKey, type UserRef } from '../../lib/keys.js'
import { isShown, MAX_LISTED, type Room, type RoomChange, type DueChange } from '../../lib/roster/contract.js'
import type { PresenceStatus } from '../../lib/schemas.js'
import { encodeFrame } from '../../lib/wire/protocol.js'
import type { ChannelCount, ChannelMembers, Member, RoomState } from './schemas.js'

/**
 * Whether subscribers of a channel are sent who joins and leaves (`'list'`), the number of members (`'count'`), or neither
 * (`false`). The reply to a subscription has the list and the number in both cases.
 */
export type MembersOption = (channel: string) => 'list' | 'count' | false

/** A page of a channel's members, by user id. */
export interface MembersPage {
  members: Array<Member & { status: PresenceStatus }>
  /** All members, on every page. */
  total: number
  version: number
  next: Id | null
}

const LIST_EVENT = 'channel:members'

/** The rules of members: users are members of a channel from their first subscribed connection to the last, over all nodes. */
export class Members {
  readonly #internals: Internals
  readonly #option: MembersOption | undefined
  readonly #log: FastifyBaseLogger
  /** The channels that each connection has entered. */
  readonly #entered = new WeakMap<LocalConnection, Set<string>>()
  /** Connections of this node in each channel with members. */
  readonly #sizes = new Map<ChannelKey, number>()
  readonly #timers = new Map<ChannelKey, NodeJS.Timeout>()

  constructor (internals: Internals, option: MembersOption | undefined, log: FastifyBaseLogger) {
    if (option !== undefined && typeof option !== 'function') throw new OptionError('members', 'must be a function')
    this.#internals = internals
    this.#option = option
    this.#log = log
    if (option === undefined) return
    internals.channelLeft = (connection, user, channel, delay) => { this.#left(connection, user, channel, delay) }
    internals.bus.on('roomChanged', async ({ tenantId, change }) => { await this.#publish(tenantId, change) })
    // Channels that were requested before the socket opened.
    internals.bus.on('opened', async (connection) => {
      for (const channel of connection.channels) if (this.modeOf(channel) !== false) await this.enter(connection, channel)
    })
  }

  modeOf (channel: string): 'list' | 'count' | false {
    return this.#option === undefined ? false : this.#option(channel)
  }

  /** Sockets of this node in channels with members, for metrics. */
  get size (): number {
    return this.#sizes.size
  }

  /** Records the subscription of a connection. Returns the members for its reply; null for a channel without members. */
  async enter (connection: LocalConnection, channel: string): Promise<RoomState | null> {
    if (this.modeOf(channel) === false || connection.closed) return null
    const { tenantId, userId } = connection.identity
    const entered = this.#entered.get(connection) ?? new Set()
    const { roster } = this.#internals
    let room: Room
    if (entered.has(channel)) {
      const { users, total, version } = await roster.members(tenantId, channel, { limit: MAX_LISTED, after: this.#internals.ids.system })
      room = { count: total, version, users: total > MAX_LISTED ? null : users }
    } else {
      this.#entered.set(connection, entered.add(channel))
      const key = channelKey(tenantId, channel)
      this.#sizes.set(key, (this.#sizes.get(key) ?? 0) + 1)
      const found = await roster.enter(tenantId, channel, userId)
      room = found
      this.#send(tenantId, channel, found, connection.id)
    }
    const { count, version, users } = room
    return { count, version, ...(users === null ? {} : { members: await this.#named(tenantId, users) }) }
  }

  /** Discards frames whose changes are part of the reply. */
  discardOlder (joining: Joining, { version }: RoomState): void {
    joining.discard((payload) => isChange(payload) && (JSON.parse(payload.toString()) as { data: ChannelMembers }).data.version <= version)
  }

  /** A page of the members, by user id. */
  async page (tenantId: Id, channel: string, { limit = 100, cursor = this.#internals.ids.system }: { limit?: number, cursor?: Id }): Promise<MembersPage> {
    const { users, total, version, next } = await this.#internals.roster.members(tenantId, channel, { limit, after: cursor })
    const [members, presences] = await Promise.all([this.#named(tenantId, users), this.#internals.roster.presence(tenantId, users)])
    return {
      members: members.map((member, i) => {
        const status = presences[i]?.status ?? 'online'
        return { ...member, status: isShown(status) ? status : 'offline' }
      }),
      total,
      version,
      next
    }
  }

  /** Members of each channel, and their connections. */
  async sizes (tenantId: Id, channels: readonly string[]): Promise<Array<{ users: number, connections: number } | null>> {
    const known = channels.filter((channel) => this.modeOf(channel) !== false)
    const sizes = known.length === 0 ? [] : await this.#internals.roster.roomSizes(tenantId, known)
    return channels.map((channel) => sizes[known.indexOf(channel)] ?? null)
  }

  /** Makes the subscribers of this node read the members again. */
  async resync (): Promise<void> {
    const { ids, roster, backplane } = this.#internals
    for (const key of this.#sizes.keys()) {
      const { tenantId, channel } = splitKey(key, ids)
      const { total, version } = await roster.members(tenantId, channel, { limit: 0, after: ids.system })
      const payload = this.modeOf(channel) === 'list'
        ? encodeFrame(LIST_EVENT, { channel, joined: [], left: [], count: total, version } satisfies ChannelMembers)
        : encodeFrame('channel:count', { channel, count: total } satisfies ChannelCount)
      backplane.publishLocally(key, { payload, messageId: 0, excludeConnectionId: null, isRetry: false })
    }
  }

  close (): void {
    for (const timer of this.#timers.values()) clearTimeout(timer)
  }

  #left (connection: LocalConnection, { tenantId, userId }: UserRef, channel: string, delay: number): void {
    if (this.#entered.get(connection)?.delete(channel) !== true) return
    const key = channelKey(tenantId, channel)
    const size = (this.#sizes.get(key) ?? 1) - 1
    if (size > 0) this.#sizes.set(key, size)
    else this.#sizes.delete(key)
    this.#follow(tenantId, channel, this.#internals.roster.exit(tenantId, channel, userId, delay))
  }

  #follow (tenantId: Id, channel: string, due: MaybePromise<DueChange>): void {
    void Promise.resolve(due).then((found) => { this.#send(tenantId, channel, found, null) }, (err: unknown) => {
      this.#log.warn({ err, channel }, 'Could not update the members of a channel: the next comparison with this node corrects them')
    })
  }

  /** Sends the change that is due, and schedules the next one. `except`: a connection whose reply contains it. */
  #send (tenantId: Id, channel: string, { change, sendIn }: DueChange, except: string | null): void {
    if (change !== null) this.#publish(tenantId, change, except).catch((err: unknown) => { this.#log.error({ err, channel }, 'Could not send a change of members') })
    const key = channelKey(tenantId, channel)
    if (sendIn === null || this.#timers.has(key)) return
    // Earlier than the sweeper, which runs twice a second and takes over if this node ends.
    this.#timers.set(key, setTimeout(() => {
      this.#timers.delete(key)
      this.#follow(tenantId, channel, this.#internals.roster.collectRoomChange(tenantId, channel))
    }, sendIn + 1).unref())
  }

  async #publish (tenantId: Id, { channel, version, count, joined, left }: RoomChange, except: string | null = null): Promise<void> {
    const mode = this.modeOf(channel)
    if (mode === false) return
    const to = { tenantId, channel, excludeConnectionId: except }
    if (mode === 'count') {
      this.#internals.emit({ ...to, event: 'channel:count', data: { channel, count } satisfies ChannelCount })
    } else if (joined === null || left === null) {
      this.#internals.emit({ ...to, event: LIST_EVENT, data: { channel, count, version } satisfies ChannelMembers })
    } else {
      const data: ChannelMembers = { channel, joined: await this.#named(tenantId, joined), left, count, version }
      // Users are not sent their own joining.
      this.#internals.emit({ ...to, event: LIST_EVENT, data, ...(joined.length === 0 ? {} : { about: joined, withoutSelf: true }) })
    }
  }

  async #named (tenantId: Id, users: Id[]): Promise<Member[]> {
    const names = users.length === 0 ? [] : await this.#internals.directory.names(tenantId, users)
    return users.map((userId, i) => ({ userId, name: names[i] ?? null }))
  }
}

const OPENING = Buffer.from(`{"event":"${LIST_EVENT}"`)
const isChange = (payload: Buffer): boolean => payload.subarray(0, OPENING.length).equals(OPENING)

import type { MaybePromise } from '../../lib/async/maybe-promise.js'
import { PRESENCE_CHANNEL } from '../../lib/channel-names.js'
import { toIso } from '../../lib/clock.js'
import type { Caller } from '../../lib/identity.js'
import type { Id } from '../../lib/ids.js'
import type { Internals } from '../../lib/internals.js'
import type { Presence } from '../../lib/roster/contract.js'
import type { Device, PresenceStatus } from '../../lib/schemas.js'
import { displayStatus, displayStatusValidUntil } from './display-status.js'
import { OnlinePageCache } from './online-page-cache.js'
import type { OnlineUsers, PresenceAck, PresenceChanged, UserEdge, UserPresence } from './schemas.js'
import type { PresenceStore } from './store.js'

/** What a user sets. */
export interface Update { status: PresenceStatus, device?: Device | undefined, lastMessage?: string | null | undefined }

/** A page of the online list: at most `limit` users (100), with ids after `cursor`. */
export interface PageQuery { limit?: number, cursor?: Id }

/** The rules of presence: who is online, away or busy, and the events that say so. */
export class PresenceRules {
  readonly #internals: Internals
  readonly #store: PresenceStore
  readonly #pages = new OnlinePageCache()

  constructor (internals: Internals, store: PresenceStore) {
    this.#internals = internals
    this.#store = store
    internals.defaultChannels.add(PRESENCE_CHANNEL)
    internals.bus.on('online', ({ tenantId, userId, connectionId }) => {
      this.#emitEdge('user:online', tenantId, userId, connectionId)
      void this.#writeOnline(tenantId, userId)
    })
    internals.bus.on('offline', ({ tenantId, userId, presence }) => {
      this.#emitEdge('user:offline', tenantId, userId, null)
      if (presence !== null) this.#store.put({ tenantId, userId, ...presence, status: 'offline' })
    })
  }

  /** Sets the caller's status, and sends it to the tenant. */
  async update ({ identity }: Caller, { status, device, lastMessage }: Update): Promise<PresenceAck> {
    const { tenantId, userId } = identity
    const now = this.#internals.clock.now()
    const [before] = await this.#internals.roster.presence(tenantId, [userId])
    const presence: Presence = {
      status,
      device: device ?? before?.device ?? 'web',
      lastMessage: lastMessage ?? null,
      // Repeating `away` does not start it anew.
      awaySince: status === 'away' ? (before?.status === 'away' ? before.awaySince : null) ?? now : null,
      seenAt: now
    }
    const { isFirstOfUser } = await this.#internals.roster.setPresence(tenantId, userId, presence)
    if (isFirstOfUser) this.#internals.bus.emit('online', { tenantId, userId, connectionId: null })
    this.#store.put({ tenantId, userId, ...presence })
    const timestamp = toIso(now)
    const changed: PresenceChanged = { userId, status, device: presence.device, lastMessage: presence.lastMessage, timestamp }
    this.#emit('user:presence', tenantId, userId, changed)
    this.#internals.bus.emit('presence', { tenantId, userId, presence })
    return { status, device: presence.device, updatedAt: timestamp }
  }

  /** The presence of these users, in the order given; for users who are offline, when and where they were last seen. */
  async of (tenantId: Id, userIds: Id[]): Promise<UserPresence[]> {
    const now = this.#internals.clock.now()
    const live = await this.#internals.roster.presence(tenantId, userIds)
    const away = await this.#store.lastSeen(tenantId, userIds.filter((_, i) => live[i] === null))
    return userIds.map((userId, i) => {
      const presence = live[i] ?? null
      const last = presence ?? away.get(userId) ?? null
      return {
        user_id: userId,
        status: presence?.status ?? 'offline',
        device: last?.device ?? null,
        display_status: displayStatus(presence, now, { withDevice: true }),
        last_seen_at: last === null ? null : toIso(last.seenAt)
      }
    })
  }

  /** A page of the online users, by user id. */
  async online (tenantId: Id, page: PageQuery): Promise<OnlineUsers> {
    return (await this.#online(tenantId, page)).online
  }

  /** The same page as JSON. Synchronously from a cache while the page is unchanged (bench row "REST: online list"). */
  onlineBytes (tenantId: Id, page: PageQuery): MaybePromise<Buffer> {
    const key = `${tenantId}/${page.limit}/${page.cursor}`
    const version = this.#internals.roster.version(tenantId)
    const kept = version === null ? null : this.#pages.find(key, version, this.#internals.clock.now())
    if (kept !== null) return kept
    return this.#online(tenantId, page).then(({ online, until }) => {
      const bytes = Buffer.from(JSON.stringify(online))
      if (version !== null) this.#pages.keep(key, { bytes, version, until }, this.#internals.clock.now())
      return bytes
    })
  }

  async #online (tenantId: Id, { limit = 100, cursor = this.#internals.ids.system }: PageQuery): Promise<{ online: OnlineUsers, until: number }> {
    const now = this.#internals.clock.now()
    const { users, total, next } = await this.#internals.roster.online(tenantId, { limit, after: cursor })
    const { names, until } = await this.#internals.directory.namesWithExpiry(tenantId, users.map(({ userId }) => userId))
    const online = {
      data: users.map(({ userId, presence }, i) => ({
        user_id: userId,
        name: names[i] ?? null,
        status: presence.status,
        device: presence.device,
        display_status: displayStatus(presence, now, { withDevice: false })
      })),
      total,
      next_cursor: next
    }
    return { online, until: users.reduce((until, { presence }) => Math.min(until, displayStatusValidUntil(presence, now)), until) }
  }

  #emitEdge (event: 'user:online' | 'user:offline', tenantId: Id, userId: Id, excludeConnectionId: string | null): void {
    const data: UserEdge = { userId, status: event === 'user:online' ? 'online' : 'offline', timestamp: toIso(this.#internals.clock.now()) }
    this.#emit(event, tenantId, userId, data, excludeConnectionId)
  }

  #emit (event: string, tenantId: Id, userId: Id, data: Record<string, unknown>, excludeConnectionId: string | null = null): void {
    this.#internals.emit({ tenantId, channel: PRESENCE_CHANNEL, event, data, excludeConnectionId })
    this.#internals.eventLog.audit({ tenantId, userId, type: event, channel: PRESENCE_CHANNEL, data })
  }

  async #writeOnline (tenantId: Id, userId: Id): Promise<void> {
    let presence: Presence | null | undefined
    try {
      [presence] = await this.#internals.roster.presence(tenantId, [userId])
    } catch {} // Redis is away: the next update writes the row
    // Null: they went offline meanwhile, and the `offline` listener has written the row.
    if (presence !== undefined && presence !== null) this.#store.put({ tenantId, userId, ...presence })
  }
}

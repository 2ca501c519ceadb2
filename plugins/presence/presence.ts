import { PRESENCE_CHANNEL } from '../../lib/channels.js'
import { toIso } from '../../lib/clock.js'
import type { Realtime } from '../../lib/core.js'
import type { Maybe } from '../../lib/maybe.js'
import type { Caller } from '../../lib/identity.js'
import type { Rate } from '../../lib/limits.js'
import { rateKey } from '../../lib/rest.js'
import type { Presence } from '../../lib/roster/contract.js'
import type { Device, PresenceStatus } from '../../lib/schemas.js'
import { displayStatus, wordsUntil } from './display-status.js'
import { Pages } from './pages.js'
import type { OnlineUsers, PresenceAck, PresenceChanged, UserEdge, UserPresence } from './schemas.js'
import type { PresenceStore } from './store.js'

/** The key under which a user's updates are counted, REST and frames together. */
export const RATE_KIND = 'presence'

/** What a user says about themselves. */
export interface Update { status: PresenceStatus, device?: Device | undefined, lastMessage?: string | null | undefined }

/** Which part of the online list: 100 users unless it says more, after this user id. */
export interface PageQuery { limit?: number, cursor?: number }

/** The rules of presence: who is online, away, busy; who is told. */
export class PresenceRules {
  readonly #realtime: Realtime
  readonly #store: PresenceStore
  readonly #rate: Rate
  readonly #pages = new Pages()

  constructor (realtime: Realtime, store: PresenceStore, rate: Rate) {
    this.#realtime = realtime
    this.#store = store
    this.#rate = rate
    realtime.automaticChannels.add(PRESENCE_CHANNEL)
    realtime.events.on('online', ({ tenantId, userId, connectionId }) => {
      this.#tellEdge('online', tenantId, userId, connectionId)
      void this.#writeOnline(tenantId, userId)
    })
    realtime.events.on('offline', ({ tenantId, userId, presence }) => {
      this.#tellEdge('offline', tenantId, userId, null)
      if (presence !== null) this.#store.put({ tenantId, userId, ...presence, status: 'offline' })
    })
  }

  /** A frame's sign counts against the same rate as a request's. Throws `RT_RATE_LIMITED`. */
  async count ({ identity }: Caller): Promise<void> {
    await this.#realtime.rates.take(rateKey(RATE_KIND, identity), this.#rate)
  }

  /** Sets the caller's status, and tells the tenant. */
  async update ({ identity }: Caller, { status, device, lastMessage }: Update, fallback: Device): Promise<PresenceAck> {
    const { tenantId, userId } = identity
    const now = this.#realtime.clock.now()
    const [before] = await this.#realtime.roster.presence(tenantId, [userId])
    const presence: Presence = {
      status,
      device: device ?? before?.device ?? fallback,
      lastMessage: lastMessage ?? null,
      // Repeating `away` does not start it anew.
      awaySince: status === 'away' ? (before?.status === 'away' ? before.awaySince : null) ?? now : null,
      seenAt: now
    }
    const { first } = await this.#realtime.roster.setPresence(tenantId, userId, presence)
    if (first) this.#realtime.events.emit('online', { tenantId, userId, connectionId: null })
    this.#store.put({ tenantId, userId, ...presence })
    const timestamp = toIso(now)
    const changed: PresenceChanged = { userId, status, device: presence.device, lastMessage: presence.lastMessage, timestamp }
    this.#tell('user:presence', tenantId, userId, changed)
    this.#realtime.events.emit('presence', { tenantId, userId, presence })
    return { status, device: presence.device, updatedAt: timestamp }
  }

  /** Of these users, in their order; those who are not online with what is known from before. */
  async of (tenantId: number, userIds: number[]): Promise<UserPresence[]> {
    const now = this.#realtime.clock.now()
    const live = await this.#realtime.roster.presence(tenantId, userIds)
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

  /** A page of who is online. */
  async online (tenantId: number, page: PageQuery): Promise<OnlineUsers> {
    return (await this.#online(tenantId, page)).online
  }

  /** The same as it is sent: the same bytes again, at once, while everything in them is still so. */
  onlineBytes (tenantId: number, page: PageQuery): Maybe<Buffer> {
    const key = `${tenantId}/${page.limit}/${page.cursor}`
    const version = this.#realtime.roster.version(tenantId)
    const kept = version === null ? null : this.#pages.find(key, version, this.#realtime.clock.now())
    if (kept !== null) return kept
    return this.#online(tenantId, page).then(({ online, until }) => {
      const bytes = Buffer.from(JSON.stringify(online))
      if (version !== null) this.#pages.keep(key, { bytes, version, until }, this.#realtime.clock.now())
      return bytes
    })
  }

  async #online (tenantId: number, { limit = 100, cursor = 0 }: PageQuery): Promise<{ online: OnlineUsers, until: number }> {
    const now = this.#realtime.clock.now()
    const { users, total, next } = await this.#realtime.roster.online(tenantId, { limit, after: cursor })
    const { names, until } = await this.#realtime.directory.look(tenantId, users.map(({ userId }) => userId))
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
    return { online, until: users.reduce((until, { presence }) => Math.min(until, wordsUntil(presence, now)), until) }
  }

  #tellEdge (status: 'online' | 'offline', tenantId: number, userId: number, except: string | null): void {
    const data: UserEdge = { userId, status, timestamp: toIso(this.#realtime.clock.now()) }
    this.#tell(`user:${status}`, tenantId, userId, data, except)
  }

  #tell (event: string, tenantId: number, userId: number, data: Record<string, unknown>, except: string | null = null): void {
    this.#realtime.tell({ tenantId, channel: PRESENCE_CHANNEL, event, data, except })
    this.#realtime.eventLog.audit({ tenantId, userId, type: event, channel: PRESENCE_CHANNEL, data })
  }

  async #writeOnline (tenantId: number, userId: number): Promise<void> {
    let presence: Presence | null | undefined
    try {
      [presence] = await this.#realtime.roster.presence(tenantId, [userId])
    } catch {} // the roster is away
    // Told offline and settled meanwhile: the row has its end by that.
    if (presence !== undefined && presence !== null) this.#store.put({ tenantId, userId, ...presence })
  }
}

import type { MaybePromise } from '../../lib/async/maybe-promise.js'
import { PRESENCE_CHANNEL } from '../../lib/channel-names.js'
import { toIso } from '../../lib/clock.js'
import { RealtimeError } from '../../lib/errors.js'
import type { Caller } from '../../lib/identity.js'
import type { Id } from '../../lib/ids.js'
import type { Internals } from '../../lib/internals.js'
import { isShown, type Presence } from '../../lib/roster/contract.js'
import type { Device, PresenceStatus } from '../../lib/schemas.js'
import { parsed, type Announcer } from './announcer.js'
import { displayStatus, displayStatusValidUntil } from './display-status.js'
import { OnlinePageCache } from './online-page-cache.js'
import type { OnlineUsers, PresenceAck, UserPresence } from './schemas.js'
import type { PresenceStore } from './store.js'
import type { Visibility } from './visibility.js'

/** A status update. */
export interface Update {
  status: PresenceStatus
  device?: Device | undefined
  lastMessage?: string | null | undefined
  data?: object | null | undefined
}

/** A page of the online list: at most `limit` users (100), with ids after `cursor`. */
export interface PageQuery { limit?: number, cursor?: Id }

/** A user as seen by another user, or by the user. */
export interface SeenUser {
  userId: Id
  status: PresenceStatus
  device: Device | null
  lastMessage: string | null
  data: Record<string, unknown> | null
  displayStatus: string
  lastSeenAt: string | null
}

/** Maximum bytes of `data` as JSON. */
const MAX_DATA = 1024

/** The rules of presence: who is online, away, busy or invisible, and who sees it. */
export class PresenceRules {
  readonly #internals: Internals
  readonly #store: PresenceStore
  readonly #announcer: Announcer
  readonly #visibility: Visibility
  readonly #pages = new OnlinePageCache()

  constructor (internals: Internals, store: PresenceStore, announcer: Announcer, visibility: Visibility) {
    this.#internals = internals
    this.#store = store
    this.#announcer = announcer
    this.#visibility = visibility
    internals.defaultChannels.add(PRESENCE_CHANNEL)
    internals.bus.on('online', ({ tenantId, userId, connectionId, presence }) => {
      if (presence === null) void this.#findOnline(tenantId, userId, connectionId)
      else this.#cameOnline(tenantId, userId, connectionId, presence)
    })
    internals.bus.on('appeared', ({ tenantId, userId, connectionId }) => { announcer.edge('user:online', tenantId, userId, { connectionId }) })
    internals.bus.on('offline', ({ tenantId, userId, presence }) => {
      // Others were sent `user:offline` when the user hid.
      if (presence !== null && !isShown(presence.status)) return
      announcer.edge('user:offline', tenantId, userId)
      if (presence !== null) this.#store.put({ tenantId, userId, ...presence, status: 'offline' })
    })
  }

  /** Sets the caller's status, and sends it to users who may see it. Rejects with `RT_INVALID_DATA` if `data` is too large. */
  async update ({ identity }: Caller, update: Update): Promise<PresenceAck> {
    const { tenantId, userId } = identity
    const { status } = update
    const now = this.#internals.clock.now()
    const [before = null] = await this.#internals.roster.presence(tenantId, [userId])
    const statusBefore = before?.status ?? await this.#statusOfAbsent(tenantId, userId)
    const presence: Presence = {
      status,
      device: update.device ?? before?.device ?? 'web',
      lastMessage: update.lastMessage ?? null,
      data: encoded(update.data),
      // Repeating `away` does not change its start.
      awaySince: status === 'away' ? (before?.status === 'away' ? before.awaySince : null) ?? now : null,
      hiddenSince: isShown(status) ? null : await this.#hiddenSince(tenantId, userId, before, now),
      seenAt: now
    }
    if (status === 'invisible' && statusBefore !== 'invisible') await this.#store.hide(tenantId, userId, presence.hiddenSince ?? now)
    if (status !== 'invisible' && statusBefore === 'invisible') await this.#store.unhide(tenantId, userId)
    const { isFirstOfUser, edge } = await this.#internals.roster.setPresence(tenantId, userId, presence)
    if (isFirstOfUser) this.#internals.bus.emit('online', { tenantId, userId, connectionId: null, presence })
    else if (edge === 'appeared') this.#announcer.edge('user:online', tenantId, userId)
    if (isShown(status)) {
      this.#store.put({ tenantId, userId, ...presence })
      const saysMore = status !== 'online' || presence.lastMessage !== null || presence.data !== null
      if (saysMore || statusBefore === null || isShown(statusBefore)) this.#announcer.changed(tenantId, userId, presence)
    } else {
      if (before !== null && isShown(before.status)) this.#store.put({ tenantId, userId, ...presence, status: 'offline', lastMessage: null })
      if (edge === 'vanished') this.#announcer.edge('user:offline', tenantId, userId, 'own')
      this.#announcer.changedPrivately(tenantId, userId, presence)
    }
    this.#internals.bus.emit('presence', { tenantId, userId, presence })
    return { status, device: presence.device, updatedAt: toIso(now) }
  }

  /** Users without a connection may be invisible. Null: they are offline. */
  async #statusOfAbsent (tenantId: Id, userId: Id): Promise<PresenceStatus | null> {
    const { status } = await this.#internals.roster.standing(tenantId, userId)
    return status === 'invisible' ? status : null
  }

  /** When others saw the user last; 0: never. A user who is offline already is not seen now. */
  async #hiddenSince (tenantId: Id, userId: Id, before: Presence | null, now: number): Promise<number> {
    if (before !== null) return isShown(before.status) ? now : before.hiddenSince ?? now
    return (await this.#store.lastSeen(tenantId, [userId])).get(userId)?.seenAt ?? 0
  }

  /**
   * The presence of these users as the caller sees it, in the order given; `null` is host code. For users who are offline, when
   * and where they were last seen.
   */
  async of (tenantId: Id, userIds: Id[], caller: Caller | null): Promise<SeenUser[]> {
    const now = this.#internals.clock.now()
    const visible = await this.#visibility.among(caller, userIds)
    const live = await this.#internals.roster.presence(tenantId, userIds)
    const shown = userIds.map((userId, i) => {
      const presence = live[i] ?? null
      return presence === null || userId === caller?.identity.userId || isShown(presence.status) ? presence : null
    })
    const away = await this.#store.lastSeen(tenantId, userIds.filter((id, i) => shown[i] === null && visible?.has(id) !== false))
    return userIds.map((userId, i) => {
      if (visible?.has(userId) === false) return unseen(userId)
      const presence = shown[i] ?? null
      const last = presence ?? away.get(userId) ?? null
      // If the row is not written yet.
      const hidden = presence === null ? live[i] ?? null : presence
      const seenAt = hidden?.hiddenSince ?? last?.seenAt ?? 0
      return {
        userId,
        status: presence?.status ?? 'offline',
        device: last?.device ?? (seenAt === 0 ? null : hidden?.device) ?? null,
        lastMessage: presence?.lastMessage ?? null,
        data: parsed(presence?.data ?? null),
        displayStatus: displayStatus(presence, now, { withDevice: true }),
        lastSeenAt: seenAt === 0 ? null : toIso(seenAt)
      }
    })
  }

  /** The same, with the names of REST. */
  async rows (tenantId: Id, userIds: Id[], caller: Caller | null): Promise<UserPresence[]> {
    return (await this.of(tenantId, userIds, caller)).map(({ userId, lastMessage, displayStatus, lastSeenAt, ...user }) =>
      ({ user_id: userId, ...user, last_message: lastMessage, display_status: displayStatus, last_seen_at: lastSeenAt }))
  }

  /** A page of the online users, by user id. Leaves out users whom the caller may not see; they count in `total`. */
  async online (tenantId: Id, page: PageQuery, caller: Caller | null = null): Promise<OnlineUsers> {
    const { online } = await this.#online(tenantId, page)
    const visible = await this.#visibility.among(caller, online.data.map(({ user_id: id }) => id))
    return visible === null ? online : { ...online, data: online.data.filter(({ user_id: id }) => visible.has(id)) }
  }

  /** The same page as JSON. Synchronously from a cache while the page is unchanged (bench row "REST: online list"). */
  onlineBytes (caller: Caller, page: PageQuery): MaybePromise<Buffer> {
    const { tenantId } = caller.identity
    if (this.#visibility.isLimited) return this.online(tenantId, page, caller).then(toBytes)
    const key = `${tenantId}/${page.limit}/${page.cursor}`
    const version = this.#internals.roster.version(tenantId)
    const kept = version === null ? null : this.#pages.find(key, version, this.#internals.clock.now())
    if (kept !== null) return kept
    return this.#online(tenantId, page).then(({ online, until }) => {
      const bytes = toBytes(online)
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
        last_message: presence.lastMessage,
        data: parsed(presence.data),
        display_status: displayStatus(presence, now, { withDevice: false })
      })),
      total,
      next_cursor: next
    }
    return { online, until: users.reduce((until, { presence }) => Math.min(until, displayStatusValidUntil(presence, now)), until) }
  }

  /** `connectionId`: the one that is not sent `user:online`. */
  #cameOnline (tenantId: Id, userId: Id, connectionId: string | null, presence: Presence): void {
    if (!isShown(presence.status)) return
    this.#announcer.edge('user:online', tenantId, userId, { connectionId })
    this.#store.put({ tenantId, userId, ...presence })
  }

  async #findOnline (tenantId: Id, userId: Id, connectionId: string | null): Promise<void> {
    let presence: Presence | null = null
    try {
      [presence = null] = await this.#internals.roster.presence(tenantId, [userId])
    } catch {
      // Redis is away: the next update writes the row. Only the table knows whether others may see the user.
      if (await this.#store.isInvisible(tenantId, userId).catch(() => true)) return
    }
    if (presence === null) {
      // No row is written: they went offline meanwhile, which the `offline` listener has written, or it is not known.
      this.#announcer.edge('user:online', tenantId, userId, { connectionId })
    } else {
      this.#cameOnline(tenantId, userId, connectionId, presence)
    }
  }
}

const unseen = (userId: Id): SeenUser =>
  ({ userId, status: 'offline', device: null, lastMessage: null, data: null, displayStatus: 'Offline', lastSeenAt: null })

const toBytes = (online: OnlineUsers): Buffer => Buffer.from(JSON.stringify(online))

function encoded (data: object | null | undefined): string | null {
  if (data === null || data === undefined) return null
  const text = JSON.stringify(data)
  if (Buffer.byteLength(text) <= MAX_DATA) return text
  throw new RealtimeError('RT_INVALID_DATA', `data must not be longer than ${MAX_DATA} bytes as JSON`)
}

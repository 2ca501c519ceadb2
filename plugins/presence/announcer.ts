import { PRESENCE_CHANNEL, privateChannel, watchChannel } from '../../lib/channel-names.js'
import { toIso } from '../../lib/clock.js'
import type { Id } from '../../lib/ids.js'
import type { EphemeralEvent, Internals } from '../../lib/internals.js'
import type { InternalEvents } from '../../lib/lifecycle/events.js'
import type { Presence } from '../../lib/roster/contract.js'
import type { PresenceChanged, PresenceCount, PresenceMode, UserEdge } from './schemas.js'

const NOBODY = { connectionId: null }

type Changed = Pick<Presence, 'status' | 'device' | 'lastMessage' | 'data' | 'seenAt'>

/** Sends the frames of presence, to everyone in the tenant or to the watchers of the user. */
export class Announcer {
  readonly #internals: Internals

  constructor (internals: Internals) {
    this.#internals = internals
    internals.bus.on('counted', (counted) => { this.#counted(counted) })
  }

  /** `except`: the connection that does not get it; `'own'`: none of the user's own, which have the real status. */
  edge (event: 'user:online' | 'user:offline', tenantId: Id, userId: Id, except: { connectionId: string | null } | 'own' = NOBODY): void {
    const data: UserEdge = { userId, status: event === 'user:online' ? 'online' : 'offline', timestamp: this.#now }
    this.#emit(event, tenantId, userId, data, except === 'own' ? { withoutSelf: true } : { excludeConnectionId: except.connectionId })
  }

  changed (tenantId: Id, userId: Id, presence: Changed): void {
    this.#emit('user:presence', tenantId, userId, this.#changedData(userId, presence))
  }

  /** A status that others must not see, for the user's own connections. */
  changedPrivately (tenantId: Id, userId: Id, presence: Changed): void {
    this.#internals.emit({ tenantId, channel: privateChannel(userId), event: 'user:presence', data: this.#changedData(userId, presence) })
  }

  #changedData (userId: Id, { status, device, lastMessage, data, seenAt }: Changed): PresenceChanged {
    // As in the reply to the update.
    return { userId, status, device, lastMessage, data: parsed(data), timestamp: toIso(seenAt) }
  }

  #counted ({ tenantId, announce, everyone, online }: InternalEvents['counted'][0]): void {
    const data: PresenceMode | PresenceCount = announce === 'mode' ? { everyone, online } : { online, timestamp: this.#now }
    this.#internals.emit({ tenantId, channel: PRESENCE_CHANNEL, event: `presence:${announce}`, data })
  }

  #emit (event: string, tenantId: Id, userId: Id, data: Record<string, unknown>, except: Pick<EphemeralEvent, 'excludeConnectionId' | 'withoutSelf'> = {}): void {
    const channel = this.#internals.roster.sendsToEveryone(tenantId) ? PRESENCE_CHANNEL : watchChannel(userId)
    this.#internals.emit({ tenantId, channel, event, data, about: [userId], ...except })
    this.#internals.eventLog.audit({ tenantId, userId, type: event, channel: PRESENCE_CHANNEL, data })
  }

  get #now (): string {
    return toIso(this.#internals.clock.now())
  }
}

export const parsed = (data: string | null): Record<string, unknown> | null => data === null ? null : JSON.parse(data) as Record<string, unknown>

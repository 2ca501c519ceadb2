import { toIso } from '../../lib/clock.js'
import type { LocalConnection } from '../../lib/delivery/connection.js'
import { errorData, toRealtimeError } from '../../lib/errors.js'
import type { Caller } from '../../lib/identity.js'
import type { Id } from '../../lib/ids.js'
import type { Internals } from '../../lib/internals.js'
import { encodeFrame } from '../../lib/wire/protocol.js'
import { markOf, missed, toWatched } from './missed.js'
import type { PresenceRules } from './presence.js'
import type { WatchedUser } from './schemas.js'

/** A watch that has begun: the data of the reply, and a function to call after it. */
export interface Watched { users: WatchedUser[], afterReply: () => void }

/**
 * Watches of connections whose sockets are not open yet. The roster stores them, with a mark of the state that the response had
 * of each user; when the socket opens, it is sent the changes since then.
 */
export class EarlyWatches {
  readonly #internals: Internals
  readonly #presence: PresenceRules
  readonly #max: number

  constructor (internals: Internals, presence: PresenceRules, max: number) {
    this.#internals = internals
    this.#presence = presence
    this.#max = max
  }

  /** Null if the limit would be exceeded. */
  async add (caller: Caller, connectionId: string, userIds: readonly Id[]): Promise<WatchedUser[] | null> {
    const { tenantId } = caller.identity
    const users = await this.#presence.of(tenantId, [...new Set(userIds)], caller)
    const watches = users.map((user) => ({ userId: user.userId, said: markOf(user) }))
    if (!await this.#internals.roster.recordWatches(tenantId, connectionId, watches, this.#max)) return null
    const byId = new Map(users.map((user) => [user.userId, toWatched(user)]))
    return userIds.flatMap((id) => byId.get(id) ?? [])
  }

  /** Returns the number of remaining ones. */
  async remove ({ identity: { tenantId } }: Caller, connectionId: string, userIds: readonly Id[] | null): Promise<number> {
    return await this.#internals.roster.dropWatches(tenantId, connectionId, userIds)
  }

  /** Begins the watches of a connection that opens. Resolves with a function to call after the first reply. Never rejects. */
  async begin (connection: LocalConnection, watch: (userIds: Id[]) => Promise<Watched>): Promise<() => void> {
    const { roster, clock } = this.#internals
    try {
      const watches = await roster.takeWatches(connection.identity.tenantId, connection.id)
      if (watches.length === 0) return () => {}
      const said = new Map(watches.map((one) => [one.userId, one.said]))
      const { users, afterReply } = await watch([...said.keys()])
      return () => {
        const now = toIso(clock.now())
        for (const user of users) for (const frame of missed(said.get(user.userId) ?? '', user, now)) connection.send(frame)
        afterReply()
      }
    } catch (err) {
      // The client has to watch again.
      return () => { connection.send(encodeFrame('error', errorData(toRealtimeError(err)))) }
    }
  }
}

import { Type, type Static } from '@sinclair/typebox'
import { checkedData } from '../../lib/backplane/rpc-data.js'
import { watchChannel, watchedUser } from '../../lib/channel-names.js'
import { toIso } from '../../lib/clock.js'
import type { LocalConnection } from '../../lib/delivery/connection.js'
import type { Joining } from '../../lib/delivery/joining.js'
import { RealtimeError } from '../../lib/errors.js'
import type { FrameContext, FrameResult } from '../../lib/frame-router.js'
import type { Caller, Identity } from '../../lib/identity.js'
import { Id as IdSchema, withIds } from '../../lib/id-schemas.js'
import type { Id } from '../../lib/ids.js'
import type { Internals } from '../../lib/internals.js'
import { connectionKey, splitKey } from '../../lib/keys.js'
import { ownedConnection } from '../../lib/plugin-kit/owned-connection.js'
import { encodeFrame } from '../../lib/wire/protocol.js'
import { EarlyWatches, type Watched } from './early-watches.js'
import { changed, missedSince, toWatched } from './missed.js'
import type { PresenceRules, SeenUser } from './presence.js'
import type { UserEdge, WatchAck, WatchedUser } from './schemas.js'
import type { Visibility } from './visibility.js'

/** `userIds`: null for all. */
const RemoteWatch = Type.Object({ tenantId: IdSchema, connectionId: Type.String(), userIds: Type.Union([Type.Array(IdSchema), Type.Null()]) })
type RemoteWatch = Static<typeof RemoteWatch>

/** Users read at once after an outage. */
const BATCH = 500

/** The rules of watching: connections that are sent the changes of certain users, however large the tenant is. */
export class Watching {
  readonly #internals: Internals
  readonly #presence: PresenceRules
  readonly #visibility: Visibility
  readonly #max: number
  readonly #early: EarlyWatches
  /** Watched users whom their watcher may not see. */
  readonly #unseen = new WeakMap<LocalConnection, Set<Id>>()

  constructor (internals: Internals, presence: PresenceRules, visibility: Visibility, max: number) {
    this.#internals = internals
    this.#presence = presence
    this.#visibility = visibility
    this.#max = max
    this.#early = new EarlyWatches(internals, presence, max)
    internals.beginWatches = async (connection) => await this.#early.begin(connection, async (userIds) => await this.#watch(connection, userIds))
    const remote = withIds(RemoteWatch, internals.ids.kind)
    internals.rpc.handle('presence.watch', async (data) => {
      const { userIds, ...ref } = checkedData(remote, data)
      return await this.#onLocal(ref, async (connection) => {
        const { users, afterReply } = await this.#watch(connection, userIds ?? [])
        afterReply()
        return users
      })
    })
    internals.rpc.handle('presence.unwatch', async (data) => {
      const { userIds, ...ref } = checkedData(remote, data)
      return await this.#onLocal(ref, async (connection) => this.#unwatch(connection, userIds))
    })
    internals.accessLog.on('recheck', async ({ tenantId, userId, channel }) => {
      if (channel !== null || !visibility.isLimited) return { connections: 0, complete: true }
      const concerned = [...internals.localConnections.values()].filter((one) => !one.closed && one.hidden.size > 0 &&
        one.identity.tenantId === tenantId && (userId === null || one.identity.userId === userId))
      const outcomes = await Promise.allSettled(concerned.map(async (connection) => { await connection.runInOrder(async () => { await this.#recheck(connection) }) }))
      return { connections: concerned.length, complete: outcomes.every(({ status }) => status === 'fulfilled') }
    })
  }

  /** Handles the frame. Throws `RT_LIMIT_EXCEEDED`, `RT_UNAVAILABLE`, `RT_STORAGE_UNAVAILABLE`. */
  async watch ({ connection }: FrameContext, userIds: readonly Id[]): Promise<FrameResult<WatchAck>> {
    const { users, afterReply } = await this.#watch(connection, userIds)
    return { ack: { users }, afterReply }
  }

  unwatch ({ connection }: FrameContext, userIds: readonly Id[] | undefined): FrameResult<{ watching: number }> {
    return { ack: { watching: this.#unwatch(connection, userIds ?? null) } }
  }

  /** By REST, on the node that has the socket, or for a socket that opens later. Also throws `RT_NOT_FOUND`, `RT_FORBIDDEN`. */
  async watchFor (caller: Caller, connectionId: string, userIds: Id[]): Promise<WatchedUser[]> {
    return await this.#byRest(caller, connectionId, async () => await this.#early.add(caller, connectionId, userIds) ?? this.#full(), 'presence.watch', userIds) as WatchedUser[]
  }

  /** Returns the number of users that are still watched. */
  async unwatchFor (caller: Caller, connectionId: string, userIds: Id[] | undefined): Promise<number> {
    const these = userIds ?? null
    return await this.#byRest(caller, connectionId, async () => await this.#early.remove(caller, connectionId, these), 'presence.unwatch', these) as number
  }

  /** Sends the changes that were missed while this node received nothing from other nodes. */
  async resync (): Promise<void> {
    const byTenant = new Map<Id, Array<{ userId: Id, latest: Buffer | null, key: Parameters<Internals['backplane']['publishLocally']>[0] }>>()
    for (const { key, latest } of this.#internals.hub.watched) {
      const { tenantId, channel } = splitKey(key, this.#internals.ids)
      const userId = watchedUser(channel, this.#internals.ids)
      if (userId === null) continue
      byTenant.set(tenantId, [...byTenant.get(tenantId) ?? [], { userId, latest, key }])
    }
    for (const [tenantId, watched] of byTenant) {
      for (let at = 0; at < watched.length; at += BATCH) {
        const some = watched.slice(at, at + BATCH)
        const users = await this.#presence.of(tenantId, some.map(({ userId }) => userId), null)
        some.forEach(({ latest, key }, i) => {
          const user = users[i]
          if (user === undefined) return
          for (const payload of missedSince(latest, user, toIso(this.#internals.clock.now()))) {
            this.#internals.backplane.publishLocally(key, { payload, messageId: 0, excludeConnectionId: null, isRetry: false, about: String(user.userId), withoutSelf: true })
          }
        })
      }
    }
  }

  async #watch (connection: LocalConnection, userIds: readonly Id[]): Promise<Watched> {
    const { identity } = connection
    const ids = [...new Set(userIds)]
    const unseen = this.#unseen.get(connection) ?? new Set()
    const added = ids.filter((id) => !connection.hidden.has(watchChannel(id)) && !unseen.has(id))
    if (this.#watching(connection) + added.length > this.#max) this.#full()
    const caller: Caller = { identity, connectionId: connection.id, owner: connection }
    const visible = await this.#visibility.among(caller, ids)
    const seen = ids.filter((id) => visible?.has(id) !== false)
    // Join before reading: changes in between follow the reply.
    const joinings: Joining[] = await Promise.all(seen.map(async (id) => await connection.join(watchChannel(id))))
    const afterReply = (): void => { for (const joining of joinings) connection.begin(joining) }
    try {
      const users = await this.#presence.of(identity.tenantId, ids, caller)
      for (const user of users) if (visible?.has(user.userId) !== false) this.#note(identity, user)
      const blocked = ids.filter((id) => visible?.has(id) === false)
      if (blocked.length > 0) this.#unseen.set(connection, new Set([...unseen, ...blocked]))
      const byId = new Map(users.map((user) => [user.userId, toWatched(user)]))
      return { users: userIds.flatMap((id) => byId.get(id) ?? []), afterReply }
    } catch (err) {
      afterReply()
      for (const id of added) connection.leave(watchChannel(id))
      throw err
    }
  }

  /** Records the state of a user, as a `user:presence` frame, for `resync`; as others see it. */
  #note ({ tenantId, userId }: Identity, user: SeenUser): void {
    if (user.userId !== userId) this.#internals.hub.noteLatest(tenantId, user.userId, changed(user, ''))
  }

  #unwatch (connection: LocalConnection, userIds: readonly Id[] | null): number {
    const channels = userIds === null ? [...connection.hidden] : userIds.map(watchChannel)
    for (const channel of channels) connection.leave(channel)
    const unseen = this.#unseen.get(connection)
    if (userIds === null) unseen?.clear()
    else for (const id of userIds) unseen?.delete(id)
    return this.#watching(connection)
  }

  #watching (connection: LocalConnection): number {
    return connection.hidden.size + (this.#unseen.get(connection)?.size ?? 0)
  }

  /** Users who are no longer visible look offline from now on. */
  async #recheck (connection: LocalConnection): Promise<void> {
    const { identity } = connection
    const ids = [...connection.hidden].flatMap((channel) => watchedUser(channel, this.#internals.ids) ?? [])
    const visible = await this.#visibility.among({ identity, connectionId: connection.id, owner: connection }, ids, { fresh: true })
    const gone = ids.filter((id) => visible?.has(id) === false)
    if (gone.length === 0) return
    for (const id of gone) connection.leave(watchChannel(id))
    this.#unseen.set(connection, new Set([...this.#unseen.get(connection) ?? [], ...gone]))
    for (const userId of gone) {
      const data: UserEdge = { userId, status: 'offline', timestamp: toIso(this.#internals.clock.now()) }
      connection.send(encodeFrame('user:offline', data))
    }
  }

  async #byRest (caller: Caller, connectionId: string, early: () => Promise<unknown>, op: string, userIds: Id[] | null): Promise<unknown> {
    const { roster, rpc } = this.#internals
    const { identity } = caller
    let { nodeId } = await ownedConnection(roster, identity, connectionId)
    if (nodeId === null) {
      const answer = await early();
      // The socket may have opened in the meantime, and not have seen this.
      ({ nodeId } = await ownedConnection(roster, identity, connectionId))
      if (nodeId === null) return answer
    }
    return await rpc.call(nodeId, op, { tenantId: identity.tenantId, connectionId, userIds } satisfies RemoteWatch)
  }

  #full (): never {
    throw new RealtimeError('RT_LIMIT_EXCEEDED', `A connection may watch ${this.#max} users`)
  }

  async #onLocal<T> ({ tenantId, connectionId }: Omit<RemoteWatch, 'userIds'>, task: (connection: LocalConnection) => Promise<T>): Promise<T> {
    const connection = this.#internals.localConnections.get(connectionKey(tenantId, connectionId))
    if (connection === undefined) throw new RealtimeError('RT_NOT_FOUND', 'No connection has this id')
    return await connection.runInOrder(async () => await task(connection))
  }
}

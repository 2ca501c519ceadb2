import { Type, type Static } from '@sinclair/typebox'
import { TypeCompiler, type TypeCheck } from '@sinclair/typebox/compiler'
import type { FastifyBaseLogger } from 'fastify'
import type { MaybePromise } from '../../lib/async/maybe-promise.js'
import { checkedData } from '../../lib/backplane/rpc-data.js'
import { resolveAlias } from '../../lib/channel-names.js'
import type { LocalConnection } from '../../lib/delivery/connection.js'
import type { Joining } from '../../lib/delivery/joining.js'
import type { ReplayOptions } from '../../lib/delivery/replayer.js'
import { RealtimeError, toRealtimeError } from '../../lib/errors.js'
import { invalidData, type FrameContext, type FrameResult } from '../../lib/frame-router.js'
import type { Verdict } from '../../lib/host-functions.js'
import { Channel, Id, withIds } from '../../lib/id-schemas.js'
import type { Caller, Identity } from '../../lib/identity.js'
import type { CheckedChannel, Internals } from '../../lib/internals.js'
import { connectionKey, channelKey } from '../../lib/keys.js'
import { ownedConnection } from '../../lib/plugin-kit/owned-connection.js'
import type { Members } from './members.js'
import { SubscribeEntry, type NotSubscribed, type RoomState, type SubscribeAck, type SubscribeData, type Subscribed } from './schemas.js'

const RemoteSubscription = Type.Object({ tenantId: Id, connectionId: Type.String(), channel: Channel })
type RemoteSubscription = Static<typeof RemoteSubscription>

/** A new subscription: its reply, and the replay that follows. */
interface Made { answer: Subscribed, joining: Joining, replay: ReplayOptions, room: RoomState | null }

/** Maximum length of a name that is repeated in an error. */
const MAX_NAME = 255

/** The rules of subscriptions: who may subscribe to which channel, and from which position, on any node. */
export class Subscriptions {
  readonly #internals: Internals
  readonly #maxChannels: number
  readonly #log: FastifyBaseLogger
  readonly #entry: TypeCheck<typeof SubscribeEntry>
  readonly #members: Members

  constructor (internals: Internals, members: Members, maxChannels: number, log: FastifyBaseLogger) {
    this.#internals = internals
    this.#members = members
    this.#maxChannels = maxChannels
    this.#log = log
    this.#entry = TypeCompiler.Compile(withIds(SubscribeEntry, internals.ids.kind))
    const remote = withIds(RemoteSubscription, internals.ids.kind)
    internals.rpc.handle('channels.subscribe', async (data) => {
      await this.#onLocal(checkedData(remote, data), async (connection, channel) => {
        this.#requireRoom(connection, channel)
        if (connection.channels.has(channel)) return
        const joining = await connection.join(channel)
        await members.enter(connection, channel)
        connection.begin(joining)
      })
    })
    internals.rpc.handle('channels.unsubscribe', async (data) => {
      await this.#onLocal(checkedData(remote, data), async (connection, channel) => { connection.leave(channel) })
    })
  }

  /** Calls `authorize` for a subscription that waits for other frames of its connection, so that the calls run in parallel. */
  prefetch (caller: Caller, name: string): MaybePromise<Verdict> {
    return this.#internals.access.prefetch(caller, resolveAlias(name, caller.identity.userId))
  }

  /**
   * Handles the frame, for one channel or for several. After the reply, events since `since` are replayed, and live events
   * follow. For one channel it throws `RT_FORBIDDEN`, `RT_LIMIT_EXCEEDED`; for several, each has its own result.
   */
  async subscribe (context: FrameContext, { channels, epoch, ...single }: SubscribeData): Promise<FrameResult<SubscribeAck>> {
    const made = await this.#subscribeAll(context, channels ?? [single], epoch)
    const afterReply = (): void => {
      for (const one of made) {
        if (!('joining' in one)) continue
        if (one.room !== null) this.#members.discardOlder(one.joining, one.room)
        context.connection.begin(one.joining, one.replay)
      }
    }
    const [only] = made
    if (channels === undefined && only !== undefined) {
      if (only instanceof RealtimeError) throw only
      return { ack: { ...only.answer, epoch: this.#epoch }, replyEvent: 'subscribed', afterReply }
    }
    const answers = made.map((one, i) => one instanceof RealtimeError ? this.#refuse(channels?.[i], one) : one.answer)
    return { ack: { channels: answers, epoch: this.#epoch }, replyEvent: 'subscribed', afterReply }
  }

  get #epoch (): string {
    return this.#internals.eventLog.epoch.current
  }

  unsubscribe ({ identity, connection }: FrameContext, name: string): FrameResult<{ channel: string }> {
    const channel = resolveAlias(name, identity.userId)
    connection.leave(channel)
    return { ack: { channel }, replyEvent: 'unsubscribed' }
  }

  /** Subscribes a connection by REST, on any node, also before its socket opens. Also throws `RT_NOT_FOUND`. Returns the resolved channel name. */
  async subscribeConnection (caller: Caller, connectionId: string, name: string): Promise<string> {
    const { identity } = caller
    const channel = resolveAlias(name, identity.userId)
    const { nodeId } = await ownedConnection(this.#internals.roster, identity, connectionId)
    const { access, accessLog } = this.#internals
    const decisions = accessLog.count
    await access.require(caller, { action: 'subscribe', channel })
    const { tenantId } = identity
    if (nodeId === null && !await this.#internals.roster.addChannel(tenantId, connectionId, channel, this.#maxChannels)) throw this.#full()
    // The socket may have opened in the meantime, and not have seen the channel.
    const openOn = nodeId ?? (await this.#internals.roster.find(tenantId, connectionId))?.nodeId ?? null
    if (openOn !== null) await this.#internals.rpc.call(openOn, 'channels.subscribe', { tenantId, connectionId, channel } satisfies RemoteSubscription)
    // A kick or a recheck in the meantime found no subscription: ask again, because the result of `authorize` is older.
    if (accessLog.count !== decisions) {
      try {
        await access.require(caller, { action: 'subscribe', channel })
      } catch (err) {
        await this.unsubscribeConnection(identity, connectionId, channel)
        throw err
      }
    }
    return channel
  }

  /** For a stream: see `StreamSubscriptions`. */
  async check (caller: Caller, names: readonly string[]): Promise<CheckedChannel[]> {
    const { userId } = caller.identity
    const [valid, others] = partition([...new Set(names)], (channel) => this.#entry.Check({ channel }))
    const channels = [...new Set(valid.map((name) => resolveAlias(name, userId)))]
    const refusals = await this.#refusals({ ...caller }, channels)
    return [
      ...channels.map((channel) => ({ channel, error: refusals.get(channel) ?? null })),
      ...others.map((name) => ({ channel: name.slice(0, MAX_NAME), error: invalidData(this.#entry.Errors({ channel: name }).First()) }))
    ]
  }

  /** The same. */
  async join (connection: LocalConnection, channel: string, since: number): Promise<{ joining: Joining, members: RoomState | null, begun: () => void }> {
    this.#requireRoom(connection, channel)
    const joining = await connection.join(channel, since)
    try {
      const room = await this.#members.enter(connection, channel)
      return { joining, members: room, begun: () => { if (room !== null) this.#members.discardOlder(joining, room) } }
    } catch (err) {
      connection.leave(channel)
      throw err
    }
  }

  async unsubscribeConnection (identity: Identity, connectionId: string, name: string): Promise<string> {
    const channel = resolveAlias(name, identity.userId)
    const { nodeId } = await ownedConnection(this.#internals.roster, identity, connectionId)
    const { tenantId } = identity
    if (nodeId === null) await this.#internals.roster.removeChannel(tenantId, connectionId, channel)
    else await this.#internals.rpc.call(nodeId, 'channels.unsubscribe', { tenantId, connectionId, channel } satisfies RemoteSubscription)
    return channel
  }

  /** Results in the order of the entries. Allowed channels are joined in one turn, so that their reads of the log are one query. */
  async #subscribeAll (context: FrameContext, entries: readonly unknown[], epoch?: string): Promise<Array<Made | RealtimeError>> {
    const { identity, connection } = context
    const checked = entries.map((entry) => this.#entry.Check(entry)
      ? { channel: resolveAlias(entry.channel, identity.userId), since: entry.since }
      : invalidData(this.#entry.Errors(entry).First()))
    const refusals = await this.#refusals(context, checked.flatMap((entry) => entry instanceof RealtimeError ? [] : entry.channel))
    return await Promise.all(checked.map(async (entry) => {
      if (entry instanceof RealtimeError) return entry
      const refusal = refusals.get(entry.channel) ?? null
      if (refusal !== null) return refusal
      try {
        return await this.#subscribeOne(connection, entry.channel, entry.since, epoch)
      } catch (err) {
        return toRealtimeError(err)
      }
    }))
  }

  async #refusals (context: Caller & Pick<Partial<FrameContext>, 'prefetched'>, channels: readonly string[]): Promise<Map<string, RealtimeError | null>> {
    const refusals = await this.#internals.access.requireEach(context, channels, context.prefetched as MaybePromise<Verdict> | undefined)
    return new Map(channels.map((channel, i) => [channel, refusals[i] ?? null]))
  }

  async #subscribeOne (connection: LocalConnection, channel: string, since: number | undefined, epoch?: string): Promise<Made> {
    const before = connection.channels.has(channel)
    this.#requireRoom(connection, channel)
    // Join before reading: events published in between wait, and are neither lost nor delivered twice.
    const joining = await connection.join(channel, since)
    try {
      const { replays } = this.#internals.eventLog
      const key = channelKey(connection.identity.tenantId, channel)
      if (since === undefined) {
        const position = await replays.position(key)
        const room = await this.#members.enter(connection, channel)
        return { answer: { channel, position, ...room }, joining, replay: {}, room }
      }
      const { position, recovered, isBehind, isLate } = await replays.start(key, since, epoch)
      const room = await this.#members.enter(connection, channel)
      return { answer: { channel, position, recovered, ...room }, joining, replay: isBehind ? { since, isLate } : {}, room }
    } catch (err) {
      if (before) connection.begin(joining)
      else connection.leave(channel)
      throw err
    }
  }

  async #onLocal ({ tenantId, connectionId, channel }: RemoteSubscription, task: (connection: LocalConnection, channel: string) => Promise<void>): Promise<void> {
    const connection = this.#internals.localConnections.get(connectionKey(tenantId, connectionId))
    if (connection === undefined) throw new RealtimeError('RT_NOT_FOUND', 'No connection has this id')
    // Between frames of the connection: one of them may subscribe or unsubscribe the same channel.
    await connection.runInOrder(async () => { await task(connection, channel) })
  }

  #requireRoom (connection: LocalConnection, channel: string): void {
    if (connection.channels.has(channel)) return
    let chosen = 0
    for (const name of connection.channels) if (!connection.isAutomatic(name)) chosen++
    if (chosen >= this.#maxChannels) throw this.#full()
  }

  #full (): RealtimeError {
    return new RealtimeError('RT_LIMIT_EXCEEDED', `A connection may be subscribed to ${this.#maxChannels} channels`)
  }

  /** The entry was not validated, and may have any type. */
  #refuse (entry: unknown, err: RealtimeError): NotSubscribed {
    const { code, message, retryAfter } = err
    this.#internals.metrics.refuse(code)
    if (code === 'RT_INTERNAL') this.#log.error({ err }, 'Subscription failed')
    const channel = typeof entry === 'object' && entry !== null && 'channel' in entry && typeof entry.channel === 'string' ? entry.channel.slice(0, MAX_NAME) : ''
    return { channel, error: retryAfter === undefined ? { code, message } : { code, message, retryAfter } }
  }
}

function partition<T> (all: readonly T[], is: (one: T) => boolean): [T[], T[]] {
  return [all.filter((one) => is(one)), all.filter((one) => !is(one))]
}

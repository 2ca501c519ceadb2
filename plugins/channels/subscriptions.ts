import { channelKey, resolveAlias, splitKey } from '../../lib/channels.js'
import { localKey, type Realtime } from '../../lib/core.js'
import { RealtimeError } from '../../lib/errors.js'
import type { FrameContext, FrameResult, LocalConnection } from '../../lib/frame-router.js'
import type { Identity } from '../../lib/identity.js'
import { ownedConnection } from '../../lib/owned-connection.js'
import { sharedReads } from '../../lib/shared-reads.js'
import type { SubscribeData, Subscribed } from './schemas.js'

/** What came since, ready to be written. */
interface Missed { payloads: Buffer[], ids: ReadonlySet<number>, epoch: string, position: number, recovered: boolean }

interface RemoteSubscription { tenantId: number, connectionId: string, channel: string }

/** The rules of subscriptions: who may hear what, from where on, on whichever node the socket is. */
export class Subscriptions {
  readonly #realtime: Realtime
  readonly #maxChannels: number
  readonly #missed: (key: string) => Promise<Missed>

  constructor (realtime: Realtime, maxChannels: number) {
    this.#realtime = realtime
    this.#maxChannels = maxChannels
    this.#missed = sharedReads(async (key) => await this.#read(key))
    realtime.onAsk('channels.subscribe', async (data) => {
      await this.#onLocal(data as RemoteSubscription, async (connection, channel) => {
        this.#requireRoom(connection, channel)
        if (!connection.channels.has(channel)) (await connection.join(channel)).live()
      })
    })
    realtime.onAsk('channels.unsubscribe', async (data) => {
      await this.#onLocal(data as RemoteSubscription, async (connection, channel) => { connection.leave(channel) })
    })
  }

  /** A subscription that waits for other frames of its connection. */
  foresee (identity: Identity, name: string): void {
    this.#realtime.access.foresee(identity, resolveAlias(name, identity.userId))
  }

  /** The frame: live from the reply on, after what came since `since`. Throws `RT_FORBIDDEN`, `RT_LIMIT_EXCEEDED`. */
  async subscribe ({ identity, connection }: FrameContext, data: SubscribeData): Promise<FrameResult<Subscribed>> {
    const { tenantId } = identity
    const channel = resolveAlias(data.channel, identity.userId)
    await this.#realtime.access.require({ identity, action: 'subscribe', channel })
    this.#requireRoom(connection, channel)
    const before = connection.channels.has(channel)
    // First joined, then read: what is published in between waits, and is neither lost nor told twice.
    const joining = await connection.join(channel)
    try {
      if (data.since === undefined) {
        const position = await this.#realtime.eventLog.position(tenantId, channel)
        return { ack: { channel, epoch: this.#realtime.eventLog.epoch, position }, answer: 'subscribed', afterReply: () => { joining.live() } }
      }
      const { payloads, ids, epoch, position, recovered } = await this.#missed(`${data.epoch ?? ''}/${data.since}/${channelKey(tenantId, channel)}`)
      return {
        ack: { channel, epoch, position, recovered },
        answer: 'subscribed',
        afterReply: () => { void connection.replay(payloads).then(() => { joining.live(ids) }) }
      }
    } catch (err) {
      if (before) joining.live()
      else connection.leave(channel)
      throw err
    }
  }

  /** `{epoch}/{since}/{channel key}`, the first one empty where the client named none. */
  async #read (key: string): Promise<Missed> {
    const [ofCursor = '', since = ''] = key.split('/', 2)
    const { tenantId, channel } = splitKey(key.slice(ofCursor.length + since.length + 2))
    const { eventLog } = this.#realtime
    const { events, epoch, position, recovered } = await eventLog.recover(tenantId, channel, Number(since), ofCursor === '' ? undefined : ofCursor)
    return { payloads: events.map((event) => eventLog.encode(event)), ids: new Set(events.map(({ id }) => id)), epoch, position, recovered }
  }

  unsubscribe ({ identity, connection }: FrameContext, name: string): FrameResult<{ channel: string }> {
    const channel = resolveAlias(name, identity.userId)
    connection.leave(channel)
    return { ack: { channel }, answer: 'unsubscribed' }
  }

  /** By REST: wherever the socket is, and before it opens. Throws also `RT_NOT_FOUND`. Answers the channel's own name. */
  async subscribeConnection (identity: Identity, connectionId: string, name: string): Promise<string> {
    const channel = resolveAlias(name, identity.userId)
    const { nodeId } = await ownedConnection(this.#realtime.roster, identity, connectionId)
    await this.#realtime.access.require({ identity, action: 'subscribe', channel })
    const { tenantId } = identity
    if (nodeId !== null) {
      await this.#realtime.backplane.ask(nodeId, 'channels.subscribe', { tenantId, connectionId, channel } satisfies RemoteSubscription)
    } else if (!await this.#realtime.roster.addChannel(tenantId, connectionId, channel, this.#maxChannels)) {
      throw this.#full()
    }
    return channel
  }

  async unsubscribeConnection (identity: Identity, connectionId: string, name: string): Promise<string> {
    const channel = resolveAlias(name, identity.userId)
    const { nodeId } = await ownedConnection(this.#realtime.roster, identity, connectionId)
    const { tenantId } = identity
    if (nodeId === null) await this.#realtime.roster.removeChannel(tenantId, connectionId, channel)
    else await this.#realtime.backplane.ask(nodeId, 'channels.unsubscribe', { tenantId, connectionId, channel } satisfies RemoteSubscription)
    return channel
  }

  async #onLocal ({ tenantId, connectionId, channel }: RemoteSubscription, task: (connection: LocalConnection, channel: string) => Promise<void>): Promise<void> {
    const connection = this.#realtime.local.get(localKey(tenantId, connectionId))
    if (connection === undefined) throw new RealtimeError('RT_NOT_FOUND', 'No connection has this id')
    // In the connection's own order: a frame of its own may subscribe or unsubscribe the same channel.
    await connection.inOrder(async () => { await task(connection, channel) })
  }

  #requireRoom (connection: LocalConnection, channel: string): void {
    const chosen = [...connection.channels].filter((name) => !connection.isAutomatic(name)).length
    if (!connection.channels.has(channel) && chosen >= this.#maxChannels) throw this.#full()
  }

  #full (): RealtimeError {
    return new RealtimeError('RT_LIMIT_EXCEEDED', `A connection may be subscribed to ${this.#maxChannels} channels`)
  }
}

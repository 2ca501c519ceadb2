import { HEARTBEAT, SHORTEST } from './limits.js'
import type { WebSocketClient } from './client.js'
import { createConnection } from './connection.js'
import { createDelivery } from './delivery.js'
import { createEmitter } from './emitter.js'
import { ClientError } from './errors.js'
import { beat, onWake } from './heartbeat.js'
import { errorOf, type Carrier, type Link } from './link.js'
import { readOptions, type WebSocketClientOptions } from './options.js'
import { createOutbox } from './outbox.js'
import { createPoller } from './polling.js'
import { createRest } from './rest.js'
import { createScope } from './scope.js'
import { entryOf, forget, identify, learnEpoch, type ClosedBy, type Core, type Durable } from './state.js'
import { createSubscriptions } from './subscriptions.js'
import { createTokens } from './tokens.js'
import type { Transport } from './types.js'
import { createTyping } from './typing.js'
import { createWatches } from './watches.js'

/** Connects the parts of a client: the methods of {@link WebSocketClient}. */
export function createCore (options: WebSocketClientOptions): WebSocketClient<Record<string, object>> {
  const settings = readOptions(options)
  const { clock, token: source } = settings
  const { on, emit: emitAny, has } = createEmitter()
  const emit: Core['emit'] = emitAny
  const ended = createScope(clock, true)
  /** Problems emitted since the last socket: each is emitted once. */
  const reported = new Set<string>()
  let transport: Transport | null = null
  let ping = (): void => {}

  /** Rejects everything that waits. */
  const giveUp = (err: ClientError): void => {
    core.suspend(err)
    core.rejectSends(err)
  }
  const closed = ({ closeCode = 1006, reason = '' }: ClosedBy, willReconnect: boolean): void => {
    core.polled.end()
    typing.clear()
    core.suspend()
    core.sendBy(null)
    if (!transport) return
    transport = null
    emit('disconnected', { code: closeCode, reason, willReconnect })
  }
  const stop = (err: ClientError, by: ClosedBy): void => {
    core.run.end()
    core.token = undefined
    // Before anybody is told, who may begin again and ask for more.
    giveUp(err)
    closed(by, false)
  }
  /** Renews the credentials of the open socket. If there is no new token, or the server cannot check it now, the next socket gets another. */
  const prolong = async ({ scope, request }: Link): Promise<void> => {
    try {
      const token = await core.freshToken(scope)
      await request('auth', { token })
      core.token = token
    } catch (err) {
      // A token of another user closes the socket; the next socket belongs to that user.
      if (!scope.ended && (err as ClientError).code !== 'RT_IDENTITY_MISMATCH') core.failed(err as ClientError)
    }
  }

  const core = {
    settings,
    clock,
    emit,
    life: createScope(clock),
    run: ended,
    user: ended,
    polled: ended,
    mayRename: !options.connectionId,
    epoch: settings.epoch,
    entries: new Map(),
    seen: new Set(),
    /** Everything that belongs to a user goes when another one comes. */
    identified: (userId, clubId = core.identity?.clubId) => {
      const previous = core.identity
      const isOther = previous && (userId !== previous.userId || (previous.clubId ?? clubId) !== clubId)
      core.identity = { userId, clubId }
      core.mayRename = true
      if (isOther) {
        // What was asked for between `connect()` and the answer belongs to whoever it is.
        if (core.me !== undefined) {
          // A request may know before the socket does, which is still the other's.
          core.link?.scope.end()
          core.user.end()
          core.user = core.run.child()
          closed({ closeCode: 1000 }, true)
          giveUp(new ClientError('RT_IDENTITY_CHANGED'))
        }
        core.forgetWatches()
        forget(core)
      }
      identify(core, userId)
      if (isOther) emit('identity-changed', { ...core.identity, previous })
    },
    opened: (link, { userId, clubId, channels = [], heartbeatInterval, connectionId, epoch }, way) => {
      // A socket takes the place of a stream.
      core.link?.scope.end()
      settings.connectionId = connectionId
      core.polled.end()
      core.identified(userId, clubId)
      if (link.scope.ended) return
      reported.clear()
      learnEpoch(core, epoch)
      // Repeated sends come first, so that their acks arrive before the replay that contains their events.
      core.sendBy(link.request)
      // With the channels plugin the server has subscribed `broadcast`; `presence` has nothing to resume.
      core.resume(link, channels.includes('broadcast') ? channels.filter((channel) => channel !== 'presence') : [], epoch !== undefined)
      core.resumeWatches(link).catch((err: ClientError) => { if (!link.scope.ended) core.failed(err) })
      ping = beat(core, link, Math.max(settings.heartbeatInterval ?? (heartbeatInterval || HEARTBEAT), SHORTEST), () => {
        // The counts of the tenant, only if there is a listener.
        if (has('heartbeat')) core.call(link.scope, '/heartbeat', { connection_id: connectionId }).then((answer) => { emit('heartbeat', (answer as { data: never }).data) }, () => {})
      })
      core.carry(way)
    },
    received: ({ event, data }) => {
      // The `messageId` of these belongs to another event.
      if (Number(data.messageId) > 0 && !/:(delivered|activity)$/.test(event)) return core.take({ event, data } as Durable)
      // The server is about to close the socket and says when to come back, which `disconnected` and `reconnecting` tell.
      if (event === 'error') return data.code === 'RT_UNAVAILABLE' ? undefined : core.failed(errorOf(data))
      if (event === 'unsubscribed') core.left(data.channel as string)
      emitAny(event, data)
      if (event === 'token:expiring' && typeof source === 'function' && core.link) void prolong(core.link)
    },
    carry: (way) => {
      const before = transport
      transport = way
      if (before !== way) emit('transport', { transport: way })
      if (!before && transport === way) emit('connected', { connectionId: settings.connectionId, userId: core.me!, transport: way })
    },
    lost: (err) => { closed(err, true) },
    failed: (err) => { if (reported.size < reported.add(err.code).size) emit('error', err) },
    ended: (err, isLast) => {
      stop(isLast ? err : new ClientError('RT_CLIENT_STOPPED'), err)
      if (!isLast) emit('max-reconnect-attempts-reached', { attempts: settings.maxReconnectAttempts })
      // A close by request is no error, and the error may have been emitted before the close.
      else if (err.closeCode !== 4000 && !(err.closeCode === 4401 && reported.size)) core.failed(err)
    }
  } as Core
  Object.assign(core, createTokens(core), createRest(core), createOutbox(core), createDelivery(core), createSubscriptions(core), createWatches(core), createConnection(core), createPoller(core))

  const request: Carrier = async (event, data = {}, onAck) => {
    core.run.check()
    return await (core.link?.request ?? core.byRest(core.user))(event, data, onAck)
  }
  const scope = () => core.run.ended ? core.life : core.user
  const query = (path: string) => (query: object = {}): Promise<never> => core.get(scope(), path, query) as never
  const typing = createTyping(clock, settings.typingIdle, (sign) => {
    // A late typing update is worthless: beyond the rate it is dropped.
    request('user:typing', sign).catch((err: ClientError) => { if (err.code === 'RT_FORBIDDEN') core.failed(err) })
  })
  const connect = (): void => {
    if (!core.run.ended) return
    reported.clear()
    core.me = undefined
    core.run = core.life.child()
    core.user = core.run.child()
    core.run.onEnd(onWake(wake, () => { core.link?.drop() }))
    void core.start(core.run)
  }
  const wake = (): void => {
    ping()
    core.pollNow()
    core.retryNow()
  }

  for (const [channel, cursor] of Object.entries(settings.since)) entryOf(core, channel).cursor = cursor
  if (settings.autoConnect) connect()
  return {
    get connectionId () { return settings.connectionId },
    get state () { return transport ? 'connected' : core.run.ended ? 'stopped' : 'connecting' },
    get transport () { return transport },
    get cursors () {
      const cursors: Record<string, number | undefined> = {}
      for (const { channel, cursor } of core.entries.values()) cursors[channel] = cursor
      return cursors
    },
    get epoch () { return core.epoch },
    get userId () { return core.me },
    on,
    connect,
    disconnect: async () => {
      const unregistered = core.unregister()
      stop(new ClientError('RT_CLIENT_STOPPED'), { closeCode: 1000 })
      await unregistered
    },
    wake,
    subscribe: core.subscribe,
    unsubscribe: core.unsubscribe,
    send: (event: string, data: object) => {
      const { conversationId } = data as { conversationId?: string }
      if (conversationId) typing.sent(conversationId)
      return core.enqueue(event, data)
    },
    request,
    recordTyping: (conversationId, isTyping, audience) => {
      // A queued typing update would arrive too late.
      if (transport) typing.record(conversationId, isTyping, audience)
    },
    updatePresence: (status, details) => request('user:presence', { status, ...details }) as never,
    watch: core.watch,
    history: query('/history'),
    conversations: query('/conversations'),
    markRead: (conversation, messageId) => request('conversation:read', { ...conversation, messageId }) as never,
    edit: (messageId, message, data) => core.enqueue('message:edit', { messageId, message, data }),
    delete: (messageId) => core.enqueue('message:delete', { messageId }),
    getPresence: async (userId) => (await query('/presence')({ userIds: userId }) as { data: never }).data[0],
    getOnlineUsers: async () => (await query('/online-users')({ limit: 500 }) as { data: never }).data,
    get: (path) => core.call(scope(), path)
  }
}

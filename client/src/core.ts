import type { WebSocketClient } from './client.js'
import { createConnection } from './connection.js'
import { createDelivery } from './delivery.js'
import { createDetour } from './detour.js'
import { createEmitter } from './emitter.js'
import { ClientError } from './errors.js'
import { beat, onWake } from './heartbeat.js'
import { errorOf, type Carrier, type Link } from './link.js'
import { readOptions, type WebSocketClientOptions } from './options.js'
import { createOutbox } from './outbox.js'
import { createPoller } from './polling.js'
import { createRest, snake } from './rest.js'
import { createScope, type Scope } from './scope.js'
import { entryOf, forget, identify, learnEpoch, type Durable, type State } from './state.js'
import { createSubscriptions } from './subscriptions.js'
import { createTokens } from './tokens.js'
import type { ClientEvents, Identity, Transport } from './types.js'
import { createTyping } from './typing.js'
import { createWatches } from './watches.js'
import type { DeliveredBody, Id } from './wire.js'

/** The default interval of heartbeats in milliseconds, and its minimum. */
const HEARTBEAT = 25_000
const SHORTEST = 50

/** Connects the parts of a client: the methods of {@link WebSocketClient}. */
export function createCore (options: WebSocketClientOptions): WebSocketClient<Record<string, object>> {
  const settings = readOptions(options)
  const { clock, token: source, heartbeatInterval: interval } = settings
  const { on, emit: emitAny, has } = createEmitter()
  const emit: <K extends keyof ClientEvents>(event: K, data: ClientEvents[K]) => void = emitAny
  const life = createScope(clock)
  const tokens = createTokens(source)
  const state: State = { epoch: settings.epoch, entries: new Map(), seen: new Set() }
  /** Problems emitted since the last socket: each is emitted once. */
  const reported = new Set<string>()
  /** From `connect()` to `disconnect()`. */
  let run: Scope | undefined
  let identity: Identity | undefined
  let transport: Transport | null = null
  let ping = (): void => {}

  const failed = (err: ClientError): void => {
    if (reported.size < reported.add(err.code).size) emit('error', err)
  }
  /** The client cannot work at all. */
  const require = (): void => { if (!run) throw new ClientError('RT_CLIENT_STOPPED') }

  /** Everything that belongs to a user goes when another one comes. */
  const identified = (userId: Id, clubId = identity?.clubId): void => {
    const previous = identity
    const isOther = previous && (userId !== previous.userId || (previous.clubId ?? clubId) !== clubId)
    identity = { userId, clubId }
    if (isOther) {
      // What was asked for between `connect()` and the answer belongs to whoever it is.
      if (state.me !== undefined) {
        // A request may know before the socket does, which is still the other's.
        state.link?.scope.end()
        state.user?.end()
        state.user = run?.child()
        closed(1000, '', true)
        giveUp(new ClientError('RT_IDENTITY_CHANGED'))
      }
      watches.reset()
      forget(state)
    }
    identify(state, userId)
    if (isOther) emit('identity-changed', { ...identity, previous })
  }
  /** Rejects everything that waits. */
  const giveUp = (err: ClientError): void => {
    subscriptions.suspend(err)
    outbox.stop(err)
  }

  // A token other than the refused one. Queued sends use it only when its user is known.
  const rest = createRest(settings.baseUrl, settings.fetch, tokens, async (scope, refused) => {
    if (tokens.current && tokens.current !== refused) return tokens.current
    tokens.refused = refused
    const token = await tokens.fresh(scope)
    if (run) await connection.register(run, token)
    return token
  })
  const outbox = createOutbox(clock, settings, (event, data, ack, carrier) => {
    const { messageId } = ack as { messageId?: number }
    // Events to everyone or to oneself are also delivered to the sender; events sent by REST, to all connections of the sender.
    const isTold = /^[bn]/.test(event) || (data as { recipientId?: unknown }).recipientId === state.me
    if (messageId && !isTold && carrier === state.link?.request) delivery.see(messageId)
  })
  const delivery = createDelivery(state, clock, emitAny, (ids) => {
    if (!settings.confirm || !ids.length) return
    if (state.polled) rest.call(state.polled, '/messages/delivered', { message_ids: ids } satisfies DeliveredBody).catch(() => {})
    else for (const messageId of ids) state.link?.request('message:delivered', { messageId }).catch(() => {})
  })
  const subscriptions = createSubscriptions(state, delivery, clock, emitAny)
  const watches = createWatches(state, emitAny)
  const request: Carrier = async (event, data = {}, onAck) => {
    require()
    return await (state.link?.request ?? rest.carrier(state.user!))(event, data, onAck)
  }
  const get = (path: string): Promise<unknown> => rest.call((run && state.user) ?? life, path)
  const query = (path: string) => (query: object = {}): Promise<never> => get(Object.entries(snake(query))
    .reduce((path, [name, value]) => value === undefined ? path : `${path}&${name}=${encodeURIComponent(value as string)}`, path + '?')) as never
  const queue = async (event: string, data: object): Promise<never> => {
    require()
    return outbox.add(event, data) as never
  }
  const typing = createTyping(clock, settings.typingIdle, (sign) => {
    // A late typing update is worthless: beyond the rate it is dropped.
    request('user:typing', sign).catch((err: ClientError) => { if (err.code === 'RT_FORBIDDEN') failed(err) })
  })

  /** Renews the credentials of the open socket. If there is no new token, or the server cannot check it now, the next socket gets another. */
  const prolong = async ({ scope, request }: Link): Promise<void> => {
    try {
      const token = await tokens.fresh(scope)
      await request('auth', { token })
      tokens.current = token
    } catch (err) {
      // A token of another user closes the socket; the next socket belongs to that user.
      if (!scope.ended && (err as ClientError).code !== 'RT_IDENTITY_MISMATCH') failed(err as ClientError)
    }
  }
  const stopPolling = (): void => {
    state.polled?.end()
    state.polled = undefined
  }
  /** A transport to the server is available. */
  const carry = (way: Transport): void => {
    const before = transport
    transport = way
    if (before !== way) emit('transport', { transport: way })
    if (!before && transport === way) emit('connected', { connectionId: settings.connectionId, userId: state.me!, transport: way })
  }
  const closed = (code: number, reason = '', willReconnect: boolean): void => {
    ping = () => {}
    stopPolling()
    typing.clear()
    subscriptions.suspend()
    outbox.carry(null)
    if (!transport) return
    transport = null
    emit('disconnected', { code, reason, willReconnect })
  }
  const stop = (err: ClientError, code: number, reason?: string): void => {
    run?.end()
    run = tokens.current = undefined
    // Before anybody is told, who may begin again and ask for more.
    giveUp(err)
    closed(code, reason, false)
  }

  /** A cookie may belong to another user with each request. */
  const verify = async (scope: Scope): Promise<void> => { if (!source) await connection.register(scope) }
  const poller = createPoller(rest, state, subscriptions, delivery, clock, Math.max(settings.pollInterval, SHORTEST), emitAny, verify, (err) => {
    failed(err)
    if (err.code === 'RT_SERVER_UNREACHABLE') closed(1006, '', true)
  })
  const ended = (err: ClientError, isLast: boolean, reason?: string): void => {
    stop(isLast ? err : new ClientError('RT_CLIENT_STOPPED'), err.closeCode ?? 1006, reason)
    if (!isLast) emit('max-reconnect-attempts-reached', { attempts: settings.maxReconnectAttempts })
    // A close by request is no error, and the error may have been emitted before the close.
    else if (err.closeCode !== 4000 && !(err.closeCode === 4401 && reported.size)) failed(err)
  }
  const connection = createConnection(life, rest, tokens, settings, {
    mayRename: () => !options.connectionId || identity !== undefined,
    identified,
    opened: (link, { userId, clubId, channels = [], heartbeatInterval, connectionId, epoch }, way) => {
      // A socket takes the place of a stream.
      state.link?.scope.end()
      settings.connectionId = connectionId
      stopPolling()
      identified(userId, clubId)
      if (link.scope.ended) return
      reported.clear()
      learnEpoch(state, epoch)
      // Repeated sends come first, so that their acks arrive before the replay that contains their events.
      outbox.carry(link.request)
      // With the channels plugin the server has subscribed `broadcast`; `presence` has nothing to resume.
      subscriptions.resume(link, channels.includes('broadcast') ? channels.filter((channel) => channel !== 'presence') : [], epoch !== undefined)
      watches.resume(link).catch((err: ClientError) => { if (!link.scope.ended) failed(err) })
      ping = beat(link, clock, Math.max(interval ?? (heartbeatInterval || HEARTBEAT), SHORTEST), () => {
        // The counts of the tenant, only if there is a listener.
        if (has('heartbeat')) rest.call(link.scope, '/heartbeat', { connection_id: connectionId }).then((answer) => { emit('heartbeat', (answer as { data: never }).data) }, () => {})
      })
      carry(way)
    },
    frame: ({ event, data }) => {
      // The `messageId` of these belongs to another event.
      if (Number(data.messageId) > 0 && !/:(delivered|activity)$/.test(event)) return delivery.take({ event, data } as Durable)
      // The server is about to close the socket and says when to come back, which `disconnected` and `reconnecting` tell.
      if (event === 'error') return data.code === 'RT_UNAVAILABLE' ? undefined : failed(errorOf(data))
      if (event === 'unsubscribed') subscriptions.left(data.channel as string)
      emitAny(event, data)
      if (event === 'token:expiring' && typeof source === 'function' && state.link) void prolong(state.link)
    },
    closed,
    blocked: () => {
      if (settings.polling) detour.begin()
      return settings.polling
    },
    failed,
    reconnecting: (attempt, delay) => { emit('reconnecting', { attempt, delay }) },
    ended
  })
  const detour = createDetour(state, rest, outbox, poller, () => connection, verify, carry, closed, ended, failed)
  const connect = (): void => {
    if (run) return
    reported.clear()
    state.me = undefined
    run = life.child()
    state.user = run.child()
    run.onEnd(onWake(wake, () => { state.link?.drop() }))
    void connection.start(run)
  }
  const wake = (): void => {
    ping()
    poller.wake()
    connection.wake()
  }

  for (const [channel, cursor] of Object.entries(settings.since)) entryOf(state, channel).cursor = cursor
  if (settings.autoConnect) connect()
  return {
    get connectionId () { return settings.connectionId },
    get state () { return transport ? 'connected' : run ? 'connecting' : 'stopped' },
    get transport () { return transport },
    get cursors () {
      const cursors: Record<string, number | undefined> = {}
      for (const { channel, cursor } of state.entries.values()) cursors[channel] = cursor
      return cursors
    },
    get epoch () { return state.epoch },
    get userId () { return state.me },
    on,
    connect,
    disconnect: async () => {
      // A closed socket ends its connection; a connection that was only registered must be ended by a request.
      const isEnded = state.link !== undefined
      stop(new ClientError('RT_CLIENT_STOPPED'), 1000)
      await connection.end(isEnded)
    },
    wake,
    subscribe: async (channel, { since } = {}) => {
      require()
      const subscribed = subscriptions.add(channel, since)
      poller.wake()
      return subscribed
    },
    unsubscribe: subscriptions.remove,
    send: (event: string, data: object) => {
      const { conversationId } = data as { conversationId?: string }
      if (conversationId) typing.sent(conversationId)
      return queue(event, data)
    },
    request,
    recordTyping: (conversationId, isTyping, audience) => {
      // A queued typing update would arrive too late.
      if (transport) typing.record(conversationId, isTyping, audience)
    },
    updatePresence: (status, details) => request('user:presence', { status, ...details }) as never,
    watch: async (userIds) => {
      require()
      return watches.add(userIds)
    },
    history: query('/history'),
    conversations: query('/conversations'),
    markRead: (conversation, messageId) => request('conversation:read', { ...conversation, messageId }) as never,
    edit: (messageId, message, data) => queue('message:edit', { messageId, message, data }),
    delete: (messageId) => queue('message:delete', { messageId }),
    getPresence: async (userId) => (await get(`/presence?user_ids=${encodeURIComponent(userId)}`) as { data: never }).data[0],
    getOnlineUsers: async () => (await get('/online-users?limit=500') as { data: never }).data,
    get
  }
}

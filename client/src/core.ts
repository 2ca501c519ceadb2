import { createConnection } from './connection.js'
import { createDelivery } from './delivery.js'
import { createEmitter, type Emitter } from './emitter.js'
import { ClientError, toClientError } from './errors.js'
import { beat, onWake } from './heartbeat.js'
import { isSame, type Identity } from './identity.js'
import { errorOf, type Carrier } from './link.js'
import type { Settings } from './options.js'
import { createOutbox, type Outbox } from './outbox.js'
import { createPoller } from './polling.js'
import { createRest } from './rest.js'
import { createScope, type Scope } from './scope.js'
import { entryOf, identify, learnEpoch, type Durable, type State } from './state.js'
import { createSubscriptions, type Subscriptions } from './subscriptions.js'
import { createTokens } from './tokens.js'
import type { ClientEvents, Transport } from './types.js'
import { createTyping, type Typing } from './typing.js'
import { isTokenRefused, retryDelay } from './verdicts.js'
import { createWatches, type Watches } from './watches.js'
import type { Stats, Subscribed } from './wire.js'

/** What the client is made of, and how its parts follow the connection. */
export interface Core extends Pick<Emitter, 'on'> {
  outbox: Outbox
  typing: Typing
  subscriptions: Subscriptions
  watches: Watches
  state: State
  transport: Transport | null
  readonly isStarted: boolean
  /** A frame by the socket, or by a request where there is none. */
  request: Carrier
  /** A REST request, also of a client that is stopped. */
  call (path: string): Promise<unknown>
  start (): void
  disconnect (): Promise<void>
  /** Now is a good moment to look whether the connection is alive, or to try again. */
  wake (): void
  /** Something is new to be polled. */
  poll (): void
}

/** Milliseconds between two heartbeats of a server that does not say. */
const HEARTBEAT = 25_000

export function createCore (settings: Settings): Core {
  const { clock, token: source } = settings
  const { on, emit: emitAny, has } = createEmitter()
  const emit: <K extends keyof ClientEvents>(event: K, data: ClientEvents[K]) => void = emitAny
  const life = createScope(clock)
  const tokens = createTokens(source)
  const state: State = { epoch: settings.epoch, entries: new Map(), seen: new Set() }
  /** Told since the last socket: each problem once, however often it is met. */
  const reported = new Set<string>()
  /** From `connect()` to `disconnect()`; within it while the client is one user, and within that while it polls. */
  let run: Scope | undefined
  let user: Scope | undefined
  let polled: Scope | undefined
  let who: Identity | undefined
  let ping = (): void => {}

  const failed = (err: ClientError): void => {
    if (reported.size < reported.add(err.code).size) emit('error', err)
  }
  /** Everything that belongs to a user goes when another one comes. */
  const identified = (now: Identity): void => {
    const previous = who
    const isOther = previous && !isSame(previous, now)
    who = isOther ? now : { ...previous, ...now, clubId: now.clubId ?? previous?.clubId }
    if (isOther) {
      const err = new ClientError('RT_IDENTITY_CHANGED')
      user?.end()
      user = run?.child()
      closed(1000, '', true)
      outbox.stop(err)
      watches.stop(err, true)
      subscriptions.suspend(err)
      state.entries.clear()
      state.seen.clear()
      state.me = state.epoch = undefined
      emit('identity-changed', { ...now, previous })
    }
    identify(state, now.userId)
  }

  /** Another token than the refused one. Only once it is known whose it is, anything that waits goes out with it. */
  const renew = async (scope: Scope, refused: string): Promise<string | undefined> => {
    if (tokens.current !== refused) return tokens.current
    tokens.refused = refused
    const token = await tokens.fresh(scope)
    if (run) await connection.register(run, token)
    return token
  }
  const rest = createRest(settings.baseUrl, settings.fetch, tokens, renew)
  const outbox = createOutbox(clock, settings.maxQueued, settings.maxFrameSize, (event, data, ack, carrier) => {
    const { messageId } = ack as { messageId?: number }
    // What one sends to everybody or to oneself is told to oneself, too; and what came by REST, to all one's connections.
    const isTold = /^[bn]/.test(event) || (data as { recipientId?: unknown }).recipientId === state.me
    if (messageId && !isTold && carrier === state.link?.request) delivery.see(messageId)
  })
  const delivery = createDelivery(state, clock, emitAny, (ids) => {
    if (!settings.confirm) return
    for (const messageId of state.link ? ids : []) state.link?.request('message:delivered', { messageId }).catch(() => {})
    if (polled && ids.length) rest.call(polled, '/messages/delivered', { message_ids: ids }).catch(() => {})
  })
  const subscriptions = createSubscriptions(state, delivery, clock, emitAny)
  const watches = createWatches(state, clock, emitAny)
  const typing = createTyping(clock, settings.typingIdle, (sign) => {
    // A sign that came too late means nothing: past the rate it is dropped.
    core.request('user:typing', sign).catch((err: ClientError) => { if (err.code === 'RT_FORBIDDEN') failed(err) })
  })

  /** Shows the live socket a new token, until it takes one or is closed. */
  const prolong = async (): Promise<void> => {
    const { link } = state
    for (let tries = 0; link && !link.scope.ended; tries++) {
      let token: string | undefined
      try {
        token = await tokens.fresh(link.scope)
        await link.request('auth', { token })
        tokens.current = token
        return
      } catch (thrown) {
        const err = toClientError(thrown)
        // Another user's token closes the socket, and the next one is that user's.
        if (link.scope.ended || err.code === 'RT_IDENTITY_MISMATCH') return
        if (isTokenRefused(err)) tokens.refused = token ?? tokens.refused
        failed(err)
        await link.scope.wait(retryDelay(tries, err, clock.random()))
      }
    }
  }
  /** There is a way to the server. */
  const carry = (transport: Transport): void => {
    const before = core.transport
    core.transport = transport
    if (before !== transport) emit('transport', { transport })
    if (!before && core.transport === transport) emit('connected', { connectionId: settings.connectionId, userId: who!.userId, transport })
  }
  const closed = (code: number, reason: string, willReconnect: boolean): void => {
    ping = () => {}
    polled?.end()
    polled = undefined
    typing.clear()
    subscriptions.suspend()
    outbox.carry(null)
    if (core.transport) {
      core.transport = null
      emit('disconnected', { code, reason, willReconnect })
    }
  }
  const stop = (err: ClientError, code: number): void => {
    run?.end()
    run = user = undefined
    closed(code, '', false)
    subscriptions.suspend(err)
    watches.stop(err)
    outbox.stop(err)
  }

  const poller = createPoller(rest, state, subscriptions, delivery, clock, settings.pollInterval, emitAny, (err) => {
    failed(err)
    if (err.code === 'RT_SERVER_UNREACHABLE') closed(1006, '', true)
  })
  /** By REST, as soon as it is known who it is. */
  const poll = async (scope: Scope): Promise<void> => {
    const carrier = rest.carrier(scope)
    try {
      if (!source) await connection.register(scope)
    } catch (err) {
      if (!scope.ended) failed(err as ClientError)
      scope.end()
    }
    if (scope.ended) return
    // A cookie may be another user's from one request to the next.
    outbox.carry(source ? carrier : async (...frame) => await connection.register(scope).then(async () => await carrier(...frame)))
    carry('polling')
    await poller.start(scope)
  }
  const connection = createConnection(life, rest, tokens, settings, () => who !== undefined, {
    identified,
    opened: (link, { userId, clubId, channels = [], heartbeatInterval, connectionId, epoch }) => {
      settings.connectionId = connectionId
      polled?.end()
      polled = undefined
      identified({ userId, clubId })
      if (link.scope.ended) return
      reported.clear()
      learnEpoch(state, epoch)
      // What is sent again comes first, so that its ack comes before the replay that it stands in.
      outbox.carry(link.request)
      // Where the channels plugin is, the server has subscribed `broadcast`; presence has nothing to resume.
      subscriptions.resume(link, channels.includes('broadcast') ? channels.filter((channel) => channel !== 'presence') : [], epoch !== undefined)
      void watches.resume(link)
      ping = beat(link, clock, Math.max(settings.heartbeatInterval ?? (heartbeatInterval || HEARTBEAT), 50), () => {
        // The tenant's figures, only where anyone wants them.
        if (has('heartbeat')) {
          rest.call(link.scope, '/heartbeat', { connection_id: connectionId })
            .then((answer) => { emit('heartbeat', (answer as { data: Stats }).data) }, () => {})
        }
      })
      carry('websocket')
    },
    frame: ({ event, data }) => {
      // The `messageId` of a confirmation is another event's.
      if (Number(data.messageId) > 0 && event !== 'message:delivered') delivery.take({ event, data } as Durable)
      else if (event === 'error') failed(errorOf(data))
      else if (event === 'subscribed') subscriptions.joined(data as unknown as Subscribed)
      else if (event === 'unsubscribed') subscriptions.left(data as { channel: string })
      else {
        emitAny(event, data)
        if (event === 'token:expiring' && typeof source === 'function') void prolong()
      }
    },
    closed,
    blocked: () => {
      if (settings.polling && user && (!polled || polled.ended)) void poll(polled = user.child())
      return settings.polling
    },
    failed,
    reconnecting: (attempt, delay) => { emit('reconnecting', { attempt, delay }) },
    ended: (err, isFinal) => {
      stop(isFinal ? err : new ClientError('RT_CLIENT_STOPPED'), err.closeCode ?? 1006)
      if (!isFinal) emit('max-reconnect-attempts-reached', { attempts: settings.maxReconnectAttempts })
      // By request nothing is wrong; and what is wrong may have been told before the socket was closed.
      else if (err.closeCode !== 4000 && !(err.closeCode === 4401 && reported.size > 0)) failed(err)
    }
  })

  const core: Core = {
    on,
    outbox,
    typing,
    subscriptions,
    watches,
    state,
    transport: null,
    get isStarted () { return run !== undefined },
    request: async (event, data, onAck) => {
      if (!user) throw new ClientError('RT_CLIENT_STOPPED')
      return await (state.link?.request ?? rest.carrier(user))(event, data, onAck)
    },
    call: async (path) => await rest.call(life, path),
    poll: poller.wake,
    wake: () => {
      ping()
      poller.wake()
      connection.wake()
    },
    start: () => {
      if (run) return
      reported.clear()
      run = life.child()
      user = run.child()
      run.onEnd(onWake(core.wake, () => { state.link?.drop() }))
      connection.start(run)
    },
    disconnect: async () => {
      // A closed socket ends its connection; one that was only registered has to be ended by name.
      const isEnded = state.link !== undefined
      stop(new ClientError('RT_CLIENT_STOPPED'), 1000)
      await connection.end(isEnded)
    }
  }
  for (const [channel, cursor] of Object.entries(settings.since)) entryOf(state, channel).cursor = cursor
  return core
}

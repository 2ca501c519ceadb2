import type { Session } from './attempt.js'
import { createConnector, type Connector } from './connector.js'
import { createEmitter, type Emitter } from './emitter.js'
import { ClientError } from './errors.js'
import { beat, onWake } from './heartbeat.js'
import { errorOf, type Carrier, type Closed } from './link.js'
import type { Settings } from './options.js'
import { createOutbox, type Outbox } from './outbox.js'
import { createPoller } from './polling.js'
import { createRest, type Rest, type TokenSource } from './rest.js'
import { createSubscriptions, type Durable, type Subscriptions } from './subscriptions.js'
import type { ClientEvents, Frame, Transport } from './types.js'
import { createTyping, type Typing } from './typing.js'

/** What the client is made of, and how its parts follow the connection. */
export interface Core extends Emitter {
  rest: Rest
  outbox: Outbox
  typing: Typing
  subscriptions: Subscriptions
  connector: Connector
  transport: Transport | null
  /** The way to the server, while there is one. */
  carrier: Carrier | null
  start (): void
  disconnect (): Promise<void>
  renew (source?: TokenSource): Promise<void>
  /** Something is new to be polled. */
  poll (): void
}

export function createCore (settings: Settings): Core {
  const { clock } = settings
  const emitter = createEmitter()
  const rest = createRest(settings.baseUrl, settings.token, settings.fetch)
  const outbox = createOutbox(clock, settings.maxQueued)
  /** Told since the last connection: each problem once, however often it is met. */
  const reported = new Set<string>()
  let wakeLink = (): void => {}
  let stopWaking = (): void => {}

  const emit = <K extends keyof ClientEvents>(event: K, data: ClientEvents[K]): void => { emitter.emit(event, data) }
  const failed = (err: ClientError): void => {
    if (reported.size < reported.add(err.code).size) emit('error', err)
  }
  /** The guide's heartbeat, only where anyone wants the figures. */
  const heartbeat = (): void => {
    if (!emitter.has('heartbeat')) return
    rest.call('/heartbeat', { connection_id: settings.connectionId })
      .then((answer) => { emit('heartbeat', (answer as { data: ClientEvents['heartbeat'] }).data) }, () => {})
  }
  const deliver = (frame: Durable, fresh: boolean): void => {
    const { event, data: { messageId } } = frame
    if (fresh) emitter.emit(event, frame.data)
    // What the server sends again lacks its confirmation, whoever sent it.
    const isOwed = subscriptions.isToMe(frame) || (!fresh && event === 'message:direct')
    if (isOwed && settings.confirm && core.transport === 'websocket') core.carrier?.('message:delivered', { messageId }).catch(() => {})
  }
  const receive = (frame: Frame): void => {
    const { event, data } = frame
    // The `messageId` of a confirmation is another event's.
    if (Number.isInteger(data.messageId) && event !== 'message:delivered') subscriptions.take(frame as Durable)
    else if (event === 'error') failed(errorOf(data))
    else {
      emitter.emit(event, data)
      if (event === 'token:expiring' && typeof rest.source === 'function') void core.renew()
    }
  }
  const carry = (transport: Transport, carrier: Carrier, userId: number): void => {
    const before = core.transport
    core.transport = transport
    core.carrier = carrier
    reported.clear()
    outbox.carry(carrier)
    if (before !== transport) emit('transport', { transport })
    if (before === null) emit('connected', { connectionId: settings.connectionId, userId, transport })
  }
  const opened = ({ link, userId, channels, heartbeatInterval, connectionId }: Session): void => {
    poller.stop()
    settings.connectionId = connectionId
    subscriptions.identify(userId)
    // Where the channels plugin is, the server has subscribed `broadcast`; presence has nothing to resume.
    subscriptions.resume(link.request, channels.includes('broadcast') ? channels.filter((channel) => channel !== 'presence') : [])
    carry('websocket', link.request, userId)
    wakeLink = beat(link, clock, settings.heartbeatInterval ?? heartbeatInterval, heartbeat)
    link.listen(receive)
  }
  const closed = ({ code, reason }: Closed, willReconnect: boolean): void => {
    typing.clear()
    subscriptions.suspend()
    outbox.carry(null)
    core.carrier = null
    if (core.transport !== null) {
      core.transport = null
      emit('disconnected', { code, reason, willReconnect })
    }
  }
  const stop = (err: ClientError, code: number): void => {
    stopWaking()
    poller.stop()
    closed({ code, reason: '' }, false)
    subscriptions.suspend(err)
    outbox.stop(err)
  }

  const typing = createTyping(clock, settings.typingIdle, (sign) => {
    // A sign that came too late means nothing: without a connection, and past the rate, it is dropped.
    core.carrier?.('user:typing', sign).catch((err: ClientError) => { if (err.code === 'RT_FORBIDDEN') failed(err) })
  })
  const subscriptions = createSubscriptions(settings.since, {
    emit: emitter.emit,
    deliver,
    again: (carrier, seconds) => new Promise((resolve) => {
      clock.after((seconds + clock.random()) * 1000, () => { resolve(core.carrier === carrier) })
    })
  })
  const poller = createPoller(rest, subscriptions, clock, settings.pollInterval, emitter.emit, failed)
  const connector = createConnector(rest, settings, {
    opened,
    closed,
    blocked: (userId) => {
      if (settings.polling && !poller.isOn) {
        subscriptions.identify(userId)
        carry('polling', rest.request, userId)
        poller.start()
      }
      return settings.polling
    },
    retrying: (attempt, delay) => { emit('reconnecting', { attempt, delay }) },
    failed,
    ended: (err, isFinal) => {
      stop(isFinal ? err : new ClientError('RT_CLIENT_STOPPED'), err.closeCode ?? 1006)
      if (!isFinal) emit('max-reconnect-attempts-reached', { attempts: settings.maxReconnectAttempts })
      // By request, of the host or of another of the user's devices: nothing is wrong.
      else if (err.closeCode !== 4000) failed(err)
    }
  })

  const core: Core = {
    ...emitter,
    rest,
    outbox,
    typing,
    subscriptions,
    connector,
    transport: null,
    carrier: null,
    poll: poller.wake,
    start: () => {
      if (connector.isRunning) return
      reported.clear()
      stopWaking = onWake(() => {
        wakeLink()
        poller.wake()
        connector.wake()
      })
      connector.start()
    },
    disconnect: async () => {
      const isRegistered = connector.isRunning && connector.session === null
      connector.stop()
      stop(new ClientError('RT_CLIENT_STOPPED'), 1000)
      // A closed socket ends its connection; one that was only registered has to be ended by name.
      if (isRegistered) await rest.call('/disconnect', { connection_id: settings.connectionId }).catch(() => {})
    },
    renew: async (source = rest.source) => {
      rest.source = source
      try {
        await connector.session?.link.request('auth', { token: await rest.fresh() })
      } catch (err) {
        failed(err as ClientError)
      }
    }
  }
  return core
}

import type { Session } from './attempt.js'
import { createConnector, type Connector } from './connector.js'
import { createEmitter, type Emitter } from './emitter.js'
import { ClientError } from './errors.js'
import { beat, onWake, type Heartbeat } from './heartbeat.js'
import { errorOf, type Carrier, type Closed } from './link.js'
import type { Settings } from './options.js'
import { createOutbox, type Outbox } from './outbox.js'
import { createPoller } from './polling.js'
import { createRest, type Rest } from './rest.js'
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
  /** A frame by the socket, or by a request where there is none. */
  request: Carrier
  start (): void
  disconnect (): Promise<void>
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
  let pulse: Heartbeat | null = null
  let stopWaking = (): void => {}

  const emit: <K extends keyof ClientEvents>(event: K, data: ClientEvents[K]) => void = emitter.emit
  const failed = (err: ClientError): void => {
    if (reported.size < reported.add(err.code).size) emit('error', err)
  }
  /** The figures with each heartbeat, only where anyone wants the figures. */
  const heartbeat = (): void => {
    if (!emitter.has('heartbeat')) return
    rest.call('/heartbeat', { connection_id: settings.connectionId })
      .then((answer) => { emit('heartbeat', (answer as { data: ClientEvents['heartbeat'] }).data) }, () => {})
  }
  const request: Carrier = (event, data) => (connector.session?.link ?? rest).request(event, data)
  const receive = (frame: Frame): void => {
    const { event, data } = frame
    // The `messageId` of a confirmation is another event's.
    if (Number(data.messageId) > 0 && event !== 'message:delivered') subscriptions.take(frame as Durable)
    else if (event === 'error') failed(errorOf(data))
    else {
      emitter.emit(event, data)
      if (event === 'token:expiring' && typeof settings.token === 'function') void renew()
    }
  }
  const renew = async (): Promise<void> => {
    try {
      await request('auth', { token: await rest.fresh() })
    } catch (err) {
      failed(err as ClientError)
    }
  }
  const carry = (transport: Transport, userId = 0): void => {
    const before = core.transport
    core.transport = transport
    reported.clear()
    outbox.carry(request)
    if (before !== transport) emit('transport', { transport })
    if (!before) emit('connected', { connectionId: settings.connectionId, userId, transport })
  }
  const opened = ({ link, userId, channels, heartbeatInterval, connectionId }: Session): void => {
    poller.stop()
    settings.connectionId = connectionId
    // Where the channels plugin is, the server has subscribed `broadcast`; presence has nothing to resume.
    subscriptions.resume(link.request, userId, channels.includes('broadcast') ? channels.filter((channel) => channel !== 'presence') : [])
    carry('websocket', userId)
    pulse = beat(link, clock, settings.heartbeatInterval ?? heartbeatInterval, heartbeat)
    link.listen(receive)
  }
  const closed = (why: Closed, willReconnect: boolean): void => {
    pulse?.stop()
    pulse = null
    typing.clear()
    subscriptions.suspend()
    outbox.carry(null)
    if (core.transport) {
      core.transport = null
      emit('disconnected', { ...why, willReconnect })
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
    if (core.transport) request('user:typing', sign).catch((err: ClientError) => { if (err.code === 'RT_FORBIDDEN') failed(err) })
  })
  const subscriptions = createSubscriptions(settings, emitter.emit)
  const poller = createPoller(rest, subscriptions, clock, settings.pollInterval, emitter.emit, failed)
  const connector = createConnector(rest, settings, emitter.emit, {
    opened,
    closed,
    blocked: () => {
      if (settings.polling && !poller.isOn) {
        subscriptions.identify(rest.userId)
        carry('polling', rest.userId)
        poller.start()
      }
      return settings.polling
    },
    failed,
    ended: (err, isFinal) => {
      stop(isFinal ? err : new ClientError('RT_CLIENT_STOPPED'), err.closeCode ?? 1006)
      if (!isFinal) emit('max-reconnect-attempts-reached', { attempts: settings.maxReconnectAttempts })
      // By request nothing is wrong; and what is wrong may have been told before the socket was closed.
      else if (err.closeCode !== 4000 && !(err.closeCode === 4401 && reported.size > 0)) failed(err)
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
    request,
    poll: poller.wake,
    start: () => {
      if (connector.run) return
      reported.clear()
      stopWaking = onWake(() => {
        pulse?.now()
        poller.wake()
        connector.wake()
      })
      connector.start()
    },
    disconnect: async () => {
      const isRegistered = connector.run && connector.session === null
      connector.stop()
      stop(new ClientError('RT_CLIENT_STOPPED'), 1000)
      // A closed socket ends its connection; one that was only registered has to be ended by name.
      if (isRegistered) await rest.call('/disconnect', { connection_id: settings.connectionId }).catch(() => {})
    }
  }
  return core
}

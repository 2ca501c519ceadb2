import type { Session } from './attempt.js'
import { BackOff } from './backoff.js'
import type { ClientState } from './client.js'
import { Connector } from './connector.js'
import type { Emitter } from './emitter.js'
import { ClientError, toClientError, type ClientErrorCode } from './errors.js'
import { beat, onWake } from './heartbeat.js'
import { errorOf, type Closed } from './link.js'
import type { Settings } from './options.js'
import { Outbox } from './outbox.js'
import { Poller } from './polling.js'
import { Rest } from './rest.js'
import type { Told } from './subscription.js'
import { Subscriptions, type Carrier } from './subscriptions.js'
import { Tokens, type TokenSource } from './tokens.js'
import type { ClientEvents, Frame, Transport } from './types.js'
import { Typing } from './typing.js'

/** Milliseconds between heartbeats until the server said how often. */
const HEARTBEAT = 30_000

/** What the client is made of, and how its parts follow the connection. */
export class Machine {
  readonly rest: Rest
  readonly outbox: Outbox
  readonly typing: Typing
  readonly subscriptions: Subscriptions
  readonly #settings: Settings
  readonly #emitter: Emitter
  readonly #tokens: Tokens
  readonly #connector: Connector
  readonly #poller: Poller
  /** Told since the last connection: each problem once, however often it is met. */
  readonly #reported = new Set<ClientErrorCode>()
  transport: Transport | null = null
  /** The way to the server, while there is one. */
  carrier: Carrier | null = null
  #begun = false
  #heartbeat: ReturnType<typeof beat> | null = null
  #beatAt = 0
  #sleep: (() => void) | null = null

  constructor (settings: Settings, token: TokenSource | undefined, emitter: Emitter) {
    const { clock } = settings
    this.#settings = settings
    this.#emitter = emitter
    const tokens = this.#tokens = new Tokens(token)
    const rest = this.rest = new Rest(settings.baseUrl, tokens, settings.fetch)
    const tell = (event: string, data: object): void => { this.#emitter.emit(event, data) }
    const failed = (err: ClientError): void => { this.#report(err) }
    this.outbox = new Outbox(clock, settings.maxQueued)
    this.typing = new Typing(clock, settings.typingIdle, (data) => {
      // Signs that came too late mean nothing: without a connection, and past the rate, they are dropped.
      this.carrier?.('user:typing', data).catch((err: unknown) => { if (toClientError(err).code === 'RT_FORBIDDEN') failed(toClientError(err)) })
    })
    this.subscriptions = new Subscriptions(settings.since, {
      tell,
      deliver: (frame, fresh) => { this.#deliver(frame, fresh) },
      again: async (carrier, seconds) => {
        await new Promise<void>((resolve) => { clock.setTimeout(resolve, (seconds + clock.random()) * 1000) })
        return this.carrier === carrier
      },
      refused: (err) => { this.#emit('error', err) }
    })
    this.#poller = new Poller(rest, this.subscriptions, clock, settings.pollInterval, { tell, failed, round: () => { this.#onRound() } })
    this.#connector = new Connector({
      rest, tokens, clock, WebSocket: settings.WebSocket, connectionId: settings.connectionId, claims: claimsOf(settings)
    }, new BackOff(clock, settings.reconnectDelay, settings.maxReconnectDelay), settings.maxReconnectAttempts, {
      opened: (session) => { this.#opened(session) },
      closed: (closed, willReconnect) => { this.#closed(closed, willReconnect) },
      blocked: (userId) => this.#blocked(userId),
      retrying: (attempt, delay) => { this.#emit('reconnecting', { attempt, delay }) },
      failed,
      ended: (err) => { this.#ended(err) }
    })
  }

  get connectionId (): string {
    return this.#connector.session?.connectionId ?? this.#connector.parts.connectionId
  }

  get state (): ClientState {
    if (this.transport !== null) return 'connected'
    return this.#connector.isRunning ? 'connecting' : this.#begun ? 'stopped' : 'idle'
  }

  start (): void {
    if (this.#connector.isRunning) return
    this.#begun = true
    this.#reported.clear()
    this.#sleep = onWake(() => { this.#wake() })
    this.#connector.start()
  }

  /** Throws `RT_CLIENT_STOPPED`: nothing would come of it. */
  require (): void {
    if (this.state === 'stopped') throw new ClientError('RT_CLIENT_STOPPED', 'The client is stopped')
  }

  async disconnect (): Promise<void> {
    const hadSocket = this.#connector.session !== null
    const wasRunning = this.#connector.isRunning
    this.#begun = true
    this.#connector.stop()
    this.#stop(new ClientError('RT_CLIENT_STOPPED', 'disconnect() was called'), { code: 1000, reason: '' })
    // A closed socket ends its connection; one that was only registered has to be ended by name.
    if (wasRunning && !hadSocket) await this.rest.call('/disconnect', { connection_id: this.connectionId }).catch(() => {})
  }

  async renew (source?: TokenSource): Promise<void> {
    if (source !== undefined) this.#tokens.set(source)
    const { session } = this.#connector
    try {
      const token = await this.#tokens.fresh()
      if (token !== undefined) await session?.link.request('auth', { token })
    } catch (err) {
      if (toClientError(err).code !== 'RT_SOCKET_CLOSED') this.#report(toClientError(err))
    }
  }

  async unsubscribe (name: string): Promise<void> {
    const channel = this.subscriptions.remove(name)
    if (this.transport === 'websocket') await this.carrier?.('unsubscribe', { channel })
    this.#emit('unsubscribed', { channel })
  }

  /** Something is new to be polled. */
  poll (): void {
    if (this.#poller.isOn) this.#poller.wake()
  }

  #opened ({ link, userId, channels, heartbeatInterval }: Session): void {
    this.#reported.clear()
    this.#poller.stop()
    const carrier: Carrier = async (event, data, onAck) => await link.request(event, data, onAck)
    // Where the channels plugin is, the server has subscribed `broadcast`; what is only told now has nothing to resume.
    const automatic = channels.includes('broadcast') ? channels.filter((channel) => channel !== 'presence') : []
    this.subscriptions.resume(carrier, userId, automatic)
    this.#carry('websocket', carrier, userId)
    this.#heartbeat = beat(link, this.#settings.clock, this.#settings.heartbeatInterval ?? heartbeatInterval, () => { this.#beat() })
    link.listen((frame) => { this.#receive(frame) })
  }

  #closed (closed: Closed, willReconnect: boolean): void {
    this.#heartbeat?.stop()
    this.#heartbeat = null
    this.typing.clear()
    this.subscriptions.suspend()
    this.outbox.carry(null)
    this.carrier = null
    if (this.transport === null) return
    this.transport = null
    this.#emit('disconnected', { ...closed, willReconnect })
  }

  #blocked (userId: number): boolean {
    if (!this.#settings.polling) return false
    if (this.#poller.isOn) return true
    if (userId > 0) this.subscriptions.identify(userId)
    this.#reported.clear()
    this.#carry('polling', async (event, data) => await this.rest.send(event, data), userId)
    this.#poller.start()
    return true
  }

  #carry (transport: Transport, carrier: Carrier, userId: number): void {
    const before = this.transport
    this.transport = transport
    this.carrier = carrier
    this.outbox.carry(carrier)
    if (before !== transport) this.#emit('transport', { transport })
    if (before === null) this.#emit('connected', { connectionId: this.connectionId, userId, transport })
  }

  #ended (err: ClientError | null): void {
    const attempts = this.#settings.maxReconnectAttempts
    this.#stop(err ?? new ClientError('RT_CLIENT_STOPPED', `${attempts} attempts to reconnect failed`), { code: err?.closeCode ?? 1006, reason: '' })
    if (err === null) this.#emit('max-reconnect-attempts-reached', { attempts })
    // By request, of the host or of another of the user's devices: nothing is wrong.
    else if (err.closeCode !== 4000) this.#report(err)
  }

  #stop (err: ClientError, closed: Closed): void {
    this.#sleep?.()
    this.#poller.stop()
    this.#closed(closed, false)
    this.subscriptions.stop(err)
    this.outbox.stop(err)
  }

  #wake (): void {
    this.#heartbeat?.now()
    if (this.#poller.isOn) this.#poller.wake()
    if (this.#connector.session === null) this.#connector.wake()
  }

  #receive (frame: Frame): void {
    const { event, data } = frame
    // Its `messageId` is another's.
    if (event !== 'message:delivered' && Number.isInteger(data.messageId)) this.subscriptions.take(frame as Frame & Told)
    else if (event === 'error') this.#report(errorOf(data))
    else {
      this.#emitter.emit(event, data)
      if (event === 'token:expiring' && !this.#tokens.isFixed) void this.renew()
    }
  }

  #deliver (frame: Frame & Told, fresh: boolean): void {
    const { event, data } = frame
    if (fresh) this.#emitter.emit(event, data)
    // What the server sends again lacks its confirmation, whoever sent it.
    const isOwed = fresh ? this.subscriptions.isToMe(frame) : event === 'message:direct' || event === 'notification:received'
    if (!isOwed || !this.#settings.confirm || this.transport !== 'websocket') return
    this.carrier?.('message:delivered', { messageId: data.messageId }).catch(() => {})
  }

  /** The guide's heartbeat: only where anyone wants the figures. */
  #beat (): void {
    if (!this.#emitter.has('heartbeat') && this.transport === 'websocket') return
    this.rest.call('/heartbeat', { connection_id: this.connectionId })
      .then((answer) => { this.#emit('heartbeat', (answer as { data: ClientEvents['heartbeat'] }).data) })
      .catch(() => {})
  }

  /** A connection that polls lives by its heartbeats. */
  #onRound (): void {
    const now = this.#settings.clock.now()
    if (now - this.#beatAt < (this.#settings.heartbeatInterval ?? HEARTBEAT)) return
    this.#beatAt = now
    this.#beat()
  }

  #emit<K extends keyof ClientEvents> (event: K, data: ClientEvents[K]): void {
    if (!this.#emitter.emit(event, data) && event === 'error') console.error(data)
  }

  #report (err: ClientError): void {
    if (this.#reported.has(err.code)) return
    this.#reported.add(err.code)
    this.#emit('error', err)
  }
}

const claimsOf = ({ userId, clubId }: Settings): object => ({
  ...(userId === undefined ? {} : { userId }), ...(clubId === undefined ? {} : { clubId })
})

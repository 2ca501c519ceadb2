import type { FastifyRequest } from 'fastify'
import { thenMaybe, type MaybePromise } from '../../lib/async/maybe-promise.js'
import { isHidden, privateChannel } from '../../lib/channel-names.js'
import type { Clock } from '../../lib/clock.js'
import { Batch } from '../../lib/delivery/batch.js'
import type { LocalConnection } from '../../lib/delivery/connection.js'
import type { Hub } from '../../lib/delivery/hub.js'
import type { Joining } from '../../lib/delivery/joining.js'
import type { MergedChannel } from '../../lib/delivery/merged-replay.js'
import { Replayer, type PageSource, type Reader, type ReplayOptions } from '../../lib/delivery/replayer.js'
import { RealtimeError } from '../../lib/errors.js'
import type { Identity } from '../../lib/identity.js'
import { channelKey, channelOf, type ChannelKey } from '../../lib/keys.js'
import type { Metrics } from '../../lib/metrics.js'
import { CloseCode } from '../../lib/wire/close-codes.js'
import { FrameLimiter, type FrameLimits } from './frame-limiter.js'
import { FrameOrder } from './frame-order.js'
import { hasRoom, Pace, type Paced } from './pace.js'
import { NO_CHANNELS, type ClientDescription, type ConnectionInternals, type ConnectionOptions, type Phase, type Session, type Opening } from './session.js'
import type { Transport } from './transport.js'

export type { ClientDescription, ConnectionOptions, Phase, Session, Opening } from './session.js'

/** Share of `maxBuffered` for replies that wait for the commit of an earlier message. They are written together, and must not make a reader look slow. */
const REPLIES_SHARE = 1 / 4

/** The decision about frames to write. `split`: they do not fit together, and are written one by one. */
type Admission = 'send' | 'split' | 'drop' | 'close'

/** One socket or stream: its phase, its channels, and the order of incoming and outgoing frames. */
export class Connection implements Reader, LocalConnection, Paced {
  #phase: Phase
  /** The connection id; empty before authentication. A field, because a fan-out compares it for each member. */
  id = ''
  readonly channels = new Set<string>()
  // idle memory: null, because most connections watch no one.
  #hidden: Set<string> | null = null
  readonly order: FrameOrder
  /** Time of the last ping. */
  pingedAt: number
  waitsOn = 0
  /** Pings since the peer was last active. */
  missedPings = 0
  #onChannelsChanged: ((connection: Connection) => void) | null = null
  readonly request: FastifyRequest
  readonly client: ClientDescription
  readonly transport: Transport
  readonly #hub: Hub
  readonly #clock: Clock
  readonly #metrics: Metrics
  readonly #maxBuffered: number
  readonly #internals: ConnectionInternals
  #limiter: FrameLimiter | null = null
  readonly #limits: FrameLimits
  /** Null while there is nothing to replay. */
  #replayer: Replayer | null = null
  /** Null until bytes have waited for this reader. */
  #pace: Pace | null = null

  constructor ({ transport, request, client }: Opening, internals: ConnectionInternals, options: ConnectionOptions) {
    const { hub, clock, metrics } = internals
    this.transport = transport
    this.request = request
    this.client = client
    this.#hub = hub
    this.#clock = clock
    this.#metrics = metrics
    this.#maxBuffered = options.maxBuffered
    this.#internals = internals
    this.#limits = options
    this.order = new FrameOrder(this, options.maxBuffered * REPLIES_SHARE)
    this.pingedAt = clock.now()
    this.#phase = { name: 'opening', since: this.pingedAt }
  }

  get phase (): Phase {
    return this.#phase
  }

  // idle memory: created with the first frame, because most connections only listen.
  get limiter (): FrameLimiter {
    return this.#limiter ??= new FrameLimiter(this.#clock, this.#limits)
  }

  /** The connection was authenticated and registered. */
  open (session: Session): void {
    this.id = session.connectionId
    this.#phase = { name: 'open', session }
  }

  /** `listener` is called after each later subscription or unsubscription. */
  onChannelsChanged (listener: (connection: Connection) => void): void {
    this.#onChannelsChanged = listener
  }

  /** Replaces the credentials of an open connection. False if it is not open. */
  renew (identity: Identity): boolean {
    if (this.#phase.name !== 'open') return false
    this.#phase.session = { ...this.#phase.session, identity, authenticatedAt: this.#clock.now(), warned: false }
    return true
  }

  /** Records that `token:expiring` was sent. */
  markWarned (): void {
    if (this.#phase.name === 'open') this.#phase.session.warned = true
  }

  /** Throws `RT_UNAUTHENTICATED` before authentication and after the close: a client may leave while its frame waits for a host function. */
  get identity (): Identity {
    if (this.#phase.name !== 'open') throw new RealtimeError('RT_UNAUTHENTICATED')
    return this.#phase.session.identity
  }

  get hidden (): ReadonlySet<string> {
    return this.#hidden ?? NO_CHANNELS
  }

  /** The user's id as text; empty before authentication. */
  get user (): string {
    return this.#phase.name === 'open' ? String(this.#phase.session.identity.userId) : ''
  }

  /** Distinguishes the sockets that used this connection id one after the other; empty before authentication. */
  get generation (): string {
    return this.#phase.name === 'opening' ? '' : this.#phase.session?.generation ?? ''
  }

  get authenticatedAt (): number {
    return this.#phase.name === 'open' ? this.#phase.session.authenticatedAt : 0
  }

  isAutomatic (channel: string): boolean {
    return this.#internals.defaultChannels.has(channel) || channel === privateChannel(this.identity.userId)
  }

  /** Resolves synchronously if the node is already subscribed (bench row "connect"). */
  join (channel: string, since?: number): MaybePromise<Joining> {
    const key = channelKey(this.identity.tenantId, channel)
    const hidden = isHidden(channel)
    if (hidden) (this.#hidden ??= new Set()).add(channel)
    else this.channels.add(channel)
    if (!hidden) this.#onChannelsChanged?.(this)
    return thenMaybe(this.#hub.join(key, this, since), (joining) => {
      // Closed while the backplane subscribed: the cleanup of the socket has already run.
      if (this.#phase.name !== 'open') this.#hub.leave(key, this)
      return joining
    })
  }

  begin (joining: Joining, options?: ReplayOptions): void {
    this.#replayer ??= new Replayer(this, this.#internals.eventLog.replays, (key, first) => { this.#beginAgain(key, first) })
    this.#replayer.begin(joining, options)
    if (this.#replayer.isIdle) this.#replayer = null
  }

  /** Like `begin` for several channels of a stream, which are replayed together in the order of ids. */
  beginTogether (channels: readonly MergedChannel[], since: number): void {
    this.#replayer ??= new Replayer(this, this.#internals.eventLog.replays, (key, first) => { this.#beginAgain(key, first) })
    this.#replayer.beginTogether(channels, since)
  }

  /** `delay`: how long the user still counts as a member of the channel, in milliseconds. */
  leave (channel: string, delay = 0): void {
    if (this.#phase.name === 'opening' || this.#phase.session === null) return
    if (isHidden(channel) ? this.#hidden?.delete(channel) !== true : !this.channels.delete(channel)) return
    const { identity } = this.#phase.session
    this.#hub.leave(channelKey(identity.tenantId, channel), this)
    this.#internals.channelLeft?.(this, identity, channel, delay)
    if (this.#phase.name === 'open' && !isHidden(channel)) this.#onChannelsChanged?.(this)
  }

  /** Writes one frame. Queued frames of the hub are written first, so that a reply does not overtake earlier events. */
  send (payload: Buffer): void {
    this.#hub.flushFor(this)
    this.write(Batch.ofReply(payload))
  }

  /** Collects everything written until the end of this turn into one write (bench row "direct messages, durable"). */
  cork (): void {
    this.transport.cork()
  }

  write (batch: Batch): void {
    const { dropped, framesOut } = this.#metrics
    const { payloads } = batch
    if (this.closed || !this.transport.isOpen) {
      dropped.closing += payloads.length
      return
    }
    const admission = this.#admit(this.transport.sizeOf(batch), payloads.length === 1, batch.isEphemeral)
    if (admission !== 'send') return this.#withhold(admission, batch)
    if (framesOut !== null) for (const payload of payloads) framesOut.addPayload(payload)
    this.transport.write(batch)
  }

  /** Above half of `maxBuffered` ephemeral frames are dropped; above all of it the reader is too slow. */
  #admit (bytes: number, isOneFrame: boolean, isEphemeral: boolean): Admission {
    const half = this.#maxBuffered / 2
    let { waiting } = this
    if (waiting + bytes > half) {
      // Corked bytes were not offered to the kernel yet, so they do not show that a reader is slow.
      this.transport.flush()
      waiting = this.waiting
    }
    // Includes the frames to be written: a single large one must not exceed the limit.
    if (waiting + bytes + (this.#pace?.aside ?? 0) <= half) return 'send'
    const { pace } = this
    if (!(isEphemeral && waiting > 0) && pace.mayWrite(bytes, waiting, isOneFrame)) return 'send'
    if (!isOneFrame) return 'split'
    return isEphemeral ? 'drop' : 'close'
  }

  #withhold (admission: Exclude<Admission, 'send'>, batch: Batch): void {
    if (admission === 'split') {
      // A client that reads takes them one by one, so only the rest waits.
      for (const one of batch.split()) this.write(one)
    } else if (admission === 'drop') {
      this.#metrics.dropped.ephemeral++
    } else {
      this.#metrics.dropped.tooSlow++
      this.giveUp()
    }
  }

  get closed (): boolean {
    return this.#phase.name === 'closing'
  }

  hold (bytes: number): boolean {
    return this.pace.hold(bytes, this.waiting)
  }

  release (bytes: number): void {
    this.pace.aside -= bytes
  }

  room (bytes: number): MaybePromise<void> {
    if (!this.closed && !hasRoom(bytes, this.waiting, this.#maxBuffered)) return this.pace.room(bytes, this)
  }

  giveUp (): void {
    this.close(CloseCode.tooSlow, 'too slow')
  }

  replayed (): void {
    this.#replayer = null
    this.transport.replayed()
  }

  /** Whether bytes are waiting and the client has taken none of them for too long. Called periodically. */
  isStuck (now: number): boolean {
    if (this.waiting > 0) return this.pace.isStuck(this.transport.progress, now)
    this.#pace?.isDone()
    return false
  }

  private get pace (): Pace {
    return this.#pace ??= new Pace(this.#maxBuffered)
  }

  get waiting (): number {
    return this.transport.waiting
  }

  #beginAgain (key: ChannelKey, first: PageSource): void {
    if (this.closed || !this.channels.has(channelOf(key))) return
    void thenMaybe(this.#hub.join(key, this), (joining) => { this.begin(joining, { first }) })
  }

  async runInOrder<T> (task: () => Promise<T>): Promise<T> {
    return await new Promise<T>((resolve, reject) => { this.order.enqueue(() => task().then(resolve, reject)) })
  }

  /** The peer sent something. */
  noteActivity (): void {
    this.missedPings = 0
  }

  ping (now: number): void {
    this.pingedAt = now
    // While the socket is not read, the peer's response to a ping is not read either.
    if (!this.transport.isPaused) this.missedPings++
    this.transport.ping()
  }

  /** Stops writing to the socket, and closes it. The `close` event does the cleanup. */
  close (code: number, reason: string): void {
    if (this.#phase.name === 'closing') return
    this.#hub.flushFor(this)
    this.transport.flush()
    this.#phase = { name: 'closing', since: this.#clock.now(), session: this.#phase.name === 'open' ? this.#phase.session : null, code }
    this.transport.close(code, reason)
  }

  /** The socket was closed, by either side. Returns its session for the cleanup; null if it was never authenticated. */
  end (): Session | null {
    if (this.#phase.name === 'opening') this.#phase = { name: 'closing', since: this.#clock.now(), session: null, code: null }
    if (this.#phase.name === 'open') this.#phase = { name: 'closing', since: this.#clock.now(), session: this.#phase.session, code: null }
    return this.#phase.session
  }

  /** Destroys a socket whose peer does not respond to the close. */
  terminate (): void {
    this.transport.terminate()
  }
}

import { Socket } from 'node:net'
import type { FastifyRequest } from 'fastify'
import type { WebSocket } from 'ws'
import { thenMaybe, isPromise, type MaybePromise } from '../../lib/async/maybe-promise.js'
import { privateChannel } from '../../lib/channel-names.js'
import type { Clock } from '../../lib/clock.js'
import type { LocalConnection } from '../../lib/delivery/connection.js'
import type { Hub } from '../../lib/delivery/hub.js'
import type { Joining } from '../../lib/delivery/joining.js'
import { Replayer, type PageReader, type PageSource, type Reader, type ReplayOptions } from '../../lib/delivery/replayer.js'
import { RealtimeError } from '../../lib/errors.js'
import type { Identity } from '../../lib/identity.js'
import type { Internals } from '../../lib/internals.js'
import { channelKey, channelOf, type ChannelKey } from '../../lib/keys.js'
import type { Metrics } from '../../lib/metrics.js'
import { CloseCode } from '../../lib/wire/close-codes.js'
import { websocketFrame } from '../../lib/wire/websocket-frame.js'
import { FrameLimiter, type FrameLimits } from './frame-limiter.js'
import { progressOf, type RawSocket } from './node/raw-socket.js'
import { hasRoom, Pace, type Paced } from './pace.js'
import { ReplyQueue } from './reply-queue.js'
import type { ClientDescription, ConnectionOptions, Phase, Session, Upgraded } from './session.js'

export type { ClientDescription, ConnectionOptions, Phase, Session, Upgraded } from './session.js'

/** Tasks that may wait for those before them; past it the socket is read no further until they are done. */
const MAX_WAITING = 256

/** One socket: its phase, its channels, and the order of what comes in and goes out. */
export class Connection implements Reader, LocalConnection, Paced {
  phase: Phase
  /** The connection id; empty until it is authenticated. A field: fan-out compares it for each member. */
  id = ''
  readonly channels = new Set<string>()
  readonly replies: ReplyQueue
  /** When it was last pinged, and pings without a sign since. */
  pingedAt: number
  missedPings = 0
  /** Told when its channels changed; null until it is open. */
  recorder: { record (connection: Connection): void } | null = null
  readonly request: FastifyRequest
  readonly client: ClientDescription
  readonly #socket: WebSocket
  readonly #raw: RawSocket | null
  readonly #hub: Hub
  readonly #log: PageReader
  readonly #clock: Clock
  readonly #meters: Metrics
  readonly #maxBuffered: number
  readonly #defaultChannels: ReadonlySet<string>
  #limiter: FrameLimiter | null = null
  readonly #limits: FrameLimits
  /** Null while there is nothing to replay. */
  #replayer: Replayer | null = null
  /** Null until something has waited. */
  #pace: Pace | null = null
  /** What waits for the frame before it; null: nothing does. */
  #tasks: Array<() => MaybePromise<void>> | null = null
  #working = false

  constructor ({ socket, raw, request, client }: Upgraded, { hub, eventLog, clock, metrics, defaultChannels }: Pick<Internals, 'hub' | 'eventLog' | 'clock' | 'metrics' | 'defaultChannels'>, options: ConnectionOptions) {
    this.#socket = socket
    this.#raw = raw
    this.request = request
    this.client = client
    this.#hub = hub
    this.#log = eventLog.replays
    this.#clock = clock
    this.#meters = metrics
    this.#maxBuffered = options.maxBuffered
    this.#defaultChannels = defaultChannels
    this.#limits = options
    this.replies = new ReplyQueue(this)
    this.pingedAt = clock.now()
    this.phase = { name: 'opening', since: this.pingedAt }
  }

  /** Made with the first frame: most connections only listen. */
  get limiter (): FrameLimiter {
    return this.#limiter ??= new FrameLimiter(this.#clock, this.#limits)
  }

  /** It is authenticated. */
  open (session: Session): void {
    this.id = session.connectionId
    this.phase = { name: 'open', session }
  }

  get identity (): Identity {
    // Not yet, or not any more: a client may leave while its frame waits for the host.
    if (this.phase.name !== 'open') throw new RealtimeError('RT_UNAUTHENTICATED')
    return this.phase.session.identity
  }

  /** Which of the sockets under its id it is; empty until it is authenticated. */
  get generation (): string {
    return this.phase.name === 'opening' ? '' : this.phase.session?.generation ?? ''
  }

  get authenticatedAt (): number {
    return this.phase.name === 'open' ? this.phase.session.authenticatedAt : 0
  }

  isAutomatic (channel: string): boolean {
    return this.#defaultChannels.has(channel) || channel === privateChannel(this.identity.userId)
  }

  join (channel: string, since?: number): MaybePromise<Joining> {
    const key = channelKey(this.identity.tenantId, channel)
    this.channels.add(channel)
    this.recorder?.record(this)
    return thenMaybe(this.#hub.join(key, this, since), (joining) => {
      // Closed while the backplane subscribed: nobody else would let go of the channel.
      if (this.phase.name !== 'open') this.#hub.leave(key, this)
      return joining
    })
  }

  begin (joining: Joining, options?: ReplayOptions): void {
    this.#replayer ??= new Replayer(this, this.#log, (key, first) => { this.#beginAgain(key, first) })
    this.#replayer.begin(joining, options)
    if (this.#replayer.isIdle) this.#replayer = null
  }

  leave (channel: string): void {
    if (this.phase.name === 'opening' || this.phase.session === null || !this.channels.delete(channel)) return
    this.#hub.leave(channelKey(this.phase.session.identity.tenantId, channel), this)
    if (this.phase.name === 'open') this.recorder?.record(this)
  }

  /** After the fan-out that is under way, so that a reply never overtakes a frame that came before it. */
  send (payload: Buffer): void {
    this.#hub.flushFor(this)
    this.write(websocketFrame(payload), [payload], false)
  }

  /**
   * What is written from now on until the turn is over leaves as one write. Not in the turn in which frames are read: the
   * last of them may be a close, which is answered at once, and behind that nothing may be written.
   */
  cork (): void {
    this.#raw?.cork()
  }

  write (wire: Buffer, payloads: readonly Buffer[], ephemeral: boolean): void {
    const { dropped, framesOut } = this.#meters
    if (this.phase.name === 'closing' || this.#socket.readyState !== this.#socket.OPEN) {
      dropped.closing += payloads.length
      return
    }
    // What is gathered was not offered to the kernel yet: no reader is slow for that.
    if (this.waiting + wire.length > this.#maxBuffered / 2) this.#raw?.flush()
    // Counted with the frames to come: a single large one must not jump the limit.
    const waiting = this.waiting + wire.length + (this.#pace?.aside ?? 0)
    if (waiting > this.#maxBuffered / 2 && !this.#mayWrite(wire, payloads, ephemeral)) return
    if (framesOut !== null) for (const payload of payloads) framesOut.addPayload(payload)
    if (this.#raw !== null) this.#raw.write(wire)
    else for (const payload of payloads) this.#socket.send(payload, { binary: false })
  }

  get closed (): boolean {
    return this.phase.name === 'closing'
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
  }

  /** It has taken nothing for too long although something waits. Asked again and again. */
  isStuck (now: number): boolean {
    if (this.waiting > 0) return this.pace.isStuck(this.#progress, now)
    this.#pace?.isDone()
    return false
  }

  private get pace (): Pace {
    return this.#pace ??= new Pace(this.#maxBuffered)
  }

  get waiting (): number {
    return this.#raw?.waiting ?? this.#socket.bufferedAmount
  }

  get #progress (): number {
    const { socket } = this.request.raw
    return socket instanceof Socket ? progressOf(socket) : -this.waiting
  }

  /** Past half of what may wait ephemeral frames are dropped; past all of it the reader is too slow. */
  #mayWrite (wire: Buffer, payloads: readonly Buffer[], ephemeral: boolean): boolean {
    const { waiting, pace } = this
    const isAlone = payloads.length === 1
    if (!(ephemeral && waiting > 0) && pace.mayWrite(wire.length, waiting, isAlone)) return true
    if (!isAlone) {
      // Many at once: whoever reads takes them one by one, and only what is left behind waits.
      for (const payload of payloads) this.write(websocketFrame(payload), [payload], ephemeral)
    } else if (ephemeral) {
      this.#meters.dropped.ephemeral++
    } else {
      this.#meters.dropped.tooSlow++
      this.giveUp()
    }
    return false
  }

  #beginAgain (key: ChannelKey, first: PageSource): void {
    if (this.closed || !this.channels.has(channelOf(key))) return
    void thenMaybe(this.#hub.join(key, this), (joining) => { this.begin(joining, { first }) })
  }

  async runInOrder<T> (task: () => Promise<T>): Promise<T> {
    return await new Promise<T>((resolve, reject) => {
      this.enqueueFrame(() => task().then(resolve, reject))
    })
  }

  /** Runs a task that never fails in the same order, right now where none waits: most frames are done in the turn they come. */
  enqueueFrame (task: () => MaybePromise<void>): void {
    if (!this.#working) return this.#work(task)
    this.#tasks ??= []
    if (this.#tasks.push(task) > MAX_WAITING) this.#socket.pause()
  }

  /** Any sign of the peer. */
  noteActivity (): void {
    this.missedPings = 0
  }

  ping (now: number): void {
    this.pingedAt = now
    this.missedPings++
    if (this.#socket.readyState === this.#socket.OPEN) this.#socket.ping()
  }

  /** Stops everything that goes to the socket, and closes it. Cleaning up is for the `close` event alone. */
  close (code: number, reason: string): void {
    if (this.phase.name === 'closing') return
    this.#hub.flushFor(this)
    this.#raw?.flush()
    this.phase = { name: 'closing', since: this.#clock.now(), session: this.phase.name === 'open' ? this.phase.session : null, code }
    this.#socket.close(code, reason)
  }

  /** The socket is closed, by whomever. The session it had, for cleaning up; null where it never was authenticated. */
  end (): Session | null {
    if (this.phase.name === 'opening') this.phase = { name: 'closing', since: this.#clock.now(), session: null, code: null }
    if (this.phase.name === 'open') this.phase = { name: 'closing', since: this.#clock.now(), session: this.phase.session, code: null }
    return this.phase.session
  }

  /** For a peer that does not answer the close. */
  terminate (): void {
    this.#socket.terminate()
  }

  #work (first: (() => MaybePromise<void>) | undefined): void {
    this.#working = true
    for (let task = first; task !== undefined; task = this.#tasks?.shift()) {
      if (this.#socket.isPaused && (this.#tasks?.length ?? 0) <= MAX_WAITING / 2) this.#socket.resume()
      const done = task()
      if (isPromise(done)) {
        void done.then(() => { this.#work(this.#tasks?.shift()) })
        return
      }
    }
    this.#tasks = null
    this.#working = false
  }
}

import type { FastifyRequest } from 'fastify'
import type { WebSocket } from 'ws'
import { channelKey, privateChannel } from '../../lib/channels.js'
import type { Clock } from '../../lib/clock.js'
import type { Realtime } from '../../lib/core.js'
import type { LocalConnection } from '../../lib/frame-router.js'
import type { Hub, Joining, Member } from '../../lib/hub.js'
import type { Identity } from '../../lib/identity.js'
import { andThen, isPromise, type Maybe } from '../../lib/maybe.js'
import type { Meters } from '../../lib/meters.js'
import { CloseCode } from '../../lib/protocol.js'
import type { Device } from '../../lib/schemas.js'
import { wireFrame } from '../../lib/ws-frame.js'
import { FrameGauge, type FrameLimits } from './frame-gauge.js'
import type { RawSocket } from './raw-socket.js'
import { ReplyQueue } from './reply-queue.js'

/** What an authenticated connection is to the roster and to others. */
export interface Session {
  identity: Identity
  connectionId: string
  generation: string
  connectedAt: number
  /** When the credentials were shown. */
  authenticatedAt: number
  /** Told that its credentials end soon. */
  warned: boolean
}

/** What is known of the client besides its identity. */
export interface ClientDescription {
  browser: string | null
  device: Device
  ipAddress: string | null
}

/** What a connection is made of. */
export interface Upgraded {
  socket: WebSocket
  /** Where frames can be written as they are; null behind compression or a test's stream. */
  raw: RawSocket | null
  /** The upgrade request: later `auth` frames are shown to the host with it. */
  request: FastifyRequest
  client: ClientDescription
}

/** Before, during and after its life as an authenticated connection. */
export type Phase =
  | { name: 'opening', since: number }
  | { name: 'open', session: Session }
  | { name: 'closing', since: number, session: Session | null }

export interface ConnectionOptions extends FrameLimits {
  /** Bytes that may wait for a slow reader. */
  maxBuffered: number
}

/** Tasks that may wait for those before them; past it the socket is read no further until they are done. */
const MAX_WAITING = 256

/** One socket: its phase, its channels, and the order of what comes in and goes out. */
export class Connection implements Member, LocalConnection {
  phase: Phase
  /** The connection id; empty until it is authenticated. A field: fan-out compares it for each member. */
  id = ''
  readonly channels = new Set<string>()
  readonly replies: ReplyQueue
  /** When it was last pinged, and pings without a sign since. */
  pingedAt: number
  unanswered = 0
  /** Told when its channels changed; null until it is open. */
  recorder: { record (connection: Connection): void } | null = null
  readonly request: FastifyRequest
  readonly client: ClientDescription
  readonly #socket: WebSocket
  readonly #raw: RawSocket | null
  readonly #hub: Hub
  readonly #clock: Clock
  readonly #meters: Meters
  readonly #maxBuffered: number
  readonly #automatic: ReadonlySet<string>
  #gauge: FrameGauge | null = null
  readonly #limits: FrameLimits
  /** What waits for the frame before it; null: nothing does. */
  #tasks: Array<() => Maybe<void>> | null = null
  #working = false

  constructor ({ socket, raw, request, client }: Upgraded, { hub, clock, meters, automaticChannels }: Pick<Realtime, 'hub' | 'clock' | 'meters' | 'automaticChannels'>, options: ConnectionOptions) {
    this.#socket = socket
    this.#raw = raw
    this.request = request
    this.client = client
    this.#hub = hub
    this.#clock = clock
    this.#meters = meters
    this.#maxBuffered = options.maxBuffered
    this.#automatic = automaticChannels
    this.#limits = options
    this.replies = new ReplyQueue(this)
    this.pingedAt = clock.now()
    this.phase = { name: 'opening', since: this.pingedAt }
  }

  /** Made with the first frame: most connections only listen. */
  get gauge (): FrameGauge {
    return this.#gauge ??= new FrameGauge(this.#clock, this.#limits)
  }

  /** It is authenticated. */
  open (session: Session): void {
    this.id = session.connectionId
    this.phase = { name: 'open', session }
  }

  get identity (): Identity {
    if (this.phase.name !== 'open') throw new Error('not authenticated')
    return this.phase.session.identity
  }

  get authenticatedAt (): number {
    return this.phase.name === 'open' ? this.phase.session.authenticatedAt : 0
  }

  isAutomatic (channel: string): boolean {
    return this.#automatic.has(channel) || channel === privateChannel(this.identity.userId)
  }

  join (channel: string): Maybe<Joining> {
    const key = channelKey(this.identity.tenantId, channel)
    this.channels.add(channel)
    this.recorder?.record(this)
    return andThen(this.#hub.join(key, this), (joining) => {
      // Closed while the backplane subscribed: nobody else would let go of the channel.
      if (this.phase.name !== 'open') this.#hub.leave(key, this)
      return joining
    })
  }

  leave (channel: string): void {
    if (this.phase.name === 'opening' || this.phase.session === null || !this.channels.delete(channel)) return
    this.#hub.leave(channelKey(this.phase.session.identity.tenantId, channel), this)
    if (this.phase.name === 'open') this.recorder?.record(this)
  }

  /** After the fan-out that is under way, so that a reply never overtakes a frame that came before it. */
  send (payload: Buffer): void {
    this.#hub.flushFor(this)
    this.write(wireFrame(payload), [payload], false)
  }

  /**
   * What is written from now on until the turn is over leaves as one write. Not in the turn in which frames are read: the
   * last of them may be a close, which is answered at once, and behind that nothing may be written.
   */
  gather (): void {
    this.#raw?.gather()
  }

  write (wire: Buffer, payloads: readonly Buffer[], ephemeral: boolean): void {
    const { dropped, framesOut } = this.#meters
    if (this.phase.name === 'closing' || this.#socket.readyState !== this.#socket.OPEN) {
      dropped.closing += payloads.length
      return
    }
    // What is gathered was not offered to the kernel yet: no reader is slow for that.
    if (this.#waiting + wire.length > this.#maxBuffered / 2) this.#raw?.flush()
    // Counted with the frames to come: a single large one must not jump the limit.
    const waiting = this.#waiting + wire.length
    if (waiting > this.#maxBuffered / 2) {
      if (ephemeral) {
        dropped.ephemeral += payloads.length
        return
      }
      if (waiting > this.#maxBuffered) {
        // Many at once: whoever reads takes them one by one, and only what is left behind waits.
        if (payloads.length > 1) return payloads.forEach((payload) => { this.write(wireFrame(payload), [payload], false) })
        dropped.tooSlow += payloads.length
        this.close(CloseCode.tooSlow, 'too slow')
        return
      }
    }
    if (framesOut !== null) for (const payload of payloads) framesOut.addPayload(payload)
    if (this.#raw !== null) this.#raw.write(wire)
    else for (const payload of payloads) this.#socket.send(payload, { binary: false })
  }

  get closed (): boolean {
    return this.phase.name === 'closing'
  }

  async replay (payloads: readonly Buffer[]): Promise<void> {
    for (const payload of payloads) {
      if (this.closed) return
      this.gather()
      this.send(payload)
      // A long replay must not make its reader too slow: half of the buffer is left to live frames.
      while (!this.closed && this.#waiting > this.#maxBuffered / 4) await new Promise((resolve) => setTimeout(resolve, 10))
    }
  }

  get #waiting (): number {
    return this.#raw?.waiting ?? this.#socket.bufferedAmount
  }

  async inOrder<T> (task: () => Promise<T>): Promise<T> {
    return await new Promise<T>((resolve, reject) => {
      this.enqueue(() => task().then(resolve, reject))
    })
  }

  /** Runs a task that never fails in the same order, right now where none waits: most frames are done in the turn they come. */
  enqueue (task: () => Maybe<void>): void {
    if (!this.#working) return this.#work(task)
    this.#tasks ??= []
    if (this.#tasks.push(task) > MAX_WAITING) this.#socket.pause()
  }

  /** Any sign of the peer. */
  heard (): void {
    this.unanswered = 0
  }

  ping (now: number): void {
    this.pingedAt = now
    this.unanswered++
    if (this.#socket.readyState === this.#socket.OPEN) this.#socket.ping()
  }

  /** Stops everything that goes to the socket, and closes it. Cleaning up is for the `close` event alone. */
  close (code: number, reason: string): void {
    if (this.phase.name === 'closing') return
    this.#hub.flushFor(this)
    this.#raw?.flush()
    this.phase = { name: 'closing', since: this.#clock.now(), session: this.phase.name === 'open' ? this.phase.session : null }
    this.#socket.close(code, reason)
  }

  /** The socket is closed, by whomever. The session it had, for cleaning up; null where it never was authenticated. */
  end (): Session | null {
    if (this.phase.name === 'opening') this.phase = { name: 'closing', since: this.#clock.now(), session: null }
    if (this.phase.name === 'open') this.phase = { name: 'closing', since: this.#clock.now(), session: this.phase.session }
    return this.phase.session
  }

  /** For a peer that does not answer the close. */
  terminate (): void {
    this.#socket.terminate()
  }

  #work (first: (() => Maybe<void>) | undefined): void {
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

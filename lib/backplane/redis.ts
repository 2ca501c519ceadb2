import type { FastifyBaseLogger } from 'fastify'
import type { ChannelKey } from '../keys.js'
import type { RedisConnections } from '../redis/connect.js'
import type { RedisHealth } from '../redis/health.js'
import { Batches } from './batches.js'
import { Canary, isCanary } from './canary.js'
import type { Backplane, BackplaneHandlers, OutgoingEvent } from './contract.js'
import { open, readFrames, type Opened, type Rejection } from './envelope.js'
import { NodeRpc } from './node-rpc.js'
import { linkTo, type RedisLink } from './redis-pub-sub.js'
import { Rejections } from './rejections.js'
import { SequenceTracker } from './sequence-tracker.js'
import { Signer } from './signer.js'
import { Topics } from './topics.js'
import { UnconfirmedPublishes } from './unconfirmed-publishes.js'

/** Pause between two canaries, between two comparisons of sequences with Redis, and before what was refused is tried again. */
const PROBE_INTERVAL_MS = 1000
const COMPARE_INTERVAL_MS = 10_000
const RETRY = 1000

export interface RedisBackplaneOptions {
  log: FastifyBaseLogger
  /** Messages are signed with the first, and must be signed with one of them; none: nothing is signed. */
  secrets?: readonly string[]
  /** A message was dropped. */
  rejected?: (reason: Rejection) => void
}

export class RedisBackplane implements Backplane {
  readonly nodeId: string
  readonly #link: RedisLink
  readonly #health: RedisHealth
  readonly #topics: Topics
  readonly #log: FastifyBaseLogger
  readonly #signer: Signer
  readonly #rejections: Rejections
  readonly #rpc: NodeRpc
  readonly #sendProbe: Canary
  /** Each with what resolves when Redis has it. */
  readonly #subscriptions = new Map<ChannelKey, Promise<void>>()
  readonly #sequences: SequenceTracker
  readonly #unconfirmed = new UnconfirmedPublishes((key, frames) => { this.#handlers?.onEvents(key, frames) })
  /** Channels of which what may be lost was looked for since Redis last worked: to look on and on would hold them up. */
  readonly #gapChecked = new Set<ChannelKey>()
  /** Channels on which a message was dropped: if it was numbered, it is missing. */
  readonly #suspect = new Set<ChannelKey>()
  readonly #batches = new Batches(async (channels) => { await this.#send(channels) })
  readonly #timers: NodeJS.Timeout[] = []
  #joining: { keys: Set<ChannelKey>, done: Promise<void> } | null = null
  #handlers: BackplaneHandlers | null = null
  /** Not everything is subscribed. */
  #isDisconnected = false
  /** Attempts to subscribe again; those before the last are void. */
  #attempt = 0
  #refused = false
  /** Times in a row that the subscription was dead. */
  #deaf = 0

  constructor (nodeId: string, redis: RedisConnections, { log, secrets = [], rejected = () => {} }: RedisBackplaneOptions) {
    this.nodeId = nodeId
    this.#link = linkTo(redis)
    this.#health = redis.health
    this.#log = log
    this.#signer = new Signer(secrets)
    this.#topics = new Topics(redis.prefix, this.#signer)
    this.#rejections = new Rejections(log, rejected)
    this.#sequences = new SequenceTracker(async (keys) => await this.#link.counters(keys.map((key) => this.#topics.counter(key))))
    this.#rpc = new NodeRpc(nodeId, async (to, text) => { await this.#post(to, text) })
    this.#sendProbe = new Canary(async (text) => { await this.#post(nodeId, text) })
  }

  get healthy (): boolean {
    return this.#health.ok && this.#link.ready && !this.#isDisconnected && !this.#sendProbe.isDeaf
  }

  async start (handlers: BackplaneHandlers): Promise<void> {
    this.#handlers = handlers
    this.#rpc.handler = handlers.onRequest
    this.#link.listen({
      onMessage: (topic, message) => { this.#receive(topic, message) },
      onDisconnected: () => {
        this.#isDisconnected = true
        this.#attempt++
        this.#deliverLocally([])
      },
      onReady: () => { void this.#resubscribe() }
    })
    // Where subscriptions are still to be made, they call when they are.
    this.#health.onChange((ok) => { if (ok && !this.#isDisconnected) this.#handlers?.onReconnected() })
    await this.#link.subscribe([this.#topics.node(this.nodeId)])
    this.#timers.push(setInterval(() => { this.#listen() }, PROBE_INTERVAL_MS))
    this.#timers.push(setInterval(() => { void this.#compare() }, COMPARE_INTERVAL_MS))
  }

  publish (key: ChannelKey, frame: OutgoingEvent): Promise<void> {
    const done = this.#batches.add(key, frame)
    if (frame.messageId > 0 && !frame.isRetry && this.#subscriptions.has(key)) this.#unconfirmed.add(key, frame)
    return done
  }

  publishLocally (key: ChannelKey, frame: OutgoingEvent): void {
    this.#deliverWithoutRedis(key, this.#unconfirmed.drain(key))
    if (this.#subscriptions.has(key)) this.#handlers?.onEvents(key, [frame])
  }

  mayHaveSubscribers (): boolean {
    return true // who is subscribed elsewhere is Redis' to know
  }

  async subscribe (key: ChannelKey): Promise<void> {
    const known = this.#subscriptions.get(key)
    if (known !== undefined) return await known
    const ready = this.#joinNext(key)
    this.#subscriptions.set(key, ready)
    this.#sequences.add(key)
    await ready
  }

  unsubscribe (key: ChannelKey): void {
    this.#unconfirmed.forget(key)
    this.#gapChecked.delete(key)
    this.#sequences.delete(key)
    if (!this.#subscriptions.delete(key) || this.#joining?.keys.delete(key) === true) return
    this.#link.unsubscribe(this.#topics.channel(key))
  }

  async call (nodeId: string, op: string, data: unknown): Promise<unknown> {
    return await this.#rpc.call(nodeId, op, data)
  }

  async close (): Promise<void> {
    for (const timer of this.#timers) clearInterval(timer)
    await this.#batches.flushed()
    this.#attempt++
    this.#rejections.close()
    this.#rpc.close()
    this.#handlers = null
  }

  async #send (channels: Array<[ChannelKey, OutgoingEvent[]]>): Promise<void> {
    try {
      await this.#link.publish(channels.map(([key, frames]) => this.#topics.frames(key, frames)))
    } catch (err) {
      // Redis is away: the users of this node still reach each other.
      this.#deliverLocally(channels)
      throw err
    }
    // Published, but this node's own subscription is down: it would be the only one not to hear it.
    if (this.#isDisconnected) this.#deliverLocally(channels)
    else this.#gapChecked.clear()
  }

  async #post (nodeId: string, text: string): Promise<void> {
    await this.#link.publish([this.#topics.text(nodeId, text)])
  }

  /** Older frames first, whose turn to fail may be still to come. Ids that come again are dropped by the hub. */
  #deliverLocally (channels: Array<[ChannelKey, OutgoingEvent[]]>): void {
    for (const [key, frames] of [...this.#unconfirmed.drainAll(), ...channels]) this.#deliverWithoutRedis(key, frames)
  }

  /**
   * What the same sender sent through another node may be lost ahead of these: it is looked for first. A retry is not
   * told this way at all: where its channel is filled it comes in its place, elsewhere with its next turn.
   */
  #deliverWithoutRedis (key: ChannelKey, frames: readonly OutgoingEvent[]): void {
    const first = frames.filter(({ isRetry }) => !isRetry)
    if (!this.#subscriptions.has(key) || first.length === 0) return
    if (first.some(({ messageId }) => messageId > 0) && !this.#gapChecked.has(key)) {
      this.#gapChecked.add(key)
      this.#handlers?.onGap([key])
    }
    this.#handlers?.onEvents(key, first)
  }

  /** Nothing that comes from Redis may be thrown from here: it would end the process. */
  #receive (topic: string, message: Buffer): void {
    const key = this.#topics.keyOf(topic)
    if (key !== null && !this.#subscriptions.has(key)) return // left meanwhile
    try {
      const opened = open(message, topic, this.#signer)
      const rejection = typeof opened === 'string' ? opened : key === null ? this.#read(opened) : this.#hear(key, opened)
      if (rejection !== null) this.#reject(rejection, key)
    } catch (err) {
      this.#reject('malformed', key, err)
    }
  }

  #hear (key: ChannelKey, { number, first, content }: Opened): Rejection | null {
    const frames = readFrames(content)
    if (frames === null) return 'malformed'
    this.#sendProbe.heardOther()
    if (number !== null) {
      this.#unconfirmed.acknowledge(key, frames)
      // Cut, and heard by a new subscription that came in one piece with this: what was lost before it is not looked for yet.
      if (!this.#sequences.accept(key, number, first) || this.#isDisconnected) this.#handlers?.onGap([key])
    }
    this.#handlers?.onEvents(key, frames)
    return null
  }

  #read ({ content }: Opened): Rejection | null {
    const text = content.toString()
    if (!isCanary(text)) return this.#rpc.receive(text) ? null : 'malformed'
    const sentAt = this.#sendProbe.returned(text)
    if (sentAt === null) return null // one that was given up, or nobody's
    this.#deaf = 0
    this.#handlers?.onProbe(sentAt)
    return null
  }

  /** A message that had a number is missing now, and no later one may show it: the counter is looked at soon. */
  #reject (reason: Rejection, key: ChannelKey | null, err?: unknown): void {
    this.#rejections.add(reason, err)
    if (key === null || this.#suspect.add(key).size > 1) return
    this.#later(() => {
      const keys = [...this.#suspect]
      this.#suspect.clear()
      void this.#compare(keys)
    })
  }

  /** Subscriptions asked for within one turn leave as one command. */
  async #joinNext (key: ChannelKey): Promise<void> {
    if (this.#joining === null) {
      const keys = new Set<ChannelKey>()
      const done = new Promise<void>((resolve) => setImmediate(resolve)).then(async () => {
        this.#joining = null
        await this.#subscribeAll([...keys])
      })
      this.#joining = { keys, done }
    }
    this.#joining.keys.add(key)
    await this.#joining.done
  }

  async #subscribeAll (keys: ChannelKey[]): Promise<void> {
    try {
      await this.#link.subscribe(keys.map((key) => this.#topics.channel(key)))
      await this.#sequences.initialise(keys)
    } catch {
      // Redis is away: the table above is what is subscribed when it is back. Unless it was only this that it refused.
      if (this.#link.ready && !this.#isDisconnected) this.#subscribeLater()
    }
  }

  #subscribeLater (): void {
    const attempt = ++this.#attempt
    this.#isDisconnected = true
    this.#later(() => { if (attempt === this.#attempt) void this.#resubscribe() })
  }

  /** After every reconnect, from the local table: what the connection knew is gone with it. */
  async #resubscribe (): Promise<void> {
    const attempt = ++this.#attempt
    try {
      const keys = [...this.#subscriptions.keys()]
      await this.#link.subscribe([this.#topics.node(this.nodeId), ...keys.map((key) => this.#topics.channel(key))])
      if (attempt !== this.#attempt) return
      this.#sequences.reset()
      this.#isDisconnected = false
      this.#refused = false
      this.#gapChecked.clear()
      this.#sendProbe.restart()
      this.#sendProbe.fly()
      this.#log.info({ channels: keys.length }, 'backplane subscribed again')
      this.#handlers?.onGap(keys)
      // With only the subscriber back nothing can be sent yet; the health's change calls then.
      if (this.#health.ok) this.#handlers?.onReconnected()
      await this.#sequences.initialise(keys).catch(() => {}) // then each begins with its next message
    } catch (err) {
      // Where the connection broke meanwhile, the next one begins anew.
      if (attempt !== this.#attempt) return
      if (!this.#refused) this.#log.warn({ reason: (err as Error).message }, 'backplane cannot subscribe again yet')
      this.#refused = true
      this.#subscribeLater()
    }
  }

  #listen (): void {
    if (this.#sendProbe.isDeaf) {
      this.#log.warn('backplane hears nothing: connecting again')
      this.#sendProbe.restart()
      // Twice in a row: perhaps it is the other connection that leads to the wrong server.
      this.#link.reconnect(++this.#deaf > 1)
    } else if (!this.#isDisconnected) {
      this.#sendProbe.fly()
    }
  }

  async #compare (keys?: ChannelKey[]): Promise<void> {
    if (!this.healthy) return
    try {
      const lost = await this.#sequences.findGaps(keys)
      if (lost.length > 0) this.#handlers?.onGap(lost)
    } catch {
      // Redis is away: the reconnect looks after everything
    }
  }

  #later (task: () => void): void {
    setTimeout(() => { if (this.#handlers !== null) task() }, RETRY).unref()
  }
}

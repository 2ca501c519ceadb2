import type { FastifyBaseLogger } from 'fastify'
import type { ChannelKey } from '../keys.js'
import type { RedisConnections } from '../redis/connect.js'
import type { RedisHealth } from '../redis/health.js'
import { Batches } from './batches.js'
import { hasWarned, type ConnectionState } from './connection-state.js'
import type { Backplane, BackplaneHandlers, OutgoingEvent } from './contract.js'
import { open, readEvents, type Opened, type Rejection } from './envelope.js'
import { Leaving } from './leaving.js'
import { NodeRpc } from './node-rpc.js'
import { isProbe, Probe } from './probe.js'
import { createPubSub, type RedisPubSub } from './redis-pub-sub.js'
import { Rejections } from './rejections.js'
import { SequenceTracker } from './sequence-tracker.js'
import { Signer } from './signer.js'
import { Topics } from './topics.js'
import { UnconfirmedPublishes } from './unconfirmed-publishes.js'

/** Milliseconds between two probes. */
const PROBE_INTERVAL_MS = 1000
/** Milliseconds between two comparisons of all channels' numbers with Redis. */
const COMPARE_INTERVAL_MS = 10_000
/** Milliseconds before a subscription or comparison is tried again. */
const RETRY_DELAY_MS = 1000

export interface RedisBackplaneOptions {
  log: FastifyBaseLogger
  /** Messages are signed with the first secret, and accepted with a signature by any of them. Without a secret nothing is signed. */
  secrets?: readonly string[]
  /** Called for each dropped message. */
  rejected?: (reason: Rejection) => void
}

export class RedisBackplane implements Backplane {
  readonly nodeId: string
  readonly #pubSub: RedisPubSub
  readonly #health: RedisHealth
  readonly #topics: Topics
  readonly #log: FastifyBaseLogger
  readonly #signer: Signer
  readonly #rejections: Rejections
  readonly #rpc: NodeRpc
  readonly #probe: Probe
  /** Each with a promise that resolves when Redis has the subscription. */
  readonly #subscriptions = new Map<ChannelKey, Promise<void>>()
  readonly #sequences: SequenceTracker
  readonly #unconfirmed = new UnconfirmedPublishes((key, events) => { this.#handlers?.onEvents(key, events) })
  /** Channels already checked for gaps during this outage; checking on every event would delay them. */
  readonly #gapChecked = new Set<ChannelKey>()
  /** Channels on which a message was dropped; a numbered one leaves a gap. */
  readonly #suspect = new Set<ChannelKey>()
  readonly #batches = new Batches(async (channels) => { await this.#send(channels) })
  readonly #timers: NodeJS.Timeout[] = []
  readonly #leaving = new Leaving((key) => this.#subscriptions.has(key), (keys) => { if (this.#handlers !== null) this.#pubSub.unsubscribe(this.#topics.channels(keys)) })
  #joining: { keys: Set<ChannelKey>, done: Promise<void> } | null = null
  #handlers: BackplaneHandlers | null = null
  /** Replaced by a new object with every transition: an attempt to subscribe is void if the state is not the one it set. */
  #state: ConnectionState = { name: 'connected' }
  /** Number of consecutive dead subscriptions. */
  #deadSubscriptions = 0

  constructor (nodeId: string, redis: RedisConnections, { log, secrets = [], rejected = () => {} }: RedisBackplaneOptions) {
    this.nodeId = nodeId
    this.#pubSub = createPubSub(redis)
    this.#health = redis.health
    this.#log = log
    this.#signer = new Signer(secrets)
    this.#topics = new Topics(redis.prefix, this.#signer)
    this.#rejections = new Rejections(log, rejected)
    this.#sequences = new SequenceTracker(async (keys) => await this.#pubSub.counters(keys.map((key) => this.#topics.counter(key))))
    this.#rpc = new NodeRpc(nodeId, async (to, text) => { await this.#post(to, text) })
    this.#probe = new Probe(async (text) => { await this.#post(nodeId, text) })
  }

  get healthy (): boolean {
    return this.#health.ok && this.#pubSub.ready && this.#isConnected && !this.#probe.isDead
  }

  get #isConnected (): boolean {
    return this.#state.name === 'connected'
  }

  async start (handlers: BackplaneHandlers): Promise<void> {
    this.#handlers = handlers
    this.#rpc.handler = handlers.onRequest
    this.#pubSub.listen({
      onMessage: (topic, message) => { this.#receive(topic, message) },
      onDisconnected: () => {
        this.#state = { name: 'disconnected', hasWarned: hasWarned(this.#state) }
        this.#deliverLocally([])
      },
      onReady: () => { void this.#resubscribe() }
    })
    // While disconnected, #resubscribe calls it.
    this.#health.onChange((ok) => { if (ok && this.#isConnected) this.#handlers?.onReconnected() })
    await this.#pubSub.subscribe([this.#topics.node(this.nodeId)])
    this.#timers.push(setInterval(() => { this.#checkSubscription() }, PROBE_INTERVAL_MS))
    this.#timers.push(setInterval(() => { void this.#compare() }, COMPARE_INTERVAL_MS))
  }

  publish (key: ChannelKey, event: OutgoingEvent): Promise<void> {
    const done = this.#batches.add(key, event)
    if (event.messageId > 0 && !event.isRetry && this.#subscriptions.has(key)) this.#unconfirmed.add(key, event)
    return done
  }

  publishLocally (key: ChannelKey, event: OutgoingEvent): void {
    this.#deliverWithoutRedis(key, this.#unconfirmed.drain(key))
    if (this.#subscriptions.has(key)) this.#handlers?.onEvents(key, [event])
  }

  mayHaveSubscribers (): boolean {
    return true // subscriptions of other nodes are known to Redis alone
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
    if (this.#subscriptions.delete(key) && this.#joining?.keys.delete(key) !== true) this.#leaving.add(key)
  }

  async call (nodeId: string, op: string, data: unknown): Promise<unknown> {
    return await this.#rpc.call(nodeId, op, data)
  }

  async close (): Promise<void> {
    for (const timer of this.#timers) clearInterval(timer)
    await this.#batches.flushed()
    this.#state = { name: 'disconnected', hasWarned: true }
    this.#rejections.close()
    this.#rpc.close()
    this.#handlers = null
  }

  async #send (channels: Array<[ChannelKey, OutgoingEvent[]]>): Promise<void> {
    try {
      await this.#pubSub.publish(channels.map(([key, events]) => this.#topics.events(key, events)))
    } catch (err) {
      // While Redis is away, the users of this node still reach each other.
      this.#deliverLocally(channels)
      throw err
    }
    // Without a subscription this node would be the only one that does not receive the events.
    if (this.#isConnected) this.#gapChecked.clear()
    else this.#deliverLocally(channels)
  }

  async #post (nodeId: string, text: string): Promise<void> {
    await this.#pubSub.publish([this.#topics.text(nodeId, text)])
  }

  /** Delivers older events first, whose publishing may not have failed yet. The hub drops ids that arrive again. */
  #deliverLocally (channels: Array<[ChannelKey, OutgoingEvent[]]>): void {
    for (const [key, events] of [...this.#unconfirmed.drainAll(), ...channels]) this.#deliverWithoutRedis(key, events)
  }

  /**
   * Delivers to local members without Redis. An event that the same user sent through another node may be missing ahead of
   * these, so the gap is read first. Retries are skipped; they come back with the next attempt.
   */
  #deliverWithoutRedis (key: ChannelKey, events: readonly OutgoingEvent[]): void {
    const firstAttempts = events.filter(({ isRetry }) => !isRetry)
    if (!this.#subscriptions.has(key) || firstAttempts.length === 0) return
    if (firstAttempts.some(({ messageId }) => messageId > 0) && !this.#gapChecked.has(key)) {
      this.#gapChecked.add(key)
      this.#handlers?.onGap([key])
    }
    this.#handlers?.onEvents(key, firstAttempts)
  }

  /** Must not throw, whatever Redis sends: that would end the process. */
  #receive (topic: string, message: Buffer): void {
    const key = this.#topics.keyOf(topic)
    if (key !== null && !this.#subscriptions.has(key)) return // unsubscribed in the meantime
    try {
      const opened = open(message, topic, this.#signer)
      const rejection = typeof opened === 'string' ? opened : key === null ? this.#receiveText(opened) : this.#receiveEvents(key, opened)
      if (rejection !== null) this.#reject(rejection, key)
    } catch (err) {
      this.#reject('malformed', key, err)
    }
  }

  #receiveEvents (key: ChannelKey, { number, isFirst, content }: Opened): Rejection | null {
    const events = readEvents(content)
    if (events === null) return 'malformed'
    this.#probe.noteOther()
    if (number !== null) {
      this.#unconfirmed.acknowledge(key, events)
      // While resubscribing, this may be the first message after an outage whose losses were not checked yet.
      if (!this.#sequences.accept(key, number, isFirst) || !this.#isConnected) this.#handlers?.onGap([key])
    }
    this.#handlers?.onEvents(key, events)
    return null
  }

  #receiveText ({ content }: Opened): Rejection | null {
    const text = content.toString()
    if (!isProbe(text)) return this.#rpc.receive(text) ? null : 'malformed'
    const sentAt = this.#probe.receive(text)
    if (sentAt === null) return null // no longer awaited, or not sent by this node
    this.#deadSubscriptions = 0
    this.#handlers?.onProbe(sentAt)
    return null
  }

  /** A numbered message that is dropped leaves a gap, which perhaps no later message reveals: compares the counter soon. */
  #reject (reason: Rejection, key: ChannelKey | null, err?: unknown): void {
    this.#rejections.add(reason, err)
    if (key === null || this.#suspect.add(key).size > 1) return
    this.#later(() => {
      const keys = [...this.#suspect]
      this.#suspect.clear()
      void this.#compare(keys)
    })
  }

  /** Subscriptions within one turn of the event loop are sent as one command. */
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
      await this.#pubSub.subscribe(this.#topics.channels(keys))
      await this.#sequences.initialise(keys)
    } catch {
      // If Redis is away, #resubscribe subscribes to everything in #subscriptions. If it rejected only this command, try again.
      if (this.#pubSub.ready && this.#isConnected) this.#subscribeLater()
    }
  }

  #subscribeLater (): void {
    const state = this.#state = { name: 'resubscribing', hasWarned: hasWarned(this.#state) }
    this.#later(() => { if (this.#state === state) void this.#resubscribe() })
  }

  /** Subscribes to everything in #subscriptions, because a new connection has no subscriptions. */
  async #resubscribe (): Promise<void> {
    // Servers of a cluster can change without the loss of a subscription: then the node stays connected.
    const state: ConnectionState = this.#state = this.#isConnected ? { name: 'connected' } : { name: 'resubscribing', hasWarned: hasWarned(this.#state) }
    try {
      const keys = [...this.#subscriptions.keys()]
      await this.#pubSub.subscribe([this.#topics.node(this.nodeId), ...this.#topics.channels(keys)])
      if (this.#state !== state) return
      this.#sequences.reset()
      this.#state = { name: 'connected' }
      this.#gapChecked.clear()
      this.#probe.restart()
      this.#probe.send()
      this.#log.info({ channels: keys.length }, 'Backplane subscribed to Redis again')
      this.#handlers?.onGap(keys)
      // If only the connection of the subscriptions is back, #health reports later that writes work.
      if (this.#health.ok) this.#handlers?.onReconnected()
      await this.#sequences.initialise(keys).catch(() => {}) // then each channel starts with its next message
    } catch (err) {
      // If the connection was lost in the meantime, the next one starts another attempt.
      if (this.#state !== state) return
      if (!hasWarned(this.#state)) this.#log.warn({ reason: (err as Error).message }, 'Backplane cannot subscribe to Redis, retrying')
      this.#state = { name: 'resubscribing', hasWarned: true }
      this.#subscribeLater()
    }
  }

  #checkSubscription (): void {
    if (this.#probe.isDead) {
      this.#log.warn('Backplane receives no messages from Redis, reconnecting')
      this.#probe.restart()
      // After the second time in a row, the connection of the commands may be the one to a wrong server.
      this.#pubSub.reconnect(++this.#deadSubscriptions > 1)
    } else if (this.#isConnected) {
      this.#probe.send()
    }
  }

  async #compare (keys?: ChannelKey[]): Promise<void> {
    if (!this.healthy) return
    try {
      const lost = await this.#sequences.findGaps(keys)
      if (lost.length > 0) this.#handlers?.onGap(lost)
    } catch {
      // Redis is away; gaps are read after the reconnect.
    }
  }

  #later (task: () => void): void {
    setTimeout(() => { if (this.#handlers !== null) task() }, RETRY_DELAY_MS).unref()
  }
}

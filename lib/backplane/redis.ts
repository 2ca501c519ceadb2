import type { FastifyBaseLogger } from 'fastify'
import type { ChannelKey } from '../channels.js'
import type { Backplane, BackplaneHandlers, Frame } from './contract.js'
import { decodeMessage, encodeFrames } from './envelope.js'
import { NodeMail } from './node-mail.js'
import { OwnFrames } from './own-frames.js'
import type { RedisLink } from './redis-link.js'
import { Sequences } from './sequences.js'

/** Pause between two canaries, and between two comparisons of sequences with Redis. */
const CANARY_INTERVAL = 5000
const COMPARE_INTERVAL = 10_000
/** The first byte of a canary, `!`; mail between nodes is JSON. */
const CANARY = 0x21

interface Batch {
  channels: Map<ChannelKey, Frame[]>
  done: Promise<void>
  settle: (result: Promise<void>) => void
}

export class RedisBackplane implements Backplane {
  readonly nodeId: string
  readonly #link: RedisLink
  readonly #prefix: string
  readonly #log: FastifyBaseLogger
  readonly #mail: NodeMail
  /** Each with what resolves when Redis has it. */
  readonly #subscriptions = new Map<ChannelKey, Promise<void>>()
  readonly #sequences: Sequences
  readonly #own = new OwnFrames((key, frames) => { this.#handlers?.deliver(key, frames) })
  /** Channels of which what may be lost was looked for since Redis last worked: to look on and on would hold them up. */
  readonly #lookedFor = new Set<ChannelKey>()
  readonly #timers: NodeJS.Timeout[] = []
  #joining: { keys: Set<ChannelKey>, done: Promise<void> } | null = null
  #batch: Batch | null = null
  #handlers: BackplaneHandlers | null = null
  #canarySeen = Date.now()
  #cut = false

  constructor (nodeId: string, link: RedisLink, prefix: string, log: FastifyBaseLogger) {
    this.nodeId = nodeId
    this.#link = link
    this.#prefix = prefix
    this.#log = log
    this.#sequences = new Sequences(async (keys) => (await link.counters(keys.map((key) => this.#counter(key)))).map(Number))
    this.#mail = new NodeMail(nodeId, async (to, text) => { await this.#link.send(this.#nodeTopic(to), text) })
  }

  get healthy (): boolean {
    return !this.#cut && this.#link.ready && Date.now() - this.#canarySeen < 3 * CANARY_INTERVAL
  }

  async start (handlers: BackplaneHandlers): Promise<void> {
    this.#handlers = handlers
    this.#mail.handler = handlers.asked
    this.#link.listen({
      message: (topic, message) => { this.#receive(topic, message) },
      cut: () => {
        this.#cut = true
        this.#tellHere([])
      },
      ready: () => { void this.#resubscribe() }
    })
    await this.#link.subscribe([this.#nodeTopic(this.nodeId)])
    this.#timers.push(setInterval(() => { this.#canary() }, CANARY_INTERVAL))
    this.#timers.push(setInterval(() => { void this.#compare() }, COMPARE_INTERVAL))
  }

  publish (key: ChannelKey, frame: Frame): Promise<void> {
    const batch = this.#batch ??= this.#newBatch()
    const frames = batch.channels.get(key)
    if (frames === undefined) batch.channels.set(key, [frame])
    else frames.push(frame)
    if (frame.messageId > 0 && !frame.again && this.#subscriptions.has(key)) this.#own.add(key, frame)
    return batch.done
  }

  publishHere (key: ChannelKey, frame: Frame): void {
    this.#deliverPastRedis(key, this.#own.take(key))
    if (this.#subscriptions.has(key)) this.#handlers?.deliver(key, [frame])
  }

  mayHear (): boolean {
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
    this.#own.forget(key)
    this.#lookedFor.delete(key)
    this.#sequences.delete(key)
    if (!this.#subscriptions.delete(key) || this.#joining?.keys.delete(key) === true) return
    this.#link.unsubscribe(this.#topic(key))
  }

  async ask (nodeId: string, op: string, data: unknown): Promise<unknown> {
    return await this.#mail.ask(nodeId, op, data)
  }

  async close (): Promise<void> {
    for (const timer of this.#timers) clearInterval(timer)
    await this.#batch?.done.catch(() => {})
    this.#mail.close()
    this.#handlers = null
  }

  /** The braces keep a channel's topic and its counter on one shard of a cluster. */
  #topic (key: ChannelKey): string {
    return `${this.#prefix}channel:{${key}}`
  }

  #counter (key: ChannelKey): string {
    return `${this.#prefix}sequence:{${key}}`
  }

  #nodeTopic (nodeId: string): string {
    return `${this.#prefix}node:${nodeId}`
  }

  #newBatch (): Batch {
    let settle: Batch['settle'] = () => {}
    const done = new Promise<void>((resolve) => { settle = resolve })
    // Ephemeral publishers do not look at the outcome.
    done.catch(() => {})
    setImmediate(() => {
      this.#batch = null
      settle(this.#send([...batch.channels]))
    })
    const batch: Batch = { channels: new Map(), done, settle }
    return batch
  }

  async #send (channels: Array<[ChannelKey, Frame[]]>): Promise<void> {
    try {
      await this.#link.publish(channels.map(([key, frames]) =>
        ({ counter: this.#counter(key), topic: this.#topic(key), message: encodeFrames(frames) })))
    } catch (err) {
      // Redis is away: the users of this node still reach each other.
      this.#tellHere(channels)
      throw err
    }
    // Published, but this node's own subscription is down: it would be the only one not to hear it.
    if (this.#cut) this.#tellHere(channels)
    else this.#lookedFor.clear()
  }

  /** Older frames first, whose turn to fail may be still to come. Ids that come again are dropped by the hub. */
  #tellHere (channels: Array<[ChannelKey, Frame[]]>): void {
    for (const [key, frames] of [...this.#own.takeAll(), ...channels]) this.#deliverPastRedis(key, frames)
  }

  /**
   * What the same sender sent through another node may be lost ahead of these: it is looked for first. A retry is not
   * told this way at all: where its channel is filled it comes in its place, elsewhere with its next turn.
   */
  #deliverPastRedis (key: ChannelKey, frames: readonly Frame[]): void {
    const first = frames.filter(({ again }) => !again)
    if (!this.#subscriptions.has(key) || first.length === 0) return
    if (first.some(({ messageId }) => messageId > 0) && !this.#lookedFor.has(key)) {
      this.#lookedFor.add(key)
      this.#handlers?.missed([key])
    }
    this.#handlers?.deliver(key, first)
  }

  #receive (topic: string, message: Buffer): void {
    const name = topic.slice(this.#prefix.length)
    if (name.startsWith('channel:')) {
      const key = name.slice('channel:{'.length, -1)
      if (!this.#subscriptions.has(key)) return // left meanwhile
      const { sequence, frames } = decodeMessage(message)
      this.#own.came(key, frames)
      // Cut, and heard by a new subscription that came in one piece with this: what was lost before it is not looked for yet.
      if (!this.#sequences.follows(key, sequence) || this.#cut) this.#handlers?.missed([key])
      this.#handlers?.deliver(key, frames)
    } else if (message[0] === CANARY) {
      this.#canarySeen = Date.now()
      this.#handlers?.heard(Number(message.toString('latin1', 1)))
    } else {
      this.#mail.receive(message.toString())
    }
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
      await this.#link.subscribe(keys.map((key) => this.#topic(key)))
      await this.#sequences.begin(keys)
    } catch {
      // Redis is away: the table above is what is subscribed when it is back
    }
  }

  /** After every reconnect, from the local table: what the connection knew is gone with it. */
  async #resubscribe (): Promise<void> {
    try {
      const keys = [...this.#subscriptions.keys()]
      await this.#link.subscribe([this.#nodeTopic(this.nodeId), ...keys.map((key) => this.#topic(key))])
      this.#sequences.forget()
      this.#cut = false
      this.#lookedFor.clear()
      this.#canarySeen = Date.now()
      this.#log.info({ channels: keys.length }, 'backplane subscribed again')
      this.#handlers?.missed(keys)
      // With only the subscriber back nothing can be sent yet; the other connection calls again.
      if (this.#link.ready) this.#handlers?.back()
      await this.#sequences.begin(keys).catch(() => {}) // then each begins with its next message
    } catch (err) {
      this.#log.warn({ err }, 'backplane cannot subscribe again yet')
    }
  }

  /** A message to itself tells a subscription that died silently from a quiet one. */
  #canary (): void {
    if (this.#link.ready && Date.now() - this.#canarySeen > 3 * CANARY_INTERVAL) {
      this.#log.warn('backplane hears nothing: connecting again')
      this.#canarySeen = Date.now()
      this.#link.reconnect()
      return
    }
    this.#link.send(this.#nodeTopic(this.nodeId), `!${Date.now()}`).catch(() => {}) // missed below, and seen in `healthy`
  }

  async #compare (): Promise<void> {
    if (!this.healthy) return
    try {
      const lost = await this.#sequences.lost()
      if (lost.length > 0) this.#handlers?.missed(lost)
    } catch {
      // Redis is away: the reconnect looks after everything
    }
  }
}

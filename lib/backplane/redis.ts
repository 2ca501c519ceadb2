import type { Redis } from 'ioredis'
import type { FastifyBaseLogger } from 'fastify'
import type { ChannelKey } from '../channels.js'
import type { RedisConnections } from '../redis.js'
import type { Backplane, BackplaneHandlers, Frame } from './contract.js'
import { decodeMessage, encodeFrames } from './envelope.js'
import { NodeMail } from './node-mail.js'

/**
 * Publishes and numbers in one step, so that every node sees one order per channel and a hole in the numbers proves a
 * loss. Keys: a counter per channel; arguments: a topic and a message per channel.
 */
const PUBLISH = `
for i, key in ipairs(KEYS) do
  local sequence = redis.call('INCR', key)
  if sequence == 1 then redis.call('EXPIRE', key, 604800) end
  redis.call('PUBLISH', ARGV[2 * i - 1], sequence .. '\\n' .. ARGV[2 * i])
end
return #KEYS`

/** Channels in one script call or one SUBSCRIBE: keeps Redis responsive to others in between. */
const CHUNK = 500
/** Pause between two canaries, and between two comparisons of sequences with Redis. */
const CANARY_INTERVAL = 5000
const COMPARE_INTERVAL = 10_000
/** What is under way is not lost: a lag is looked at again after this time. */
const COMPARE_PAUSE = 1000
/** The first byte of a canary, `!`; mail between nodes is JSON. */
const CANARY = 0x21

interface Batch {
  channels: Map<ChannelKey, Frame[]>
  done: Promise<void>
  settle: (result: Promise<void>) => void
}

interface Subscription {
  ready: Promise<void>
  /** The last sequence seen; null before the first. */
  sequence: number | null
}

type WithPublish = Redis & { rtPublish (keys: number, ...args: Array<string | Buffer>): Promise<number> }

export class RedisBackplane implements Backplane {
  readonly nodeId: string
  readonly #commands: WithPublish
  readonly #subscriber: Redis
  readonly #prefix: string
  readonly #log: FastifyBaseLogger
  readonly #mail: NodeMail
  readonly #subscriptions = new Map<ChannelKey, Subscription>()
  readonly #timers: NodeJS.Timeout[] = []
  #joining: { keys: Set<ChannelKey>, done: Promise<void> } | null = null
  #batch: Batch | null = null
  #handlers: BackplaneHandlers | null = null
  #canarySeen = Date.now()
  #cut = false

  constructor (nodeId: string, { commands, subscriber, prefix }: RedisConnections, log: FastifyBaseLogger) {
    this.nodeId = nodeId
    commands.defineCommand('rtPublish', { lua: PUBLISH })
    this.#commands = commands as WithPublish
    this.#subscriber = subscriber
    this.#prefix = prefix
    this.#log = log
    this.#mail = new NodeMail(nodeId, async (to, text) => { await this.#commands.publish(this.#nodeTopic(to), text) })
  }

  get healthy (): boolean {
    return !this.#cut && this.#commands.status === 'ready' && this.#subscriber.status === 'ready' &&
      Date.now() - this.#canarySeen < 3 * CANARY_INTERVAL
  }

  async start (handlers: BackplaneHandlers): Promise<void> {
    this.#handlers = handlers
    this.#mail.handler = handlers.asked
    this.#subscriber.on('messageBuffer', (topic: Buffer, message: Buffer) => { this.#receive(topic.toString(), message) })
    this.#subscriber.on('close', () => { this.#cut = true })
    this.#subscriber.on('ready', () => { void this.#resubscribe() })
    this.#commands.on('ready', () => { if (!this.#cut) this.#handlers?.back() })
    await this.#subscriber.subscribe(this.#nodeTopic(this.nodeId))
    this.#timers.push(setInterval(() => { this.#canary() }, CANARY_INTERVAL))
    this.#timers.push(setInterval(() => { void this.#compare() }, COMPARE_INTERVAL))
  }

  async publish (key: ChannelKey, frame: Frame): Promise<void> {
    const batch = this.#batch ??= this.#newBatch()
    const frames = batch.channels.get(key)
    if (frames === undefined) batch.channels.set(key, [frame])
    else frames.push(frame)
    await batch.done
  }

  async subscribe (key: ChannelKey): Promise<void> {
    const known = this.#subscriptions.get(key)
    if (known !== undefined) return await known.ready
    const subscription: Subscription = { ready: this.#joinNext(key), sequence: null }
    this.#subscriptions.set(key, subscription)
    await subscription.ready
  }

  unsubscribe (key: ChannelKey): void {
    if (!this.#subscriptions.delete(key) || this.#joining?.keys.delete(key) === true) return
    this.#subscriber.unsubscribe(this.#topic(key)).catch(() => {}) // gone with the connection anyway
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

  #topic (key: ChannelKey): string {
    return `${this.#prefix}channel:${key}`
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
    const parts: Array<Promise<unknown>> = []
    try {
      for (let at = 0; at < channels.length; at += CHUNK) {
        const part = channels.slice(at, at + CHUNK)
        parts.push(this.#commands.rtPublish(part.length,
          ...part.map(([key]) => `${this.#prefix}sequence:${key}`),
          ...part.flatMap(([key, frames]) => [this.#topic(key), encodeFrames(frames)])))
      }
      await Promise.all(parts)
    } catch (err) {
      await Promise.allSettled(parts)
      // Redis is away: the users of this node still reach each other. Ids that come again later are dropped by the hub.
      for (const [key, frames] of channels) this.#deliverHere(key, frames)
      throw err
    }
    if (this.#cut) {
      // Published, but this node's own subscription is down: it would be the only one not to hear it.
      for (const [key, frames] of channels) this.#deliverHere(key, frames)
    }
  }

  #deliverHere (key: ChannelKey, frames: Frame[]): void {
    if (this.#subscriptions.has(key)) this.#handlers?.deliver(key, frames)
  }

  #receive (topic: string, message: Buffer): void {
    const name = topic.slice(this.#prefix.length)
    if (name.startsWith('channel:')) {
      const key = name.slice('channel:'.length)
      const subscription = this.#subscriptions.get(key)
      if (subscription === undefined) return // left meanwhile
      const { sequence, frames } = decodeMessage(message)
      const hole = subscription.sequence !== null && sequence !== subscription.sequence + 1
      subscription.sequence = sequence
      if (hole) this.#handlers?.missed([key])
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
    for (let at = 0; at < keys.length; at += CHUNK) {
      try {
        await this.#subscriber.subscribe(...keys.slice(at, at + CHUNK).map((key) => this.#topic(key)))
      } catch {
        return // Redis is away: the table above is what is subscribed when it is back
      }
    }
  }

  /** After every reconnect, from the local table: what the connection knew is gone with it. */
  async #resubscribe (): Promise<void> {
    try {
      await this.#subscriber.subscribe(this.#nodeTopic(this.nodeId))
      const keys = [...this.#subscriptions.keys()]
      await this.#subscribeAll(keys)
      for (const subscription of this.#subscriptions.values()) subscription.sequence = null
      this.#cut = false
      this.#canarySeen = Date.now()
      this.#log.info({ channels: keys.length }, 'backplane subscribed again')
      this.#handlers?.missed(keys)
      this.#handlers?.back()
    } catch (err) {
      this.#log.warn({ err }, 'backplane cannot subscribe again yet')
    }
  }

  /** A message to itself tells a subscription that died silently from a quiet one. */
  #canary (): void {
    if (this.#subscriber.status === 'ready' && Date.now() - this.#canarySeen > 3 * CANARY_INTERVAL) {
      this.#log.warn('backplane hears nothing: connecting again')
      this.#canarySeen = Date.now()
      this.#subscriber.disconnect(true)
      return
    }
    this.#commands.publish(this.#nodeTopic(this.nodeId), `!${Date.now()}`).catch(() => {}) // missed below, and seen in `healthy`
  }

  /** Finds a loss on channels where no later message shows it: the number here lags, now and a moment later too. */
  async #compare (): Promise<void> {
    if (!this.healthy) return
    try {
      const lagging = await this.#lagging([...this.#subscriptions.keys()])
      if (lagging.size === 0) return
      await new Promise((resolve) => setTimeout(resolve, COMPARE_PAUSE))
      const missed: ChannelKey[] = []
      for (const [key, { seen, sequence }] of await this.#lagging([...lagging.keys()])) {
        const subscription = this.#subscriptions.get(key)
        // Moved on meanwhile: what looked missing was under way.
        if (subscription === undefined || lagging.get(key)?.seen !== seen) continue
        subscription.sequence = sequence
        missed.push(key)
      }
      if (missed.length > 0) this.#handlers?.missed(missed)
    } catch {
      // Redis is away: the reconnect looks after everything
    }
  }

  /** Channels whose number in Redis is not the one seen here. One not seen yet begins with what Redis says. */
  async #lagging (keys: ChannelKey[]): Promise<Map<ChannelKey, { seen: number, sequence: number }>> {
    const lagging = new Map<ChannelKey, { seen: number, sequence: number }>()
    for (let at = 0; at < keys.length; at += CHUNK) {
      const part = keys.slice(at, at + CHUNK)
      const found = await this.#commands.mget(part.map((key) => `${this.#prefix}sequence:${key}`))
      part.forEach((key, i) => {
        const subscription = this.#subscriptions.get(key)
        const sequence = Number(found[i] ?? 0)
        if (subscription === undefined) return
        subscription.sequence ??= sequence
        if (subscription.sequence !== sequence) lagging.set(key, { seen: subscription.sequence, sequence })
      })
    }
    return lagging
  }
}

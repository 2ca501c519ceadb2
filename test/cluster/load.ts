import { setTimeout as sleep } from 'node:timers/promises'
import { Client, Lost, Refused, type Frame, type Target, type Who } from './client.js'

/** The channel to which all receivers are subscribed. */
export const GROUP = 'group.load'

export interface LoadOptions {
  /** Where senders and receivers connect first, each list in turn; later wherever it works. */
  senders: readonly Target[]
  receivers: readonly Target[]
  /** Every node on which a client may come back. */
  nodes: () => readonly Target[]
  /** Its own for each round. */
  clubId?: number
  count?: number
  /** Pause of a sender between two messages, in milliseconds. */
  pause?: number
  /** The share of senders that send with a dedupeId, one message at a time, until it is acked. The others continue. */
  retrying?: number
}

/** A message that a sender tried to send. */
export interface Sent {
  sender: number
  n: number
  channel: string
  text: string
  outcome: 'waiting' | 'acked' | 'refused' | 'unknown'
  /** The server said that nothing was stored. */
  none: boolean
  messageId: number
}

export interface Refusal { code: string, outcome: 'none' | 'unknown' | undefined, retryAfter: number | undefined, after: number, at: number }

/** 20 senders, 20 receivers: every other message goes to the group, the others to the sender's own receiver. */
export class Load {
  readonly clubId: number
  readonly sent: Sent[] = []
  readonly refusals: Refusal[] = []
  readonly receivers: Receiver[]
  readonly senders: Sender[]
  readonly nodes: () => readonly Target[]

  private constructor (options: LoadOptions) {
    const { count = 20, clubId = 1, pause = 50, retrying = 0.5, nodes } = options
    this.clubId = clubId
    this.nodes = nodes
    const each = <T>(make: (i: number) => T): T[] => Array.from({ length: count }, (_, i) => make(i))
    const place = (targets: readonly Target[], i: number): Target => targets[i % targets.length] as Target
    this.receivers = each((i) => new Receiver(this, { userId: 1000 + i, clubId }, place(options.receivers, i), i % 2 === 0))
    this.senders = each((i) => new Sender(this, i, place(options.senders, i), pause, i < count * retrying))
  }

  /** Resolves when all are connected and every receiver is subscribed; then the senders begin. */
  static async start (options: LoadOptions): Promise<Load> {
    const load = new Load(options)
    await Promise.all([...load.receivers, ...load.senders].map(async (one) => { await one.start() }))
    for (const sender of load.senders) sender.run()
    return load
  }

  get acked (): Sent[] {
    return this.sent.filter(({ outcome }) => outcome === 'acked')
  }

  /** Codes with which sockets were closed, of senders and receivers. */
  get closeCodes (): number[] {
    return [...this.senders, ...this.receivers].flatMap(({ closes }) => closes)
  }

  /** Lets the senders finish what they began; receivers continue. */
  async stopSending (): Promise<void> {
    await Promise.all(this.senders.map(async (sender) => { await sender.stop() }))
  }

  async close (): Promise<void> {
    await Promise.all([...this.senders, ...this.receivers].map(async (one) => { await one.end() }))
  }
}

/** A load whose senders and receivers are spread over these nodes, ended with `t`. */
export async function startLoad (
  t: { teardown (task: () => Promise<void>): void }, nodes: readonly Target[], options: Omit<LoadOptions, 'senders' | 'receivers' | 'nodes'> = {}
): Promise<Load> {
  const load = await Load.start({ senders: nodes, receivers: nodes, nodes: () => nodes, ...options })
  t.teardown(async () => { await load.close() })
  return load
}

/** A client that comes back, wherever it can, until it is ended. */
abstract class Returning {
  readonly load: Load
  readonly who: Who
  readonly closes: number[] = []
  protected client: Client | null = null
  #target: Target
  #ended = false

  constructor (load: Load, who: Who, target: Target) {
    this.load = load
    this.who = who
    this.#target = target
  }

  async start (): Promise<void> {
    await this.#open(await Client.connect(this.#target, this.who))
  }

  async end (): Promise<void> {
    this.#ended = true
    this.client?.terminate()
    await this.client?.closed
  }

  get ended (): boolean {
    return this.#ended
  }

  protected abstract opened (client: Client): Promise<void>

  async #open (client: Client): Promise<void> {
    client.keep = false
    this.client = client
    await this.opened(client)
    void client.closed.then(async ({ code }) => {
      if (this.#ended) return
      this.closes.push(code)
      this.client = null
      await this.#comeBack()
    })
  }

  async #comeBack (): Promise<void> {
    for (let i = 0; !this.#ended; i++) {
      await sleep(50 + Math.random() * 150)
      const nodes = this.load.nodes()
      this.#target = nodes[(i + this.who.userId) % nodes.length] ?? this.#target
      try {
        await this.#open(await Client.connect(this.#target, this.who))
        if (this.#ended) this.client?.terminate()
        return
      } catch {
        this.client?.terminate()
      }
    }
  }
}

/** Reads the group and its own channel, and resumes both where it was. */
export class Receiver extends Returning {
  /** Ids in the order in which they came, repeats left out. */
  readonly ids: number[] = []
  repeats = 0
  /** Those among them that were not sent again for want of a confirmation. */
  toldTwice = 0
  /** Times a resume was answered `recovered: false`. */
  unrecovered = 0
  readonly #seen = new Set<number>()
  readonly #largest = new Map<string, number>()
  readonly #confirms: boolean

  constructor (load: Load, who: Who, target: Target, confirms: boolean) {
    super(load, who, target)
    this.#confirms = confirms
  }

  has (id: number): boolean {
    return this.#seen.has(id)
  }

  get own (): string {
    return `private-user.${this.who.userId}`
  }

  protected async opened (client: Client): Promise<void> {
    // Taken before anything comes on this socket: the largest id seen so far.
    const since = new Map([GROUP, this.own].map((channel) => [channel, this.#largest.get(channel)]))
    client.onFrame = (frame) => { this.#take(client, frame) }
    // What waited for the user may have come in one piece with the answer to the authentication.
    for (const frame of client.frames) this.#take(client, frame)
    await Promise.all([...since].map(async ([channel, id]) => {
      const { position, recovered } = await client.request('subscribe', { channel, ...(id === undefined ? {} : { since: id }) })
      if (recovered === false) this.unrecovered++
      this.#largest.set(channel, Math.max(this.#largest.get(channel) ?? 0, id === undefined ? position as number : 0))
    }))
  }

  #take (client: Client, { event, data }: Frame): void {
    if (event !== 'message:group' && event !== 'message:direct') return
    const id = data.messageId as number
    const channel = event === 'message:group' ? GROUP : this.own
    this.#largest.set(channel, Math.max(this.#largest.get(channel) ?? 0, id))
    if (event === 'message:direct' && this.#confirms) client.send('message:delivered', { messageId: id })
    if (this.#seen.has(id)) {
      this.repeats++
      if (event === 'message:group' || this.#confirms) this.toldTwice++
      return
    }
    this.#seen.add(id)
    this.ids.push(id)
  }
}

export class Sender extends Returning {
  readonly retries: boolean
  readonly #i: number
  readonly #pause: number
  #stopping = false
  #running: Promise<void> = Promise.resolve()
  #n = 0

  constructor (load: Load, i: number, target: Target, pause: number, retries: boolean) {
    super(load, { userId: 1 + i, clubId: load.clubId }, target)
    this.#i = i
    this.#pause = pause
    this.retries = retries
  }

  run (): void {
    this.#running = this.#run()
  }

  async stop (): Promise<void> {
    this.#stopping = true
    await this.#running
  }

  protected async opened (): Promise<void> {}

  async #run (): Promise<void> {
    const under = new Set<Promise<void>>()
    while (!this.#stopping && !this.ended) {
      if (this.client === null) {
        await sleep(20)
        continue
      }
      const sending = this.#sendNext()
      if (this.retries) await sending
      else under.add(sending.finally(() => under.delete(sending)))
      await sleep(this.#pause * (0.5 + Math.random()))
    }
    await Promise.all(under)
  }

  async #sendNext (): Promise<void> {
    const n = this.#n++
    const group = n % 2 === 0
    const text = `${this.load.clubId}:${this.#i}:${n}`
    const channel = group ? GROUP : `private-user.${1000 + this.#i}`
    const sent: Sent = { sender: this.#i, n, channel, text, outcome: 'waiting', none: false, messageId: 0 }
    this.load.sent.push(sent)
    const data = {
      message: text, conversationId: 'load', ...(group ? { channel } : { recipientId: 1000 + this.#i }),
      ...(this.retries ? { dedupeId: text.replaceAll(':', '-') } : {})
    }
    while (!this.ended) {
      const began = Date.now()
      try {
        if (this.client === null) throw new Lost('not connected')
        const { messageId } = await this.client.request(group ? 'message:group' : 'message:direct', data)
        sent.messageId = messageId as number
        sent.outcome = 'acked'
        return
      } catch (err) {
        sent.outcome = err instanceof Refused ? 'refused' : 'unknown'
        if (err instanceof Refused) {
          sent.none = err.outcome === 'none'
          this.load.refusals.push({ code: err.code, outcome: err.outcome, retryAfter: err.retryAfter, after: Date.now() - began, at: Date.now() })
        }
        if (!this.retries) return
        await sleep(err instanceof Refused ? Math.min((err.retryAfter ?? 1) * 1000, 1000) : 50)
      }
    }
  }
}

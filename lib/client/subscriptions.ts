import { ClientError, isPassing, toClientError } from './errors.js'
import { Entry, type Told } from './subscription.js'
import type { Frame, Subscribed } from './types.js'

/** Ids remembered to drop repeats: more than one replay, and the rows around it that the server sends again to be sure. */
const REMEMBERED = 4096
const OWN = 'private-user.'

/** One way to the server and back, for as long as it lasts. */
export type Carrier = (event: string, data: object, onAck?: (data: unknown) => void) => Promise<unknown>

interface Hooks {
  tell (event: string, data: object): void
  /** A durable event, in order; `fresh: false` where it came before. */
  deliver (frame: Frame & Told, fresh: boolean): void
  /** Waits, and says whether the connection is still the same. */
  again (carrier: Carrier, seconds: number): Promise<boolean>
  refused (err: ClientError): void
}

/** What the client wants to hear, how far it has heard it, and what it heard before. */
export class Subscriptions {
  readonly entries = new Map<string, Entry>()
  readonly #seen = new Set<number>()
  readonly #hooks: Hooks
  #me = 0
  #carrier: Carrier | null = null

  constructor (since: Readonly<Record<string, number>>, hooks: Hooks) {
    this.#hooks = hooks
    for (const [channel, cursor] of Object.entries(since)) this.#entry(channel).cursor = cursor
  }

  /** The largest id up to which nothing of a channel is missing. */
  get cursors (): Record<string, number> {
    return Object.fromEntries([...this.entries].flatMap(([name, { cursor }]) => cursor === null ? [] : [[name, cursor]]))
  }

  /** Resolves when the server has subscribed it, which may be after the next connection. */
  async add (name: string, since?: number): Promise<Subscribed> {
    const entry = this.#entry(this.#resolve(name))
    if (since !== undefined) entry.cursor = since
    if (entry.last !== null && since === undefined) return entry.last
    const done = entry.wait()
    if (this.#carrier !== null) void this.#subscribe(this.#carrier, entry)
    return await done
  }

  /** False: it was not subscribed. */
  remove (name: string): string {
    const channel = this.#resolve(name)
    this.entries.get(channel)?.settle(new ClientError('RT_CLIENT_STOPPED', `${channel} was unsubscribed`))
    this.entries.delete(channel)
    return channel
  }

  /** A new socket: everything is subscribed again, from where it was left. `automatic`: what the server subscribed by itself. */
  resume (carrier: Carrier, me: number, automatic: readonly string[]): void {
    this.identify(me)
    this.#carrier = carrier
    for (const channel of automatic) this.#entry(channel)
    for (const entry of this.entries.values()) {
      entry.begin()
      void this.#subscribe(carrier, entry)
    }
  }

  /** Who the client is: only now has `user:me` a name. */
  identify (me: number): void {
    this.#me = me
    const alias = this.entries.get('user:me')
    if (alias === undefined) return
    this.entries.delete('user:me')
    this.#entry(OWN + me).adopt(alias)
  }

  /** The socket is gone. */
  suspend (): void {
    this.#carrier = null
    for (const entry of this.entries.values()) entry.suspend()
  }

  /** Everyone who waits is told why in vain. */
  stop (err: ClientError): void {
    this.suspend()
    for (const entry of this.entries.values()) entry.settle(err)
  }

  /** A durable event came by the socket: it is delivered, with those held back for it, or held back itself. */
  take (frame: Frame & Told): void {
    const channel = this.#channelOf(frame)
    const entry = channel === null ? undefined : this.entries.get(channel)
    const told = entry === undefined ? [frame] : entry.take(frame)
    if (entry === undefined) for (const other of this.entries.values()) told.push(...other.reached(frame.data.messageId))
    this.deliver(told)
  }

  deliver (frames: ReadonlyArray<Frame & Told>): void {
    for (const frame of frames) {
      const fresh = !this.#seen.has(frame.data.messageId)
      this.#seen.add(frame.data.messageId)
      const oldest = this.#seen.values().next()
      if (this.#seen.size > REMEMBERED && oldest.done !== true) this.#seen.delete(oldest.value)
      this.#hooks.deliver(frame, fresh)
    }
  }

  /** It stands on the user's own channel, and waits to be confirmed. */
  isToMe ({ event, data }: Frame): boolean {
    return event === 'notification:received' || (event === 'message:direct' && data.senderId !== this.#me)
  }

  async #subscribe (carrier: Carrier, entry: Entry): Promise<void> {
    const { channel, cursor } = entry
    try {
      await carrier('subscribe', cursor === null ? { channel } : { channel, since: cursor }, (answer) => {
        if (this.entries.get(channel) === entry) this.#subscribed(entry, answer as Subscribed)
      })
    } catch (thrown) {
      if (this.#carrier !== carrier || this.entries.get(channel) !== entry) return
      const err = toClientError(thrown)
      if (err.code === 'RT_SOCKET_CLOSED') return
      if (isPassing(err)) {
        if (await this.#hooks.again(carrier, err.retryAfter ?? 1)) await this.#subscribe(carrier, entry)
        return
      }
      this.refuse(entry, err)
    }
  }

  #subscribed (entry: Entry, answer: Subscribed): void {
    const held = entry.subscribed(answer)
    this.#hooks.tell('subscribed', answer)
    if (answer.recovered === false) this.#hooks.tell('gap', { channel: answer.channel, position: answer.position })
    this.deliver(held)
  }

  /** Not allowed, or not any more: it is not asked for again, and one error says so. */
  refuse (entry: Entry, { code, message }: ClientError): void {
    const err = new ClientError(code, `${entry.channel}: ${message}`, { channel: entry.channel })
    this.entries.delete(entry.channel)
    if (!entry.settle(err)) this.#hooks.refused(err)
  }

  #entry (channel: string): Entry {
    const entry = this.entries.get(channel) ?? new Entry(channel)
    this.entries.set(channel, entry)
    return entry
  }

  #resolve (name: string): string {
    return name === 'user:me' && this.#me > 0 ? OWN + this.#me : name
  }

  /** The channel whose cursor an event moves. A copy of one's own direct message stands on the recipient's. */
  #channelOf (frame: Frame): string | null {
    const { event, data } = frame
    if (this.isToMe(frame)) return OWN + this.#me
    if (event === 'broadcast:message') return 'broadcast'
    return event !== 'message:direct' && typeof data.channel === 'string' ? data.channel : null
  }
}

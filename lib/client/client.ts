import { systemClock } from './clock.js'
import { createCore, type Core } from './core.js'
import { ClientError } from './errors.js'
import type { SocketClass } from './link.js'
import type { Settings, WebSocketClientOptions } from './options.js'
import { randomId } from './outbox.js'
import type {
  Audience, ClientEvents, OnlineUser, OnlineUsers, PresenceAck, PresenceDetails, PresenceStatus, Sends, ServerEvents, Subscribed,
  Transport, UserPresence
} from './types.js'

type Events<Own> = ClientEvents & ServerEvents & Own
type Name<Own> = keyof Events<Own> & string

/** Where a client is: polling counts as connected, waiting for the next attempt as connecting. */
export type ClientState = 'connecting' | 'connected' | 'stopped'

/**
 * A user's connection, kept up: it connects, authenticates, subscribes and resumes, and comes back by itself. `Own` names
 * the events that the host adds: `new WebSocketClient<{ 'order:paid': { order: number } }>(…)`.
 */
export class WebSocketClient<Own extends object = object> {
  readonly #settings: Settings
  readonly #core: Core

  /** Nothing is told before the next turn: listeners can be added first. */
  constructor (options: WebSocketClientOptions) {
    this.#settings = {
      maxReconnectAttempts: Infinity,
      reconnectDelay: 3000,
      maxReconnectDelay: 30_000,
      connectionId: randomId(),
      since: {},
      confirm: true,
      maxQueued: 1000,
      typingIdle: 5000,
      polling: true,
      pollInterval: 5000,
      WebSocket: (globalThis as { WebSocket?: SocketClass }).WebSocket,
      fetch,
      clock: systemClock,
      ...options
    }
    this.#core = createCore(this.#settings)
    if (options.autoConnect !== false) this.connect()
  }

  /** Of this device or tab. */
  get connectionId (): string { return this.#settings.connectionId }

  get state (): ClientState {
    const { transport, connector } = this.#core
    return transport ? 'connected' : connector.run ? 'connecting' : 'stopped'
  }

  /** Null: not connected. */
  get transport (): Transport | null { return this.#core.transport }

  /** Channel → the id up to which nothing is missing: for the option `since` after a reload. */
  get cursors (): Record<string, number | undefined> {
    return Object.fromEntries([...this.#core.subscriptions.entries].map(([name, { cursor }]) => [name, cursor]))
  }

  /** Answers the function that takes the listener off again. */
  on<K extends Name<Own>> (event: K, listener: (data: Events<Own>[K]) => void): () => void {
    return this.#core.on(event, listener)
  }

  /** Begins, or begins again after `disconnect()` or a final close. Does nothing while it is under way. */
  connect (): void { this.#core.start() }

  /** Ends it: what waits is rejected with `RT_CLIENT_STOPPED`, and the server is told. */
  disconnect (): Promise<void> { return this.#core.disconnect() }

  /**
   * Hears a channel until `unsubscribe`, over all reconnects; `user:me` is the user's own. With `since`, what came after
   * that id is told first. Resolves when the server has it, after the next connection if there is none now.
   */
  async subscribe (channel: string, { since }: { since?: number } = {}): Promise<Subscribed> {
    this.#require()
    const subscribed = this.#core.subscriptions.add(channel, since)
    this.#core.poll()
    return await subscribed
  }

  async unsubscribe (name: string): Promise<void> {
    const { subscriptions, connector, emit } = this.#core
    const channel = subscriptions.remove(name)
    await connector.session?.link.request('unsubscribe', { channel })
    emit('unsubscribed', { channel })
  }

  /**
   * Sends a durable event. Resolves when it is stored; without a connection it waits for one. It carries a `dedupeId`, so
   * that it is stored once however often it has to be sent.
   */
  async send<K extends keyof Sends> (event: K, data: Sends[K]['data']): Promise<Sends[K]['ack']> {
    this.#require()
    if ('conversationId' in data) this.#core.typing.sent(data.conversationId)
    return await this.#core.outbox.add(event, data) as Sends[K]['ack']
  }

  /** Any other frame, over the socket that is open now: the ack's data. */
  request (event: string, data: object = {}): Promise<unknown> {
    return this.#core.request(event, data)
  }

  /** For each keystroke; few of them are sent. `audience` says who is told, as in the frame. */
  recordTyping (conversationId: string, isTyping: boolean, audience?: Audience): void {
    this.#core.typing.record(conversationId, isTyping, audience)
  }

  async updatePresence (status: PresenceStatus, details: PresenceDetails = {}): Promise<PresenceAck> {
    return await this.request('user:presence', { status, ...details }) as PresenceAck
  }

  async getPresence (userId: number): Promise<UserPresence> {
    return (await this.get(`/presence/${userId}`) as { data: UserPresence }).data
  }

  /** Those online, by user id, at most 500; further pages by `get`. */
  async getOnlineUsers (): Promise<OnlineUser[]> {
    return (await this.get('/online-users?limit=500') as OnlineUsers).data
  }

  /** What any other route of the suite answers, e.g. `/stats` or `/typing/42`. */
  get (path: string): Promise<unknown> {
    return this.#core.rest.call(path)
  }

  /** Nothing would come of it. */
  #require (): void {
    if (this.state === 'stopped') throw new ClientError('RT_CLIENT_STOPPED')
  }
}

import { systemClock } from './clock.js'
import { Emitter } from './emitter.js'
import { ClientError, toClientError } from './errors.js'
import { Machine } from './machine.js'
import type { Settings, WebSocketClientOptions } from './options.js'
import { randomId } from './outbox.js'
import type { SocketClass } from './link.js'
import type { TokenSource } from './tokens.js'
import type {
  Audience, ClientEvents, OnlineUser, PresenceAck, PresenceStatus, Sends, ServerEvents, Stats, Subscribed, Transport, TypingUser, UserPresence
} from './types.js'

type Events<Own> = ClientEvents & ServerEvents & Own
type Name<Own> = keyof Events<Own> & string

/** Where a client is: polling counts as connected, waiting for the next attempt as connecting. */
export type ClientState = 'idle' | 'connecting' | 'connected' | 'stopped'

/**
 * A user's connection, kept up: it connects, authenticates, subscribes and resumes, and comes back by itself. `Own` names
 * the events that the host adds: `new WebSocketClient<{ 'order:paid': { order: number } }>(…)`.
 */
export class WebSocketClient<Own extends object = object> {
  readonly #machine: Machine
  readonly #emitter: Emitter

  /** Connects in the next turn, so that listeners can be added first. */
  constructor (options: WebSocketClientOptions) {
    const defaults = {
      maxReconnectAttempts: Infinity,
      reconnectDelay: 3000,
      maxReconnectDelay: 30_000,
      autoConnect: true,
      connectionId: randomId(),
      since: {},
      confirm: true,
      maxQueued: 1000,
      typingIdle: 5000,
      polling: true,
      pollInterval: 5000,
      WebSocket: (globalThis as { WebSocket?: SocketClass }).WebSocket,
      fetch: async (url: string, init: RequestInit) => await fetch(url, init),
      clock: systemClock
    }
    const settings: Settings = { ...defaults, ...options }
    this.#emitter = new Emitter((cause, event) => {
      const error = new ClientError('RT_LISTENER_FAILED', `A listener of ${event} threw`, { cause })
      if (event === 'error' || !this.#emitter.emit('error', error)) console.error(error)
    })
    this.#machine = new Machine(settings, options.token, this.#emitter)
    if (settings.autoConnect) queueMicrotask(() => { this.connect() })
  }

  /** Of this device or tab. */
  get connectionId (): string { return this.#machine.connectionId }

  get state (): ClientState { return this.#machine.state }

  /** Null: not connected. */
  get transport (): Transport | null { return this.#machine.transport }

  /** Channel → the id up to which nothing is missing: for the option `since` after a reload. */
  get cursors (): Record<string, number> { return this.#machine.subscriptions.cursors }

  /** Answers the function that takes the listener off again. */
  on<K extends Name<Own>> (event: K, listener: (data: Events<Own>[K]) => void): () => void {
    this.#emitter.on(event, listener)
    return () => { this.#emitter.off(event, listener) }
  }

  once<K extends Name<Own>> (event: K, listener: (data: Events<Own>[K]) => void): () => void {
    const off = this.on(event, (data) => {
      off()
      listener(data)
    })
    return off
  }

  off<K extends Name<Own>> (event: K, listener: (data: Events<Own>[K]) => void): void {
    this.#emitter.off(event, listener)
  }

  /** Begins, or begins again after `disconnect()` or a final close. Does nothing while it is under way. */
  connect (): void { this.#machine.start() }

  /** Ends it: what waits is rejected with `RT_CLIENT_STOPPED`, and the server is told. */
  async disconnect (): Promise<void> { await this.#machine.disconnect() }

  /** A newer token, for the next attempt and for the socket that is open. */
  async setToken (token: TokenSource): Promise<void> { await this.#machine.renew(token) }

  /**
   * Hears a channel until `unsubscribe`, over all reconnects; `user:me` is the user's own. With `since`, what came after
   * that id is told first. Resolves when the server has it, after the next connection if there is none now.
   */
  async subscribe (channel: string, { since }: { since?: number } = {}): Promise<Subscribed> {
    this.#machine.require()
    const subscribed = this.#machine.subscriptions.add(channel, since)
    this.#machine.poll()
    return await subscribed
  }

  async unsubscribe (channel: string): Promise<void> { await this.#machine.unsubscribe(channel) }

  /**
   * Sends a durable event. Resolves when it is stored; without a connection it waits for one. It carries a `dedupeId`, so
   * that it is stored once however often it has to be sent.
   */
  async send<K extends keyof Sends> (event: K, data: Sends[K]['data']): Promise<Sends[K]['ack']> {
    this.#machine.require()
    if ('conversationId' in data) this.#machine.typing.sent(data.conversationId)
    return await this.#machine.outbox.add(event, data) as Sends[K]['ack']
  }

  /** Any other frame, over the socket that is open now: the ack's data. */
  async request (event: string, data: object = {}): Promise<unknown> {
    const { carrier, transport } = this.#machine
    if (carrier === null || transport !== 'websocket') throw new ClientError('RT_SOCKET_CLOSED', 'There is no socket')
    return await carrier(event, data)
  }

  /** For each keystroke; few of them are sent. `audience` says who is told, as in the frame. */
  recordTyping (conversationId: string, isTyping: boolean, audience?: Audience): void {
    this.#machine.typing.record(conversationId, isTyping, audience)
  }

  async updatePresence (status: PresenceStatus, details: { device?: NonNullable<UserPresence['device']>, lastMessage?: string | null } = {}): Promise<PresenceAck> {
    const { carrier, rest } = this.#machine
    const data = { status, ...details }
    return await (carrier === null ? rest.send('user:presence', data) : carrier('user:presence', data)) as PresenceAck
  }

  async getPresence (userId: number): Promise<UserPresence> {
    return (await this.#get<{ data: UserPresence }>(`/presence/${userId}`)).data
  }

  /** A page of those online, by user id; `nextCursor` leads to the next. */
  async getOnlineUsers (page: { limit?: number, cursor?: number } = {}): Promise<OnlineUser[] & { total: number, nextCursor: number | null }> {
    const query = new URLSearchParams(Object.entries(page).map(([name, value]) => [name, String(value)] as [string, string]))
    const answer = await this.#get<{ data: OnlineUser[], total: number, next_cursor: number | null }>(`/online-users?${query.toString()}`)
    return Object.assign(answer.data, { total: answer.total, nextCursor: answer.next_cursor })
  }

  async getTyping (conversationId: string): Promise<TypingUser[]> {
    return (await this.#get<{ data: TypingUser[] }>(`/typing/${encodeURIComponent(conversationId)}`)).data
  }

  async getStats (): Promise<Stats> {
    return (await this.#get<{ data: Stats }>('/stats')).data
  }

  async #get<T> (path: string): Promise<T> {
    return await this.#machine.rest.call(path).catch((err: unknown) => { throw toClientError(err) }) as T
  }
}

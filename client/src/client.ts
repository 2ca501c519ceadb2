import { createCore, type Core } from './core.js'
import { ClientError } from './errors.js'
import { readOptions, type Settings, type WebSocketClientOptions } from './options.js'
import type { Audience, EventName, Events, PresenceDetails, SendAck, SendData, SendName, Transport, Watch } from './types.js'
import type { Id, OnlineUser, PresenceAck, PresenceStatus, Subscribed, UserPresence } from './wire.js'

/** Where a client is: polling counts as connected, waiting for the next attempt as connecting. */
export type ClientState = 'connecting' | 'connected' | 'stopped'

/**
 * A user's connection, kept up: it connects, authenticates, subscribes and resumes, and comes back by itself. `Own` names
 * the events that the host adds and what they carry: `new WebSocketClient<{ 'order:paid': { order: number } }>(…)`.
 */
export class WebSocketClient<Own extends object = object> {
  private readonly settings: Settings
  private readonly core: Core

  /** Nothing is sent or told before the next turn: listeners can be added first. */
  constructor (options: WebSocketClientOptions) {
    this.settings = readOptions(options)
    this.core = createCore(this.settings)
    if (options.autoConnect !== false) this.connect()
  }

  /** Of this device or tab. */
  get connectionId (): string { return this.settings.connectionId }

  get state (): ClientState {
    const { transport, isStarted } = this.core
    return transport ? 'connected' : isStarted ? 'connecting' : 'stopped'
  }

  /** Null: not connected. */
  get transport (): Transport | null { return this.core.transport }

  /** Channel → the id up to which nothing is missing: for the option `since` after a reload, together with `epoch`. */
  get cursors (): Record<string, number | undefined> {
    const cursors: Record<string, number | undefined> = {}
    for (const { channel, cursor } of this.core.state.entries.values()) cursors[channel] = cursor
    return cursors
  }

  /** Of the log that the cursors are of; undefined where the server does not say. */
  get epoch (): string | undefined { return this.core.state.epoch }

  /** Returns the function that removes the listener. */
  on<K extends EventName<Own>> (event: K, listener: (data: Events<Own>[K]) => void): () => void {
    return this.core.on(event, listener)
  }

  /** Begins, or begins again after `disconnect()` or a final close. Does nothing while it is under way. */
  connect (): void { this.core.start() }

  /** Ends it: what waits is rejected with `RT_CLIENT_STOPPED`, and the server is told. Nothing else is sent from now on. */
  disconnect (): Promise<void> { return this.core.disconnect() }

  /**
   * Looks at once whether the connection is alive, or tries again if it is not. Pages do so by themselves when they are seen
   * again or the network is back; an app of React Native calls it when it becomes active.
   */
  wake (): void { this.core.wake() }

  /**
   * Hears a channel until `unsubscribe`, over all reconnects; `user:me` is the user's own. With `since`, what came after
   * that id is told first. Resolves when the server has it, after the next connection if there is none now. Who subscribes
   * twice unsubscribes twice.
   */
  async subscribe (channel: string, { since }: { since?: number | undefined } = {}): Promise<Subscribed> {
    this.require()
    const subscribed = this.core.subscriptions.add(channel, since)
    this.core.poll()
    return await subscribed
  }

  /** The channel is given up when all who subscribed it have unsubscribed. */
  async unsubscribe (channel: string): Promise<void> {
    await this.core.subscriptions.remove(channel)
  }

  /**
   * Sends a durable event. Resolves when it is stored; without a connection it waits for one. It carries a `dedupeId`, so
   * that it is stored once however often it has to be sent.
   */
  async send<K extends SendName<Own>> (event: K, data: SendData<Own, K>): Promise<SendAck<K>> {
    this.require()
    const { conversationId } = data as { conversationId?: string }
    if (conversationId !== undefined) this.core.typing.sent(conversationId)
    return await this.core.outbox.add(event, data as object) as SendAck<K>
  }

  /** Any other frame, over the socket that is open now: the ack's data. */
  request (event: string, data: object = {}): Promise<unknown> {
    return this.core.request(event, data)
  }

  /** For each keystroke; few of them are sent. `audience` says who is told, as in the frame. */
  recordTyping (conversationId: string, isTyping: boolean, audience?: Audience): void {
    // A sign that waited would be told too late.
    if (this.transport) this.core.typing.record(conversationId, isTyping, audience)
  }

  async updatePresence (status: PresenceStatus, details: PresenceDetails = {}): Promise<PresenceAck> {
    return await this.request('user:presence', { status, ...details }) as PresenceAck
  }

  /**
   * Is told of these users' presence until `stop()`, over all reconnects, where the server tells not everyone of everybody.
   * Needs a socket.
   */
  async watch (userIds: readonly Id[]): Promise<Watch> {
    this.require()
    if (this.transport === 'polling') throw new ClientError('RT_SOCKET_CLOSED', 'There is no socket, which watching needs')
    return await this.core.watches.add(userIds)
  }

  async getPresence (userId: Id): Promise<UserPresence> {
    return (await this.get(`/presence/${encodeURIComponent(userId)}`) as { data: UserPresence }).data
  }

  /** Those online, by user id, at most 500; further pages by `get`. */
  async getOnlineUsers (): Promise<OnlineUser[]> {
    return (await this.get('/online-users?limit=500') as { data: OnlineUser[] }).data
  }

  /** What any other route of the suite answers, e.g. `/stats` or `/typing/42`. */
  get (path: string): Promise<unknown> {
    return this.core.call(path)
  }

  /** Nothing would come of it. */
  private require (): void {
    if (this.state === 'stopped') throw new ClientError('RT_CLIENT_STOPPED')
  }
}

/** The same, for those who have the host's events as a type: `createClient<AppEvents>({ baseUrl })`. */
export const createClient = <Own extends object = object>(options: WebSocketClientOptions): WebSocketClient<Own> => new WebSocketClient<Own>(options)

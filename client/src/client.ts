import { createCore } from './core.js'
import type { WebSocketClientOptions } from './options.js'
import type { Audience, EventName, Events, PresenceDetails, SendAck, SendData, SendName, Transport, Watch } from './types.js'
import type { Id, OnlineUser, PresenceAck, PresenceStatus, Subscribed, UserPresence } from './wire.js'

/** Where a client is: polling counts as connected, waiting for the next attempt as connecting. */
export type ClientState = 'connecting' | 'connected' | 'stopped'

/**
 * A user's connection, kept up: it connects, authenticates, subscribes and resumes, and comes back by itself. `Own` names
 * the events that the host adds and what they carry: `new WebSocketClient<{ 'order:paid': { order: number } }>(…)`.
 */
export interface WebSocketClient<Own extends object = object> {
  /** Of this device or tab. */
  readonly connectionId: string
  readonly state: ClientState
  /** Null: not connected. */
  readonly transport: Transport | null
  /** Channel → the id up to which nothing is missing: for the option `since` after a reload, together with `epoch`. */
  readonly cursors: Record<string, number | undefined>
  /** Of the log that the cursors are of; undefined where the server does not say. */
  readonly epoch: string | undefined

  /** Returns the function that removes the listener. */
  on<K extends EventName<Own>> (event: K, listener: (data: Events<Own>[K]) => void): () => void

  /** Begins, or begins again after `disconnect()` or a final close. Does nothing while it is under way. */
  connect (): void

  /** Ends it: what waits is rejected with `RT_CLIENT_STOPPED`, and the server is told. Nothing else is sent from now on. */
  disconnect (): Promise<void>

  /**
   * Looks at once whether the connection is alive, or tries again if it is not. Pages do so by themselves when they are seen
   * again or the network is back; an app of React Native calls it when it becomes active.
   */
  wake (): void

  /**
   * Hears a channel until `unsubscribe`, over all reconnects; `user:me` is the user's own. With `since`, what came after
   * that id is told first. Resolves when the server has it, after the next connection if there is none now. Who subscribes
   * twice unsubscribes twice.
   */
  subscribe (channel: string, options?: { since?: number | undefined }): Promise<Subscribed>

  /** The channel is given up when all who subscribed it have unsubscribed. */
  unsubscribe (channel: string): Promise<void>

  /**
   * Sends a durable event. Resolves when it is stored; without a connection it waits for one. It carries a `dedupeId`, so
   * that it is stored once however often it has to be sent.
   */
  send<K extends SendName<Own>> (event: K, data: SendData<Own, K>): Promise<SendAck<K>>

  /** Any other frame, over the socket that is open now: the ack's data. */
  request (event: string, data?: object): Promise<unknown>

  /** For each keystroke; few of them are sent. `audience` says who is told, as in the frame. */
  recordTyping (conversationId: string, isTyping: boolean, audience?: Audience): void

  updatePresence (status: PresenceStatus, details?: PresenceDetails): Promise<PresenceAck>

  /**
   * Is told of these users' presence until `stop()`, over all reconnects, where the server tells not everyone of everybody.
   * Needs a socket.
   */
  watch (userIds: readonly Id[]): Promise<Watch>

  getPresence (userId: Id): Promise<UserPresence>

  /** Those online, by user id, at most 500; further pages by `get`. */
  getOnlineUsers (): Promise<OnlineUser[]>

  /** What any other route of the suite answers, e.g. `/stats` or `/typing/42`. */
  get (path: string): Promise<unknown>
}

// eslint-disable-next-line @typescript-eslint/no-unsafe-declaration-merging, @typescript-eslint/no-unused-vars -- the constructor adds what the interface names
export class WebSocketClient<Own extends object = object> {
  /** Nothing is sent or told before the next turn: listeners can be added first. */
  constructor (options: WebSocketClientOptions) {
    return Object.setPrototypeOf(createCore(options), new.target.prototype) as this
  }
}

/** The same, for those who have the host's events as a type: `createClient<AppEvents>({ baseUrl })`. */
export const createClient = <Own extends object = object>(options: WebSocketClientOptions): WebSocketClient<Own> => new WebSocketClient<Own>(options)

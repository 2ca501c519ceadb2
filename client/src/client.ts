import { createApi } from './api.js'
import { createCore } from './core.js'
import type { WebSocketClientOptions } from './options.js'
import type { Audience, EventName, Events, PresenceDetails, SendAck, SendData, SendName, Transport, Watch } from './types.js'
import type {
  ConversationPage, DeleteAck, EditAck, History, HistoryQuery, Id, OnlineUser, OwnEvents, PresenceAck, PresenceStatus, ReadAck, Subscribed, UserPresence, Where
} from './wire.js'

/** The state of a client. Polling counts as connected, waiting for the next attempt as connecting. */
export type ClientState = 'connecting' | 'connected' | 'stopped'

/**
 * The connection of a user. It connects, authenticates, subscribes, resumes, and reconnects automatically. `Own` declares the
 * host's custom events and their data: `new WebSocketClient<{ 'order:paid': { order: number } }>(…)`.
 */
export interface WebSocketClient<Own extends object = OwnEvents> {
  /** The id of this device or tab. */
  readonly connectionId: string
  readonly state: ClientState
  /** The current transport; null while not connected. */
  readonly transport: Transport | null
  /** For each channel the id up to which all events were received: pass them as the option `since` after a reload, with `epoch`. */
  readonly cursors: Record<string, number | undefined>
  /** The epoch of the log to which the cursors belong; undefined if the server sends none. */
  readonly epoch: string | undefined
  /** The user behind the credentials; undefined until the server has authenticated the client. */
  readonly userId: Id | undefined

  /** Returns a function that removes the listener. */
  on<K extends EventName<Own>> (event: K, listener: (data: Events<Own>[K]) => void): () => void

  /** Connects, also after `disconnect()` or a final close. Does nothing while the client is connecting or connected. */
  connect (): void

  /** Disconnects. Pending calls reject with `RT_CLIENT_STOPPED`. Nothing is sent afterwards, except that the connection ended. */
  disconnect (): Promise<void>

  /**
   * Checks at once whether the connection is alive, or tries to connect. Pages do this automatically when they become visible
   * or the network is back; a React Native app calls it when it becomes active.
   */
  wake (): void

  /**
   * Subscribes to a channel until `unsubscribe`, across reconnects; `user:me` is the user's own channel. With `since`, the events
   * after that id are replayed first. Resolves when the server has subscribed it; without a connection, after the next one. Each
   * `subscribe` needs its own `unsubscribe`.
   */
  subscribe (channel: string, options?: { since?: number | undefined }): Promise<Subscribed>

  /** Ends one `subscribe` call; the channel is unsubscribed when all of them have ended. */
  unsubscribe (channel: string): Promise<void>

  /**
   * Sends a durable event. Resolves when it is stored; without a connection it waits for one. The client adds a `dedupeId`, so
   * that the event is stored once, even if it must be sent several times.
   */
  send<K extends SendName<Own>> (event: K, data: SendData<Own, K>): Promise<SendAck<K>>

  /** Sends any other frame over the open socket. Resolves with the data of the ack. */
  request (event: string, data?: object): Promise<unknown>

  /** Call it for each keystroke; only few frames are sent. `audience` selects the receivers, as in the frame. */
  recordTyping (conversationId: string, isTyping: boolean, audience?: Audience): void

  updatePresence (status: PresenceStatus, details?: PresenceDetails): Promise<PresenceAck>

  /**
   * Watches the presence of users until `stop()`, across reconnects, for servers that do not send presence to the whole tenant.
   * Needs a socket.
   */
  watch (userIds: readonly Id[]): Promise<Watch>

  /** The newest messages of a conversation, or the messages before the id `before`, ascending by id. Edited ones have `editedAt`, deleted ones `deleted`. */
  history (query: HistoryQuery): Promise<History>

  /** The user's conversations, latest activity first, with unread counts and last messages; `cursor` is the `next_cursor` of the page before. */
  conversations (query?: { limit?: number | undefined, cursor?: string | undefined }): Promise<ConversationPage>

  /** Marks a conversation as read up to a message. Marks never move back. */
  markRead (conversation: Where, messageId: number): Promise<ReadAck>

  /** Edits a message. Without `data` it keeps its own; null removes them. Like `send`, it waits for a connection. */
  edit (messageId: number, message: string, data?: object | null): Promise<EditAck>

  /** Deletes a message. */
  delete (messageId: number): Promise<DeleteAck>

  getPresence (userId: Id): Promise<UserPresence>

  /** The users who are online, by user id, at most 500; use `get` for further pages. */
  getOnlineUsers (): Promise<OnlineUser[]>

  /** The response of any other route of fastify-realtime, e.g. `/stats` or `/typing/42`. */
  get (path: string): Promise<unknown>
}

// eslint-disable-next-line @typescript-eslint/no-unsafe-declaration-merging, @typescript-eslint/no-unused-vars -- the constructor adds what the interface names
export class WebSocketClient<Own extends object = OwnEvents> {
  /** The client starts in the next turn of the event loop, so that listeners can be added first. */
  constructor (options: WebSocketClientOptions) {
    return Object.setPrototypeOf(createApi(createCore(options)), new.target.prototype) as this
  }
}

/** The same, with the type of the host's events: `createClient<AppEvents>({ baseUrl })`. */
export const createClient = <Own extends object = OwnEvents>(options: WebSocketClientOptions): WebSocketClient<Own> => new WebSocketClient<Own>(options)

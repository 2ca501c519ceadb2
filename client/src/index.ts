/** The client, for browsers, React Native and Node. It has no dependencies, and uses options instead of globals where given. */
export { createClient, WebSocketClient, type ClientState } from './client.js'
export type { ClientClock } from './clock.js'
export { ClientError, type ClientErrorCode } from './errors.js'
export type { Fetch, RequestOptions, ResponseLike, SocketClass, SocketLike } from './globals.js'
export type { WebSocketClientOptions } from './options.js'
export type { TokenSource } from './tokens.js'
export type {
  Audience, ClientEvents, PresenceDetails, SendAck, SendData, Sends, ServerEvents, Told, Transport, Watch, WatchedUser
} from './types.js'
export type {
  Accepted, Id, NotificationsAccepted, OnlineUser, PresenceAck, PresenceStatus, Register, Stats, Subscribed, UserPresence
} from './wire.js'

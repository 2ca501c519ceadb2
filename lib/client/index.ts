/** The client, for browsers and Node: no dependency, and of the server's code only its types. */
export { WebSocketClient, type ClientState } from './client.js'
export type { ClientClock } from './clock.js'
export { ClientError, type ClientErrorCode } from './errors.js'
export type { SocketClass, SocketLike } from './link.js'
export type { WebSocketClientOptions } from './options.js'
export type { Fetch, TokenSource } from './rest.js'
export type {
  Audience, ClientEvents, OnlineUser, PresenceAck, PresenceDetails, PresenceStatus, Sends, ServerEvents, Stats, Subscribed, Transport, UserPresence
} from './types.js'

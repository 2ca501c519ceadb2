/** The client, for browsers, React Native and Node. It has no dependencies, and uses options instead of globals where given. */
export { createClient, WebSocketClient, type ClientState } from './client.js'
export type { ClientClock } from './clock.js'
export { ClientError, type ClientErrorCode } from './errors.js'
export type { Fetch, RequestOptions, ResponseLike, SocketClass, SocketLike } from './globals.js'
export type { WebSocketClientOptions } from './options.js'
export type { TokenSource } from './tokens.js'
export type {
  Audience, ClientEvents, EventName, Events, PresenceDetails, SendAck, SendData, Sends, ServerEvents, AddedFields, Transport, Watch, WatchedUser
} from './types.js'
export type {
  Accepted, Conversation, ConversationPage, DeleteAck, EditAck, History, HistoryQuery, Id, Member, NotificationsAccepted, OnlineUser, OwnEvents, PresenceAck, PresenceStatus, ReadAck, Register, Stats, Subscribed, UserPresence, Where
} from './wire.js'

import type { ClientClock } from './clock.js'
import type { SocketClass } from './link.js'
import type { Fetch, TokenSource } from './rest.js'

/** Options of the client; only `baseUrl` is required. */
export interface WebSocketClientOptions {
  /** Where the suite's routes stand, e.g. `/api/websocket`; relative only in a page. */
  baseUrl: string
  /** The bearer token, or a function asked for a new one before each attempt and when it is about to expire. Absent: cookies. */
  token?: TokenSource
  /** Reconnects without a stable connection between them, after which the client gives up. Default: no end. */
  maxReconnectAttempts?: number
  /** Milliseconds; the longest first delay, doubled with each attempt. Default 3000. */
  reconnectDelay?: number
  /** Milliseconds; no delay is longer. Default 30000. */
  maxReconnectDelay?: number
  /** Milliseconds between two heartbeats. Default: what the server says. */
  heartbeatInterval?: number
  /** Connect by itself when constructed. Default true. */
  autoConnect?: boolean
  /** Of this device or tab. Default: a random one. */
  connectionId?: string
  /** Channel → the largest id seen, as `cursors` gave it: to resume after a reload. */
  since?: Readonly<Record<string, number | undefined>>
  /** Tell the server that messages to this user have come, so that they are not sent again. Default true. */
  confirm?: boolean
  /** Sends that may wait for the server. Default 1000. */
  maxQueued?: number
  /** Milliseconds without a keystroke after which typing ends. Default 5000. */
  typingIdle?: number
  /** Use REST where sockets are blocked. Default true. */
  polling?: boolean
  /** Milliseconds between two rounds of polling. Default 5000. */
  pollInterval?: number
  /** The class of sockets. Default: the global one, which Node has from version 22 on. */
  WebSocket?: SocketClass
  /** Default: the global one. */
  fetch?: Fetch
  /** Time and chance, for tests. */
  clock?: ClientClock
}

type Open = 'token' | 'heartbeatInterval' | 'autoConnect'

/** With the defaults; what has none stays open. */
export type Settings = Required<Omit<WebSocketClientOptions, Open | 'WebSocket'>> & Pick<WebSocketClientOptions, Open> &
  { WebSocket: SocketClass | undefined }

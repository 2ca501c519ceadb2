import { systemClock, type ClientClock } from './clock.js'
import { globals, randomId, type Fetch, type SocketClass } from './globals.js'
import type { TokenSource } from './tokens.js'

/** Options of the client; only `baseUrl` is required. One that is `undefined` or null is as if absent. */
export interface WebSocketClientOptions {
  /** Where the suite's routes stand, e.g. `/api/websocket`; relative only in a page. */
  baseUrl: string
  /** The bearer token, or a function asked for a new one before each attempt and when it is about to expire. Absent: cookies. */
  token?: TokenSource | undefined
  /** Reconnects without a stable connection between them, after which the client gives up. Default: no end. */
  maxReconnectAttempts?: number | undefined
  /** Milliseconds; the longest first delay, doubled with each attempt. Default 3000. */
  reconnectDelay?: number | undefined
  /** Milliseconds; no delay is longer. Default 30000. */
  maxReconnectDelay?: number | undefined
  /** Milliseconds between two heartbeats. Default: what the server says. */
  heartbeatInterval?: number | undefined
  /** Connect by itself when constructed. Default true. */
  autoConnect?: boolean | undefined
  /** Of this device or tab. Default: a random one. */
  connectionId?: string | undefined
  /** Channel → the largest id seen, as `cursors` gave it: to resume after a reload. */
  since?: Readonly<Record<string, number | undefined>> | undefined
  /** What `epoch` was when `since` was kept: ids of another log say nothing. */
  epoch?: string | undefined
  /** Tell the server that messages to this user have come, so that they are not sent again. Default true. */
  confirm?: boolean | undefined
  /** Sends that may wait for the server. Default 1000. */
  maxQueued?: number | undefined
  /** Bytes of the largest frame that the server takes, its option of the same name. Default 65536. */
  maxFrameSize?: number | undefined
  /** Milliseconds without a keystroke after which typing ends. Default 5000. */
  typingIdle?: number | undefined
  /** Use REST where sockets are blocked. Default true. */
  polling?: boolean | undefined
  /** Milliseconds between two rounds of polling. Default 5000. */
  pollInterval?: number | undefined
  /** The class of sockets. Default: the global one, which Node has from version 22 on. */
  WebSocket?: SocketClass | undefined
  /** Default: the global one. */
  fetch?: Fetch | undefined
  /** Time and chance, for tests. */
  clock?: ClientClock | undefined
}

const defaults = {
  maxReconnectAttempts: Infinity,
  reconnectDelay: 3000,
  maxReconnectDelay: 30_000,
  since: {},
  confirm: true,
  maxQueued: 1000,
  maxFrameSize: 65_536,
  typingIdle: 5000,
  polling: true,
  autoConnect: true,
  pollInterval: 5000
}

/** With the defaults; what has none stays open. */
export type Settings = Required<Pick<WebSocketClientOptions, 'baseUrl'>> & { readonly [Name in keyof typeof defaults]: NonNullable<WebSocketClientOptions[Name]> } &
  Pick<WebSocketClientOptions, 'token' | 'heartbeatInterval' | 'epoch' | 'WebSocket'> & { connectionId: string, readonly fetch: Fetch, readonly clock: ClientClock }

export function readOptions (options: WebSocketClientOptions): Settings {
  const clock = options.clock ?? systemClock()
  const fetch: Fetch = (url, init) => globals.fetch!(url, init)
  const settings: Record<string, unknown> = { ...defaults, clock, connectionId: randomId(clock.random), fetch }
  // Null and what is no number are as if absent, too: nothing is equal to NaN.
  for (const [name, value] of Object.entries(options) as Array<[string, unknown]>) if (value === (value ?? NaN)) settings[name] = value
  return settings as Settings
}

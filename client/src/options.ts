import { systemClock, type ClientClock } from './clock.js'
import { globals, randomId, type Fetch, type SocketClass } from './globals.js'
import type { TokenSource } from './tokens.js'

/** Options of the client; only `baseUrl` is required. An option that is `undefined` or null is treated as absent. */
export interface WebSocketClientOptions {
  /** The URL of the routes of fastify-realtime, e.g. `/api/websocket`. May be relative in a page only. */
  baseUrl: string
  /** The bearer token, or a function that returns a new one, called before each attempt and before it expires. Absent: cookies. */
  token?: TokenSource | undefined
  /** Maximum number of consecutive reconnects without a stable connection. Default: unlimited. */
  maxReconnectAttempts?: number | undefined
  /** Upper limit of the first delay in milliseconds, doubled with each attempt. Default 3000. */
  reconnectDelay?: number | undefined
  /** Upper limit of all delays in milliseconds. Default 30000. */
  maxReconnectDelay?: number | undefined
  /** Interval of heartbeats in milliseconds. Default: the interval that the server sends. */
  heartbeatInterval?: number | undefined
  /** Connect automatically after the constructor. Default true. */
  autoConnect?: boolean | undefined
  /** The id of this device or tab. Default: random. */
  connectionId?: string | undefined
  /** For each channel the largest id seen, from `cursors`: to resume after a reload. */
  since?: Readonly<Record<string, number | undefined>> | undefined
  /** The `epoch` to which `since` belongs. Cursors of another epoch are not valid. */
  epoch?: string | undefined
  /** Confirm messages to this user, so that the server does not send them again. Default true. */
  confirm?: boolean | undefined
  /** Maximum number of queued sends. Default 1000. */
  maxQueued?: number | undefined
  /** Maximum size of a frame in bytes: the server's option of the same name. Default 65536. */
  maxFrameSize?: number | undefined
  /** Milliseconds without a keystroke after which typing ends. Default 5000. */
  typingIdle?: number | undefined
  /** Use REST if sockets are blocked. Default true. */
  polling?: boolean | undefined
  /** Interval of polling in milliseconds. Default 5000. */
  pollInterval?: number | undefined
  /** The WebSocket class. Default: the global one, which Node has from version 22 on. */
  WebSocket?: SocketClass | undefined
  /** Default: the global one. */
  fetch?: Fetch | undefined
  /** The source of time and randomness, for tests. */
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

/** Options with defaults filled in. */
export type Settings = Required<Pick<WebSocketClientOptions, 'baseUrl'>> & { readonly [Name in Exclude<keyof typeof defaults, 'maxFrameSize'>]: NonNullable<WebSocketClientOptions[Name]> } &
  Pick<WebSocketClientOptions, 'token' | 'heartbeatInterval' | 'epoch' | 'WebSocket'> & { connectionId: string, maxFrameSize: number, readonly fetch: Fetch, readonly clock: ClientClock }

export function readOptions (options: WebSocketClientOptions): Settings {
  const clock = options.clock ?? systemClock()
  const fetch: Fetch = (url, init) => globals.fetch!(url, init)
  const settings: Record<string, unknown> = { ...defaults, clock, connectionId: randomId(clock.random), fetch }
  // Null and NaN, which is not equal to itself, are treated as absent, too.
  for (const [name, value] of Object.entries(options) as Array<[string, unknown]>) if (value === (value ?? NaN)) settings[name] = value
  return settings as Settings
}

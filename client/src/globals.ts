/** The part of a WebSocket that the client uses: of browsers, Node, or `ws`. */
export interface SocketLike {
  send (text: string): void
  close (code?: number, reason?: string): void
  /** Only in `ws`; `close` of a browser waits for the server in the background. */
  terminate? (): void
  addEventListener (type: 'open' | 'error', listener: () => void): void
  addEventListener (type: 'message', listener: (event: { data: unknown }) => void): void
  addEventListener (type: 'close', listener: (event: { code: number, reason: string }) => void): void
}
export type SocketClass = new (url: string) => SocketLike

/** The part of `fetch` that the client uses. */
export type Fetch = (url: string, init: RequestOptions) => Promise<ResponseLike>
export interface RequestOptions {
  method?: string | undefined
  headers?: { authorization?: string, 'content-type'?: string }
  body?: string | undefined
  keepalive?: boolean | undefined
  // eslint-disable-next-line @typescript-eslint/no-explicit-any -- an AbortSignal, a type that not every platform has
  signal?: any
}
export interface ResponseLike {
  readonly ok: boolean
  readonly status: number
  readonly headers: { get (name: string): string | null }
  json (): Promise<unknown>
  /** Without it, as in React Native, there are no streams. */
  readonly body?: { getReader (): { read (): Promise<{ done: boolean, value?: unknown }> } } | null
}

interface Target {
  addEventListener? (type: string, listener: (event: { persisted?: boolean }) => void): void
  removeEventListener? (type: string, listener: (event: { persisted?: boolean }) => void): void
}

/**
 * Globals of the platform. Each is read when it is needed, so that a missing one does not matter if an option replaces it, and a
 * global that is replaced later is used.
 */
interface Globals extends Target {
  fetch?: Fetch
  WebSocket?: SocketClass
  AbortController?: new () => { signal: unknown, abort (): void }
  TextDecoder?: new () => { decode (bytes: unknown, options: { stream: boolean }): string }
  URL?: new (url: string, base?: string) => { href: string }
  performance?: { now (): number }
  location?: { href: string }
  document?: Target & { hidden?: boolean }
  console?: { error (...values: unknown[]): void }
  setTimeout (task: () => void, ms: number): unknown
  clearTimeout (timer: unknown): void
}

export const globals = globalThis as unknown as Globals

let ids = 0
/** Unique, not secret. React Native has no `crypto`, and pages loaded by http have no `randomUUID`. */
export const randomId = (random: () => number): string => `${random()}-${random()}-${ids++}`

/** What the client needs of a WebSocket: a browser's, Node's own, or the one of `ws`. */
export interface SocketLike {
  send (text: string): void
  close (code?: number, reason?: string): void
  /** Only `ws` has it; a browser's `close` waits for the peer, unseen. */
  terminate? (): void
  addEventListener (type: 'open' | 'error', listener: () => void): void
  addEventListener (type: 'message', listener: (event: { data: unknown }) => void): void
  addEventListener (type: 'close', listener: (event: { code: number, reason: string }) => void): void
}
export type SocketClass = new (url: string) => SocketLike

/** What the client needs of `fetch`. */
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
}

interface Target {
  addEventListener? (type: string, listener: (event: { persisted?: boolean }) => void): void
  removeEventListener? (type: string, listener: (event: { persisted?: boolean }) => void): void
}

/**
 * What a platform may have. Each is read when it is needed and not before, so that nothing is missed where it was passed in
 * as an option, and whatever replaces a global later is used.
 */
interface Globals extends Target {
  fetch?: Fetch
  WebSocket?: SocketClass
  AbortController?: new () => { signal: unknown, abort (): void }
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
/** Unique, not secret. React Native has no `crypto`, and pages that came by http have no `randomUUID`. */
export const randomId = (random: () => number): string => `${random()}-${random()}-${ids++}`

import type { SocketClass } from './link.js'
import type { Fetch } from './rest.js'

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

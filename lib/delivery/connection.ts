import type { MaybePromise } from '../async/maybe-promise.js'
import type { Identity } from '../identity.js'
import type { Joining } from './joining.js'
import type { ReplayOptions } from './replayer.js'

/** A local connection, as plugins other than connections/ see it. */
export interface LocalConnection {
  readonly id: string
  readonly identity: Identity
  /** When its credentials were last shown, in milliseconds since 1970. */
  readonly authenticatedAt: number
  /** The channels it is subscribed to, by name. */
  readonly channels: ReadonlySet<string>
  /** Subscribed by the suite itself, not counted against the limit. */
  isAutomatic (channel: string): boolean
  /** Subscribes; what comes waits for `begin`, which must follow each `join` unless the channel is left, with the same `since` or none. */
  join (channel: string, since?: number): MaybePromise<Joining>
  /** The reply to `join` was written: what was missed follows, no faster than this connection reads, and then live events. */
  begin (joining: Joining, options?: ReplayOptions): void
  leave (channel: string): void
  /** Writes one encoded frame to this connection alone, in order with everything else. */
  send (payload: Buffer): void
  /** Closed or closing. */
  readonly closed: boolean
  /** Runs after the frames that came before, before those that come after. */
  runInOrder<T> (task: () => Promise<T>): Promise<T>
  close (code: number, reason: string): void
}

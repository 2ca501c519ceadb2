import type { MaybePromise } from '../async/maybe-promise.js'
import type { Identity } from '../identity.js'
import type { Joining } from './joining.js'
import type { ReplayOptions } from './replayer.js'

/** A connection of this node, for plugins other than connections/. */
export interface LocalConnection {
  readonly id: string
  readonly identity: Identity
  /** Time of the last authentication, in milliseconds since 1970. */
  readonly authenticatedAt: number
  /** The channels it is subscribed to, by name. */
  readonly channels: ReadonlySet<string>
  /** The hidden channels it is subscribed to. */
  readonly hidden: ReadonlySet<string>
  /** Whether fastify-realtime itself subscribed the channel: such channels do not count against the limit. */
  isAutomatic (channel: string): boolean
  /** Subscribes. Events wait for `begin`, which must follow each `join`, with the same `since` or none, unless the channel is left. */
  join (channel: string, since?: number): MaybePromise<Joining>
  /** Call it when the reply to `join` was written. Missed events follow, no faster than the client reads, and then live events. */
  begin (joining: Joining, options?: ReplayOptions): void
  leave (channel: string): void
  /** Writes one encoded frame to this connection, after everything written before. */
  send (payload: Buffer): void
  /** Closed or closing. */
  readonly closed: boolean
  /** Runs a task between the frames that arrived before this call and those that arrive after it. */
  runInOrder<T> (task: () => Promise<T>): Promise<T>
  close (code: number, reason: string): void
}

import type { ClientError } from './errors.js'
import type { Link } from './link.js'
import type { Frame, Id, Subscribed } from './wire.js'

/** A durable event. */
export type Durable = Frame & { data: { messageId: number } }

/**
 * A replay that was requested. Events that arrive before it do not move the cursor: otherwise, if the socket closed, the missed
 * events would be lost.
 */
export interface Replay {
  /** Events that arrived before the replay and belong after it. */
  held: Durable[]
  /** The id that ends it; -1 until the server replied. */
  target: number
}

/** A subscription of the client. */
export interface Entry {
  channel: string
  /** Number of `subscribe` calls without an `unsubscribe`. The channel is unsubscribed with the last. */
  holders: number
  /** The server subscribes it automatically. */
  isAutomatic?: boolean
  /** All events up to this id were received; absent before the first subscription. */
  cursor?: number | undefined
  /** It was requested over the current socket. */
  isAsked?: boolean
  /** The server has subscribed it. */
  isLive?: boolean
  /** The log has a new epoch: missed events cannot be recovered. */
  owesGap?: boolean
  /** Failed attempts since the last success. */
  tries: number
  replay?: Replay | undefined
  waiters: Array<{ resolve: (answer: Subscribed) => void, reject: (err: ClientError) => void }>
}

/** All state of one user, discarded when the credentials belong to another user. */
export interface State {
  /** The user, if known: it resolves `user:me`. */
  me?: Id | undefined
  /** The epoch of the log to which the ids belong. */
  epoch?: string | undefined
  readonly entries: Map<string, Entry>
  /** Ids of events that were emitted, or sent by this client. */
  readonly seen: Set<number>
  /** The open socket, and whether its server supports epochs and the features that were added with them. */
  link?: Link | undefined
  isModern?: boolean
}

const ME = 'user:me'

/** The name of the user's own channel, as far as it is known. */
export const ownChannel = ({ me }: State): string => me === undefined ? ME : `private-user.${me}`

export const nameOf = (state: State, name: string): string => name === ME ? ownChannel(state) : name

/** The entry of a channel, created if there is none. */
export function entryOf (state: State, name: string): Entry {
  const channel = nameOf(state, name)
  const entry = state.entries.get(channel) ?? { channel, holders: 0, tries: 0, waiters: [] }
  state.entries.set(channel, entry)
  return entry
}

export function identify (state: State, me: Id): void {
  const unnamed = state.entries.get(ME)
  state.me = me
  if (!unnamed) return
  state.entries.delete(ME)
  const { channel, cursor } = entryOf(state, ME)
  state.entries.set(channel, { ...unnamed, channel, cursor: unnamed.cursor ?? cursor })
}

/** Sets the epoch of a reply. True if it is a new one: then all cursors and seen ids are discarded. */
export function learnEpoch (state: State, epoch = state.epoch): boolean {
  const isNew = state.epoch !== undefined && state.epoch !== epoch
  state.epoch = epoch
  if (isNew) {
    state.seen.clear()
    for (const entry of state.entries.values()) {
      entry.owesGap ||= entry.cursor !== undefined
      entry.cursor = undefined
      entry.replay = undefined
    }
  }
  return isNew
}

import type { ClientError } from './errors.js'
import type { Link } from './link.js'
import type { Scope } from './scope.js'
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

/** Stages of a channel: not asked for, or in vain; asked for; the server has it. */
export const IDLE = 0
export const ASKED = 1
export const LIVE = 2

/** One channel the client wants to hear. */
export interface Entry {
  channel: string
  /** Number of `subscribe` calls without an `unsubscribe`. The channel is unsubscribed with the last. */
  holders: number
  /** The server subscribes it automatically. */
  isAutomatic?: boolean
  /** All events up to this id were received; absent before the first subscription. */
  cursor?: number | undefined
  /** Over the socket that is open now. */
  stage: number
  /** The log began anew behind it: what was missed cannot be told. */
  owesGap?: boolean
  /** Failed tries since it was subscribed last, and when the next may be. */
  tries: number
  retryAt: number
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
  /** While the client is this user. */
  user?: Scope | undefined
  /** While it polls. */
  polled?: Scope | undefined
  /** The socket that is open now, and whether its server knows epochs and what came with them. */
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
  const entry = state.entries.get(channel) ?? { channel, holders: 0, stage: IDLE, tries: 0, retryAt: 0, waiters: [] }
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

/** Another user: only what somebody waits for now is kept. */
export function forget (state: State): void {
  for (const [name, entry] of state.entries) {
    entry.holders = entry.waiters.length
    entry.cursor = undefined
    entry.isAutomatic = entry.owesGap = false
    if (!entry.holders) state.entries.delete(name)
  }
  state.seen.clear()
  state.epoch = undefined
}

/** Takes the epoch that an answer carries. True: it is a new one, and all cursors and seen ids are forgotten. */
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

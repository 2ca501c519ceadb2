import type { ClientError } from './errors.js'
import type { Link } from './link.js'
import type { Scope } from './scope.js'
import type { Frame, Id, Subscribed } from './wire.js'

/** A durable event. */
export type Durable = Frame & { data: { messageId: number } }

/**
 * While the server is asked to go on from a cursor: what comes before the replay does not move the cursor, or the replay
 * would be lost with the socket.
 */
export interface Replay {
  /** What came first and belongs behind it. */
  held: Durable[]
  /** The id that ends it; -1 until the server answered. */
  target: number
}

/** Stages of a channel: not asked for, or in vain; asked for; the server has it. */
export const IDLE = 0
export const ASKED = 1
export const LIVE = 2

/** One channel the client wants to hear. */
export interface Entry {
  channel: string
  /** Components that subscribed it: it is given up with the last. */
  holders: number
  /** The server subscribes it by itself. */
  isAutomatic?: boolean
  /** Nothing up to this id is missing; absent: it was never subscribed. */
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

/** All that belongs to one user; dropped as a whole when the credentials become another's. */
export interface State {
  /** Who the client is: only then `user:me` has a name. */
  me?: Id | undefined
  /** Of the server's log; ids of another say nothing. */
  epoch?: string | undefined
  readonly entries: Map<string, Entry>
  /** Ids of events that were told, or sent by this client. */
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

/** The channel's entry, made where there is none. */
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

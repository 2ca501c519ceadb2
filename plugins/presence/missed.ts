import { createHash } from 'node:crypto'
import { encodeFrame } from '../../lib/wire/protocol.js'
import type { SeenUser } from './presence.js'
import type { PresenceChanged, UserEdge, WatchedUser } from './schemas.js'

/** The frames that update a watcher from an earlier state of a user to the current one. */

type Said = Pick<SeenUser, 'status' | 'lastMessage' | 'data'>
type State = Said & Pick<SeenUser, 'userId' | 'device'>

const NOTHING_SAID: Said = { status: 'online', lastMessage: null, data: null }

export const toWatched = ({ displayStatus: _, ...user }: SeenUser): WatchedUser => user

/** The current state of a user, as a `user:presence` frame. */
export function changed ({ userId, status, device, lastMessage, data }: State, timestamp: string): Buffer {
  const frame: PresenceChanged = { userId, status, device: device ?? 'web', lastMessage, data, timestamp }
  return encodeFrame('user:presence', frame)
}

/** The missed frames of a watcher whose latest frame of the user was `latest`. */
export function missedSince (latest: Buffer | null, user: State, timestamp: string): Buffer[] {
  const before = latest === null ? null : (JSON.parse(latest.toString()) as { data: Partial<PresenceChanged> }).data
  const { status = 'online', lastMessage = null, data = null } = before ?? { status: 'offline' }
  return missed(markOf({ status, lastMessage, data }), user, timestamp)
}

/** The missed frames of a watcher who was sent a state with this mark. */
export function missed (mark: string, user: State, timestamp: string): Buffer[] {
  const now = markOf(user)
  if (now === mark) return []
  if (now === OFFLINE) return [encodeFrame('user:offline', { userId: user.userId, status: 'offline', timestamp } satisfies UserEdge)]
  const frames = mark === OFFLINE ? [encodeFrame('user:online', { userId: user.userId, status: 'online', timestamp } satisfies UserEdge)] : []
  return mark === OFFLINE && now === markOf(NOTHING_SAID) ? frames : [...frames, changed(user, timestamp)]
}

const OFFLINE = ''

/** A short mark of a state, different for states that watchers see differently. */
export function markOf ({ status, lastMessage, data }: Said): string {
  return status === 'offline' ? OFFLINE : createHash('sha1').update(JSON.stringify([status, lastMessage, data])).digest('base64url').slice(0, 12)
}

import { ClientError } from './errors.js'
import type { Link } from './link.js'
import type { Core } from './state.js'
import type { Watch, WatchedUser } from './types.js'
import type { Id } from './wire.js'

/** The users whose presence this client watches, across sockets. */
export interface Watches {
  /** Resolves with how they are now, when the server tells of them. */
  add (userIds: readonly Id[]): Promise<Watch>
  /** A new socket: all are watched again. Rejects with the server's refusal. */
  resume (link: Link): Promise<void>
  /** Stops watching everyone: the client belongs to another user now. */
  reset (): void
}

/** Maximum number of users per frame. */
const BATCH = 500

export function createWatches (core: Core): Watches {
  /** Number of watches per user. Replaced when the client belongs to another user, so that old watches have no effect. */
  let counts = new Map<Id, number>()

  const request = async (event: string, ids: readonly Id[]): Promise<WatchedUser[]> => {
    const all: WatchedUser[] = []
    for (let from = 0; from < ids.length; from += BATCH) {
      // An older server does not support it; without a socket it is retried.
      if (!core.isModern) throw new ClientError(core.link ? 'RT_INVALID_FRAME' : 'RT_SOCKET_CLOSED')
      const answer = await core.link!.request(event, { userIds: ids.slice(from, from + BATCH) }) as { users?: WatchedUser[] }
      all.push(...answer.users ?? [])
    }
    return all
  }
  return {
    add: async (userIds) => {
      const mine = counts
      const held = new Set(userIds)
      const ids = [...held]
      const stop = (some: readonly Id[] = ids): void => {
        const gone = some.filter((id) => {
          if (!held.delete(id)) return false
          const left = mine.get(id)! - 1
          mine.set(id, left)
          return !left && mine.delete(id)
        })
        if (mine === counts) request('presence:unwatch', gone).catch(() => {})
      }
      for (const id of ids) mine.set(id, (mine.get(id) ?? 0) + 1)
      try {
        return { users: await core.user.insist(() => request('presence:watch', ids), () => !core.polled.ended), stop }
      } catch (err) {
        stop()
        throw err
      }
    },
    resume: async (link) => {
      if (counts.size) core.emit('watched', { users: await link.scope.insist(() => request('presence:watch', [...counts.keys()])) })
    },
    reset: () => { counts = new Map() }
  }
}

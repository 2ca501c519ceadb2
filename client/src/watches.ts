import { ClientError } from './errors.js'
import { USERS } from './limits.js'
import type { Link } from './link.js'
import type { Core } from './state.js'
import type { Watch, WatchedUser } from './types.js'
import type { Id } from './wire.js'

/** The users whose presence this client watches, across sockets. */
export interface Watches {
  /** Resolves with their presence, when the server has sent it. */
  watch (userIds: readonly Id[]): Promise<Watch>
  /** A new socket: all are watched again. Rejects with the server's refusal. */
  resumeWatches (link: Link): Promise<void>
  /** Stops watching everyone: the client belongs to another user now. */
  forgetWatches (): void
}

export function createWatches (core: Core): Watches {
  /** The users of each watch. Emptied when the client belongs to another user, so that old watches have no effect. */
  const all = new Set<Set<Id>>()

  const request = async (event: string, ids: Id[]): Promise<WatchedUser[]> => {
    const all: WatchedUser[] = []
    while (ids.length) {
      // An older server does not support it; without a socket it is retried.
      if (!core.link?.isModern) throw new ClientError(core.link ? 'RT_INVALID_FRAME' : 'RT_SOCKET_CLOSED')
      const answer = await core.link.request(event, { userIds: ids.splice(0, USERS) }) as { users?: WatchedUser[] }
      all.push(...answer.users ?? [])
    }
    return all
  }
  return {
    watch: async (userIds) => {
      core.run.check()
      const held = new Set(userIds)
      const stop = (some: readonly Id[] = [...held]): void => {
        const gone = some.filter((id) => held.delete(id) && ![...all].some((other) => other.has(id)))
        if (all.has(held)) request('presence:unwatch', gone).catch(() => {})
        if (!held.size) all.delete(held)
      }
      all.add(held)
      try {
        return { users: await core.user.insist(() => request('presence:watch', [...held]), () => !core.polled.ended), stop }
      } catch (err) {
        stop()
        throw err
      }
    },
    resumeWatches: async (link) => {
      const ids = new Set([...all].flatMap((held) => [...held]))
      if (ids.size) core.emit('watched', { users: await link.insist(() => request('presence:watch', [...ids])) })
    },
    forgetWatches: () => { all.clear() }
  }
}

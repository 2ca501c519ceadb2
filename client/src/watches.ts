import { ClientError } from './errors.js'
import type { Link } from './link.js'
import type { State } from './state.js'
import type { Watch, WatchedUser } from './types.js'
import type { Id } from './wire.js'

/** Users whose presence is told to this connection, over all sockets. */
export interface Watches {
  /** Resolves with how they are now, when the server tells of them. */
  add (userIds: readonly Id[]): Promise<Watch>
  /** A new socket: all are watched again. Rejects with the server's refusal. */
  resume (link: Link): Promise<void>
  /** The connection is gone for good, and who waits is told; `isAnother`: the user is another, and nothing is watched any more. */
  stop (err: ClientError, isAnother?: boolean): void
}

/** Users of one frame. */
const BATCH = 500

export function createWatches (state: State, emit: (event: string, data: unknown) => void, isStarted: () => boolean): Watches {
  /** How many want each. Another map for another user: what the one before still holds counts for nothing. */
  let counts = new Map<Id, number>()
  /** Those who wait for a socket. */
  let waiting: Array<{ resolve: (link: Link) => void, reject: (err: ClientError) => void }> = []

  const request = async (link: Link, event: string, ids: readonly Id[]): Promise<WatchedUser[]> => {
    if (!state.isModern) throw new ClientError('RT_INVALID_FRAME')
    const all: WatchedUser[] = []
    for (let from = 0; from < ids.length; from += BATCH) {
      const answer = await link.request(event, { userIds: ids.slice(from, from + BATCH) })
      all.push(...(answer as { users?: WatchedUser[] }).users ?? [])
    }
    return all
  }
  return {
    add: async (userIds) => {
      const mine = counts
      const ids = [...new Set(userIds)]
      let isOn = true
      const stop = (): void => {
        if (!isOn) return
        isOn = false
        const gone = ids.filter((id) => {
          const left = mine.get(id)! - 1
          mine.set(id, left)
          return !left && mine.delete(id)
        })
        if (state.link && mine === counts) request(state.link, 'presence:unwatch', gone).catch(() => {})
      }
      for (const id of ids) mine.set(id, (mine.get(id) ?? 0) + 1)
      for (;;) {
        try {
          // By the socket that is open, or by the next.
          const link = state.link ?? await new Promise<Link>((resolve, reject) => waiting.push({ resolve, reject }))
          return { users: await request(link, 'presence:watch', ids), stop }
        } catch (err) {
          if ((err as ClientError).code === 'RT_SOCKET_CLOSED' && isStarted()) continue
          stop()
          throw err
        }
      }
    },
    resume: async (link) => {
      for (const { resolve } of waiting.splice(0)) resolve(link)
      if (counts.size) emit('watched', { users: await link.scope.insist(async () => await request(link, 'presence:watch', [...counts.keys()])) })
    },
    stop: (err, isAnother) => {
      if (isAnother) counts = new Map()
      for (const { reject } of waiting.splice(0)) reject(err)
    }
  }
}

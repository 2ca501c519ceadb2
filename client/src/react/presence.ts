import type { Id, Watch, WatchedUser } from '../index.js'
import { globals } from '../globals.js'
import { share, useMemo, useRealtime, useStore, type Realtime, type Store } from './context.js'

type Presences = ReadonlyMap<Id, WatchedUser>
const NOBODY: Presences = new Map()

export interface PresenceStore extends Store<Presences> {
  look (userIds: readonly Id[]): () => void
}

/** The presence of all users whom components use. Changes of one turn of the event loop are sent with one frame. */
function presenceStore (realtime: Realtime): PresenceStore {
  const { client } = realtime
  /** The users of each component, and the users requested from the server. */
  const looks = new Set<readonly Id[]>()
  let asked = new Set<Id>()
  const watches: Watch[] = []
  let all = NOBODY
  let show = (): void => {}
  let timer: unknown
  const soon = (): void => { timer ??= globals.setTimeout(flush, 0) }
  const take = (some: readonly WatchedUser[]): void => {
    all = new Map([...all, ...some.map((user) => [user.userId, user] as const)].filter(([id]) => asked.has(id)))
    show()
  }
  const change = (more: Pick<WatchedUser, 'userId'> & Partial<WatchedUser>): void => {
    const known = all.get(more.userId)
    if (known) take([{ ...known, ...more }])
  }
  const flush = (): void => {
    timer = undefined
    const wanted = new Set([...looks].flat())
    const added = [...wanted].filter((id) => !asked.has(id))
    const gone = [...asked].filter((id) => !wanted.has(id))
    asked = wanted
    for (const watch of watches) watch.stop(gone)
    if (!added.length) return
    client.watch(added).then((watch) => {
      watches.push(watch)
      watch.stop(added.filter((id) => !asked.has(id)))
      take(watch.users)
    // Without a socket; the next one asks again.
    }, () => { for (const id of added) asked.delete(id) })
  }
  return share(realtime, 'presence', NOBODY, (set, on, onEnd) => {
    show = () => { set(all) }
    on('user:online', change)
    on('user:presence', (presence) => { change({ data: null, ...presence }) })
    on('user:offline', (edge) => { change({ device: null, lastMessage: null, data: null, lastSeenAt: edge.timestamp, ...edge }) })
    on('watched', ({ users }) => { take(users) })
    on('transport', soon)
    onEnd(() => { all = NOBODY })
  }, {
    look: (userIds: readonly Id[]) => {
      looks.add(userIds)
      soon()
      return () => {
        looks.delete(userIds)
        soon()
      }
    }
  })
}

/**
 * The presence of a user, or of several by their ids; undefined until it is known. Watches them while the component is mounted.
 * The map is shared and may contain other users, too.
 */
export function usePresence (userIds: readonly Id[]): Presences
export function usePresence (userId: Id | null | undefined): WatchedUser | undefined
export function usePresence (who: readonly Id[] | Id | null | undefined): Presences | WatchedUser | undefined {
  const realtime = useRealtime()
  const store = realtime.presence ??= presenceStore(realtime)
  const isList = Array.isArray(who)
  const subscribe = useMemo(() => (listener: () => void) => {
    const ends = [store.subscribe(listener), store.look(([] as Id[]).concat(who ?? []))]
    return () => { for (const end of ends) end() }
  }, [store, JSON.stringify(who)])
  const read = (all: Presences): Presences | WatchedUser | undefined => isList ? all : all.get(who as Id)
  return useStore({ subscribe, get: () => read(store.get()), initial: read(NOBODY) })
}

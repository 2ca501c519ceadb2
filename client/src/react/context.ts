import {
  createContext, createElement, useContext, useEffect, useInsertionEffect, useMemo, useRef, useState, useSyncExternalStore, type ReactElement, type ReactNode
} from 'react'
import { createClient, type EventName, type Events, type OwnEvents, type ReadAck, type WebSocketClient, type WebSocketClientOptions, type Where } from '../index.js'
import { globals } from '../globals.js'
import type { PresenceStore } from './presence.js'

/** One import of React is shorter than one in each file. */
export { useMemo }

export type Client = WebSocketClient<object>

/** The state shared by the hooks below a provider while the client belongs to one user. */
export interface Realtime {
  readonly client: Client
  /** By name. Each is here while a component uses it. */
  readonly stores: Map<string, Store<unknown>>
  /** The client now belongs to another user, and has dropped this user's subscriptions. */
  isOver?: boolean
  presence?: PresenceStore
  /** While unread messages are shown: the user has sent a message, or read up to one. */
  sent?: (() => void) | undefined
  read?: ((where: Where, ack: ReadAck) => void) | undefined
}

const Context = createContext<Realtime | null>(null)

export type RealtimeProviderProps = { children?: ReactNode } & (
  /**
   * The provider creates a client, connects it while it is mounted, and disconnects it. The options are read once, except
   * `autoConnect`, which has no effect: another user needs another `key`.
   */
  { options: WebSocketClientOptions, client?: undefined } |
  /** The application connects and disconnects. */
  // eslint-disable-next-line @typescript-eslint/no-explicit-any -- with any custom events
  { client: WebSocketClient<any>, options?: undefined }
)

/** Gives the hooks below it their client. */
export function RealtimeProvider ({ client, options, children }: RealtimeProviderProps): ReactElement {
  const [own] = useState(() => options && createClient({ ...options, autoConnect: false }))
  const [generation, renew] = useState(0)
  const release = useRef<unknown>(undefined)
  const current = (own ?? client) as Client
  // All state is replaced when the user changes.
  const realtime = useMemo<Realtime>(() => ({ client: current, stores: new Map() }), [current, generation])
  const connect = (): void => {
    globals.clearTimeout(release.current)
    if (own) current.connect()
  }
  // Before the effects of the components below.
  useInsertionEffect(connect, [current])
  useEffect(() => {
    connect()
    return () => {
      // StrictMode mounts again in the same turn.
      if (own) release.current = globals.setTimeout(() => { void current.disconnect() }, 0)
    }
  }, [current])
  useEffect(() => current.on('identity-changed', () => {
    realtime.isOver = true
    renew(generation + 1)
  }), [realtime])
  return createElement(Context.Provider, { value: realtime }, children)
}

export function useRealtime (): Realtime {
  const realtime = useContext(Context)
  if (!realtime) throw new Error('No RealtimeProvider')
  return realtime
}

/** The client itself, e.g. to send. */
export const useClient = <Own extends object = OwnEvents>(): WebSocketClient<Own> => useRealtime().client

/** A value that components read with `useSyncExternalStore`. */
export interface Store<Value> {
  /** The current value. */
  get: () => Value
  /** The value on a server, and in the page until it is hydrated. */
  readonly initial: Value
  /** Each listener must be a function of its own. */
  subscribe: (listener: () => void) => () => void
}

/** Listens to an event of the client until the store ends. */
export type On = <Name extends EventName<object>>(event: Name, listener: (data: Events<object>[Name]) => void) => void
export type OnEnd = (end: () => void) => void
export type Start<Value> = (set: (next: Value) => void, on: On, onEnd: OnEnd) => void
export const NOTHING = (): void => {}

/** Milliseconds between two renders: a burst of messages costs a few. */
const PACE = 50

/**
 * The store of this name, created for the first component that uses it. It runs while it has listeners, and ends one turn of the
 * event loop after the last one left, so that a component that is mounted again at once, as in StrictMode, finds it unchanged.
 */
export function share<Value, More = object> ({ stores, client }: Realtime, name: string, initial: Value, start: Start<Value>, more?: More): Store<Value> & More {
  const listeners = new Set<() => void>()
  let value = initial
  let shown = initial
  let pace: unknown
  let release: unknown
  /** Functions that end it; undefined while it is not running. */
  let ends: Array<() => void> | undefined

  const show = (): void => {
    if (shown === value) return
    shown = value
    pace = globals.setTimeout(() => {
      pace = undefined
      show()
    }, PACE)
    for (const listener of listeners) listener()
  }
  const begin = (): void => {
    const mine: Array<() => void> = ends = []
    // A component may have kept it while no other used it.
    stores.set(name, store)
    start((next) => {
      // A reply may arrive after the end.
      if (mine !== ends) return
      value = next
      if (!pace) show()
    }, (event, listener) => { mine.push(client.on(event, listener)) }, (end) => { mine.push(end) })
  }
  const store = stores.get(name) as Store<Value> & More | undefined ?? {
    initial,
    get: () => shown,
    subscribe: (listener: () => void) => {
      listeners.add(listener)
      globals.clearTimeout(release)
      if (!ends) begin()
      return () => {
        listeners.delete(listener)
        if (!listeners.size) {
          release = globals.setTimeout(() => {
            for (const end of ends!) end()
            ends = undefined
            value = shown = initial
            stores.delete(name)
          }, 0)
        }
      }
    },
    ...more!
  }
  stores.set(name, store)
  return store
}

export const useStore = <Value>({ subscribe, get, initial }: Store<Value>): Value => useSyncExternalStore(subscribe, get, () => initial)

/** Calls the listener for each event of this name while the component is mounted. It calls the newest listener, so that need not be memoized. */
export function useEvent<Name extends EventName<OwnEvents>> (event: Name, listener: (data: Events<OwnEvents>[Name]) => void): void {
  const client = useClient()
  const newest = useRef(listener)
  useInsertionEffect(() => { newest.current = listener })
  useEffect(() => client.on(event, (data) => { newest.current(data) }), [client, event])
}

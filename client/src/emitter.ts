import { globals } from './globals.js'
import type { ClientEvents } from './types.js'

type Listener = (data: never) => unknown

/** Its types are those of the client's own events; `on` and the server's events are typed by the client. */
export interface Emitter {
  /** Returns a function that removes the listener. A listener added twice is called once, until it is removed twice. */
  on (event: string, listener: Listener): () => void
  /**
   * Calls the current listeners; changes by a listener take effect with the next event. If a listener throws or rejects, the
   * others are still called, and the error is written to the console, as are `error` events without a listener.
   */
  emit<K extends keyof ClientEvents> (event: K, data: ClientEvents[K]): void
  has (event: string): boolean
}

export function createEmitter (): Emitter {
  /** One for each call of `on`, so that a listener can be added and removed more than once. */
  const all = new Set<[event: string, listener: Listener]>()
  const listenersOf = (event: string): Set<Listener> => new Set([...all].filter(([name]) => name === event).map(([, listener]) => listener))
  const report = (err: unknown): void => { globals.console?.error(err) }
  return {
    on: (event, listener) => {
      const one: [string, Listener] = [event, listener]
      all.add(one)
      return () => { all.delete(one) }
    },
    emit: (event, data) => {
      const listeners = listenersOf(event)
      if (event === 'error' && !listeners.size) report(data)
      for (const listener of listeners) {
        const call = async (): Promise<unknown> => await listener(data as never)
        call().catch(report)
      }
    },
    has: (event) => listenersOf(event).size > 0
  }
}

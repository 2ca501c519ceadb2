import { globals } from './globals.js'

type Listener = (data: never) => unknown

/** Names and listeners; their types are the client's business. */
export interface Emitter {
  /** Returns the function that removes the listener. One that is added twice is called once, and removed by the second removal. */
  on (event: string, listener: Listener): () => void
  /**
   * Calls those who listen now, whoever is added or removed meanwhile. A listener that throws or rejects harms no other: what
   * it throws goes to the console, as do errors that nobody listens for.
   */
  emit (event: string, data: unknown): void
  has (event: string): boolean
}

export function createEmitter (): Emitter {
  /** How many added each. */
  const all = new Map<string, Map<Listener, number>>()
  const report = (err: unknown): void => { globals.console?.error(err) }
  const has = (event: string): boolean => Boolean(all.get(event)?.size)
  return {
    on: (event, listener) => {
      const listeners = all.get(event) ?? new Map<Listener, number>()
      all.set(event, listeners.set(listener, (listeners.get(listener) ?? 0) + 1))
      let isOn = true
      return () => {
        const count = listeners.get(listener) ?? 0
        if (isOn && count > 1) listeners.set(listener, count - 1)
        else if (isOn) listeners.delete(listener)
        isOn = false
      }
    },
    emit: (event, data) => {
      if (event === 'error' && !has(event)) report(data)
      for (const listener of [...all.get(event)?.keys() ?? []]) {
        try {
          const returned = listener(data as never) as Promise<unknown> | undefined
          if (typeof returned?.then === 'function') returned.then(undefined, report)
        } catch (err) {
          report(err)
        }
      }
    },
    has
  }
}

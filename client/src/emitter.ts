import { globals } from './globals.js'

type Listener = (data: never) => unknown

/** An untyped emitter; the client adds the types. */
export interface Emitter {
  /** Returns a function that removes the listener. A listener added twice is called once, until it is removed twice. */
  on (event: string, listener: Listener): () => void
  /**
   * Calls the current listeners; changes by a listener take effect with the next event. If a listener throws or rejects, the
   * others are still called, and the error is written to the console, as are `error` events without a listener.
   */
  emit (event: string, data: unknown): void
  has (event: string): boolean
}

export function createEmitter (): Emitter {
  /** Each listener is wrapped, so that it can be added and removed more than once. */
  const all = new Map<string, Set<[Listener]>>()
  const report = (err: unknown): void => { globals.console?.error(err) }
  const has = (event: string): boolean => Boolean(all.get(event)?.size)
  return {
    on: (event, listener) => {
      const boxes = all.get(event) ?? new Set()
      const box: [Listener] = [listener]
      all.set(event, boxes.add(box))
      return () => { boxes.delete(box) }
    },
    emit: (event, data) => {
      if (event === 'error' && !has(event)) report(data)
      for (const listener of new Set([...all.get(event) ?? []].map(([one]) => one))) {
        const call = async (): Promise<unknown> => await listener(data as never)
        call().catch(report)
      }
    },
    has
  }
}

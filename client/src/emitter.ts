import { globals } from './globals.js'

type Listener = (data: never) => unknown

/** Names and listeners; their types are the client's business. */
export interface Emitter {
  /** Returns the function that removes the listener. One that is added twice is called once, until it is removed twice. */
  on (event: string, listener: Listener): () => void
  /**
   * Calls those who listen now, whoever is added or removed meanwhile. A listener that throws or rejects harms no other: what
   * it throws goes to the console, as do errors that nobody listens for.
   */
  emit (event: string, data: unknown): void
  has (event: string): boolean
}

export function createEmitter (): Emitter {
  /** Each boxed, so that it can be added and removed by several. */
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

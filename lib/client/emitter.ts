type Listener = (data: never) => void

/** Names and listeners; their types are the client's business. */
export interface Emitter {
  /** Answers the function that takes the listener off again. */
  on (event: string, listener: Listener): () => void
  /** A listener that throws harms no other. What it throws, and errors that nobody listens for, go to the console. */
  emit (event: string, data: unknown): void
  has (event: string): boolean
}

export function createEmitter (): Emitter {
  const all = new Map<string, Set<Listener>>()
  const has = (event: string): boolean => (all.get(event)?.size ?? 0) > 0
  const emit: Emitter['emit'] = (event, data) => {
    if (event === 'error' && !has(event)) console.error(data)
    all.get(event)?.forEach((listener) => {
      try {
        listener(data as never)
      } catch (err) {
        console.error(err)
      }
    })
  }
  return {
    on: (event, listener) => {
      const listeners = all.get(event) ?? new Set()
      all.set(event, listeners.add(listener))
      return () => { listeners.delete(listener) }
    },
    emit,
    has
  }
}

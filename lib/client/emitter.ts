type Listener = (data: never) => void

/** Names and listeners; their types are the client's business. */
export interface Emitter {
  on (event: string, listener: Listener): void
  off (event: string, listener: Listener): void
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
    on: (event, listener) => { all.set(event, (all.get(event) ?? new Set()).add(listener)) },
    off: (event, listener) => { all.get(event)?.delete(listener) },
    emit,
    has
  }
}

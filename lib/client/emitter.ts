type Listener = (data: never) => void

/** Names and listeners. Types are the client's business; a listener that throws is told to `onThrow` and harms no other. */
export class Emitter {
  readonly #listeners = new Map<string, Set<Listener>>()
  readonly #onThrow: (err: unknown, event: string) => void

  constructor (onThrow: (err: unknown, event: string) => void) {
    this.#onThrow = onThrow
  }

  on (event: string, listener: Listener): void {
    const listeners = this.#listeners.get(event) ?? new Set()
    this.#listeners.set(event, listeners.add(listener))
  }

  off (event: string, listener: Listener): void {
    this.#listeners.get(event)?.delete(listener)
  }

  /** False: nobody listens. */
  emit (event: string, data: unknown): boolean {
    const listeners = [...this.#listeners.get(event) ?? []]
    for (const listener of listeners) {
      try {
        listener(data as never)
      } catch (err) {
        this.#onThrow(err, event)
      }
    }
    return listeners.length > 0
  }

  has (event: string): boolean {
    return (this.#listeners.get(event)?.size ?? 0) > 0
  }
}

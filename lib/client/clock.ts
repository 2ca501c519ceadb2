/** The client's time and chance, as one option: a test moves them. */
export interface ClientClock {
  /** Milliseconds since any moment; never back. */
  now (): number
  setTimeout (task: () => void, ms: number): unknown
  clearTimeout (timer: unknown): void
  /** From 0 to below 1. */
  random (): number
}

export const systemClock: ClientClock = {
  now: () => Date.now(),
  setTimeout: (task, ms) => setTimeout(task, ms),
  clearTimeout: (timer) => { clearTimeout(timer as number) },
  random: () => Math.random()
}

/** A wait that can be cut short. One at a time. */
export class Pause {
  readonly #clock: ClientClock
  #timer: unknown
  #end: (() => void) | null = null

  constructor (clock: ClientClock) {
    this.#clock = clock
  }

  async wait (ms: number): Promise<void> {
    this.end()
    await new Promise<void>((resolve) => {
      this.#end = resolve
      this.#timer = this.#clock.setTimeout(() => { this.end() }, Math.max(0, ms))
    })
  }

  end (): void {
    this.#clock.clearTimeout(this.#timer)
    this.#end?.()
    this.#end = null
  }
}

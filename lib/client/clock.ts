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
  random: Math.random
}

/** A wait that can be cut short. One at a time. */
export function createPause (clock: ClientClock): { wait: (ms: number) => Promise<void>, end: () => void } {
  let timer: unknown
  let done = (): void => {}
  return {
    wait: (ms) => new Promise((resolve) => {
      done = resolve
      timer = clock.setTimeout(resolve, ms)
    }),
    end: () => {
      clock.clearTimeout(timer)
      done()
    }
  }
}

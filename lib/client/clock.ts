/** The client's time and chance, as one option: a test moves them. */
export interface ClientClock {
  /** Milliseconds since any moment; never back. */
  now (): number
  /** Runs `task` in `ms`, unless the function that it answers is called before. */
  after (ms: number, task: () => void): () => void
  /** From 0 to below 1. */
  random (): number
}

export const systemClock: ClientClock = {
  now: Date.now,
  after: (ms, task) => {
    const timer = setTimeout(task, ms)
    return () => { clearTimeout(timer) }
  },
  random: Math.random
}

/** A wait that can be cut short. One at a time. */
export function createPause (clock: ClientClock): { wait: (ms: number) => Promise<void>, end: () => void } {
  let end = (): void => {}
  return {
    wait: (ms) => new Promise((resolve) => {
      const cancel = clock.after(ms, resolve)
      end = () => {
        cancel()
        resolve()
      }
    }),
    end: () => { end() }
  }
}

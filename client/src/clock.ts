import { globals } from './globals.js'

/** The client's source of time and randomness, as one option for tests. */
export interface ClientClock {
  /** Monotonic time in milliseconds. */
  now (): number
  /** Runs `task` after `ms` milliseconds, unless the returned function is called before. */
  after (ms: number, task: () => void): () => void
  /** A random number from 0 to below 1. */
  random (): number
}

/**
 * Monotonic, even if the system clock is set back. It takes the larger step of two clocks, because `performance.now()` stops
 * while some machines sleep.
 */
export function systemClock (): ClientClock {
  let steady = 0
  let wall = 0
  let elapsed = 0
  return {
    now: () => {
      const before = [steady, wall] as const
      steady = globals.performance?.now() ?? 0
      wall = Date.now()
      return elapsed += Math.max(steady - before[0], wall - before[1], 0)
    },
    after: (ms, task) => {
      const timer = globals.setTimeout(task, ms)
      return () => { globals.clearTimeout(timer) }
    },
    random: Math.random
  }
}

/** The time, as a parameter: rules never read the system's clock themselves, so that a test can move it. */
export interface Clock {
  /** Milliseconds since 1970, UTC. */
  now (): number
}

export const systemClock: Clock = { now: () => Date.now() }

/** The wire's form of a time: ISO 8601, UTC, with milliseconds. */
export const toIso = (ms: number): string => new Date(ms).toISOString()

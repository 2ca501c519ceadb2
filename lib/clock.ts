/** The time, as a parameter: rules never read the system's clock themselves, so that a test can move it. */
export interface Clock {
  /** Milliseconds since 1970, UTC. */
  now (): number
}

export const systemClock: Clock = { now: () => Date.now() }

/** Remembers the last time and its text: what comes together has one time, and making its text costs a microsecond. */
export function keepLast (textOf: (ms: number) => string): (ms: number) => string {
  let [last, text] = [NaN, '']
  return (ms) => {
    if (ms !== last) [last, text] = [ms, textOf(ms)]
    return text
  }
}

/** The wire's form of a time: ISO 8601, UTC, with milliseconds. */
export const toIso = keepLast((ms) => new Date(ms).toISOString())

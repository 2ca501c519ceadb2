/** The time, as a parameter: rules never read the system's clock themselves, so that a test can move it. */
export interface Clock {
  /** Milliseconds since 1970, UTC. */
  now (): number
}

export const systemClock: Clock = { now: () => Date.now() }

/**
 * The text of times, in UTC with milliseconds, as `toISOString` says it but for what stands between day and hour, and at
 * the end. The last time's and the last second's are remembered: what comes together has one time or almost, and making
 * a text costs a microsecond.
 */
export function timeText (between: string, end: string): (ms: number) => string {
  let [last, text] = [NaN, '']
  let [second, start] = [NaN, '']
  return (ms) => {
    if (ms === last) return text
    const at = Math.floor(ms / 1000)
    // Up to the point behind the seconds.
    if (at !== second) [second, start] = [at, new Date(at * 1000).toISOString().slice(0, -4).replace('T', between)]
    const rest = Math.floor(ms) - at * 1000
    text = `${start}${rest < 100 ? rest < 10 ? '00' : '0' : ''}${rest}${end}`
    last = ms
    return text
  }
}

/** The wire's form of a time: ISO 8601, UTC, with milliseconds. */
export const toIso = timeText('T', 'Z')

/** The same for when credentials end: a memory of its own, since such times and those of now come in turns. */
export const expiryToIso = timeText('T', 'Z')

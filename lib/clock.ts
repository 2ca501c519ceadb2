/**
 * The time of day, as a parameter, so that a test can move it. Rules, rows and frames take their times from a `Clock`.
 * Timeouts and durations are measured with `performance.now()`, which never jumps.
 */
export interface Clock {
  /** Milliseconds since 1970, UTC. */
  now (): number
}

export const systemClock: Clock = { now: () => Date.now() }

/**
 * Formats times as `toISOString` does, with other text between date and time and at the end. Formatting costs a
 * microsecond, so the last two times and seconds are remembered: a row has at most two times, and the rows and frames of one
 * batch mostly share them.
 */
export function timeFormat (between: string, end: string): (ms: number) => string {
  // Up to the dot behind the seconds.
  const upToSecond = remembered((second) => new Date(second * 1000).toISOString().slice(0, -4).replace('T', between))
  return remembered((ms) => {
    const second = Math.floor(ms / 1000)
    const rest = Math.floor(ms) - second * 1000
    return `${upToSecond(second)}${rest < 100 ? rest < 10 ? '00' : '0' : ''}${rest}${end}`
  })
}

/** Remembers the last two results. */
function remembered (format: (value: number) => string): (value: number) => string {
  let last = NaN
  let lastText = ''
  let other = NaN
  let otherText = ''
  return (value) => {
    if (value === last) return lastText
    if (value === other) return otherText
    const text = format(value)
    other = last
    otherText = lastText
    last = value
    lastText = text
    return text
  }
}

/** The wire's form of a time: ISO 8601, UTC, with milliseconds. */
export const toIso = timeFormat('T', 'Z')

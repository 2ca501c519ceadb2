/** Ids of one statement. */
const CHUNK = 1000
/** Shorter ones are not worth a statement of their own. */
const MIN_RUN = 50

/** From and to, both included: every id between them is meant. */
export type Run = readonly [from: number, to: number]

/**
 * Splits ids into runs of consecutive ones, which an update visits at a third of the cost, and chunks of the rest. What
 * begins or ends a run is left to the rest: a range locks the gap before its first row and the row after its last, where
 * another statement may be about to insert; so both are rows that are meant as well.
 */
export function runsOf (ids: readonly number[]): { runs: Run[], rest: number[][] } {
  const runs: Run[] = []
  const rest: number[] = []
  const sorted = ids.toSorted((a, b) => a - b)
  for (let at = 0; at < sorted.length;) {
    let end = at + 1
    while (end < sorted.length && sorted[end] === Number(sorted[end - 1]) + 1) end++
    const [first, last] = [Number(sorted[at]), Number(sorted[end - 1])]
    if (end - at < MIN_RUN) {
      rest.push(...sorted.slice(at, end))
    } else {
      rest.push(first, last)
      for (let from = first + 1; from < last; from += CHUNK) runs.push([from, Math.min(from + CHUNK, last) - 1])
    }
    at = end
  }
  return { runs, rest: Array.from({ length: Math.ceil(rest.length / CHUNK) }, (_, i) => rest.slice(i * CHUNK, (i + 1) * CHUNK)) }
}

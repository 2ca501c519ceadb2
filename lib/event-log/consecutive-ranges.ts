/** Ids of one statement. */
const CHUNK = 1000
/** Shorter ones are not worth a statement of their own. */
const MIN_RANGE_IDS = 50

/** From and to, both included: every id between them is meant. */
export type IdRange = readonly [from: number, to: number]

/**
 * Splits ids into runs of consecutive ones, which an update visits at a third of the cost, and chunks of the rest. What
 * begins or ends a run is left to the rest: a range locks the gap before its first row and the row after its last, where
 * another statement may be about to insert; so both are rows that are meant as well.
 */
export function consecutiveRanges (ids: readonly number[]): { ranges: IdRange[], singles: number[][] } {
  const ranges: IdRange[] = []
  const singles: number[] = []
  const sorted = ids.toSorted((a, b) => a - b)
  for (let at = 0; at < sorted.length;) {
    let end = at + 1
    while (end < sorted.length && sorted[end] === Number(sorted[end - 1]) + 1) end++
    const [first, last] = [Number(sorted[at]), Number(sorted[end - 1])]
    if (end - at < MIN_RANGE_IDS) {
      singles.push(...sorted.slice(at, end))
    } else {
      singles.push(first, last)
      for (let from = first + 1; from < last; from += CHUNK) ranges.push([from, Math.min(from + CHUNK, last) - 1])
    }
    at = end
  }
  return { ranges, singles: Array.from({ length: Math.ceil(singles.length / CHUNK) }, (_, i) => singles.slice(i * CHUNK, (i + 1) * CHUNK)) }
}

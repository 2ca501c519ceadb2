/** Ids of one statement. */
const CHUNK = 1000
/** Shorter ranges are not worth a statement of their own. */
const MIN_RANGE_IDS = 50

/** All ids from the first to the last, both included. */
export type IdRange = readonly [from: number, to: number]

/**
 * Splits ids into ranges of consecutive ones, for which an update costs a third, and chunks of single ids. The first and the
 * last id of a range are left to the single ones: an update of a range locks the gap before its first row and the row after
 * its last, where another statement may insert, unless both belong to the same update.
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

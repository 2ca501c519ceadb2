/** How long look-ups wait for those before them, in milliseconds: one that takes longer must not hold up the others. */
const MAX_WAIT_MS = 50

/**
 * Gathers single look-ups into one: everything asked within a turn of the event loop, or while the last ones are under
 * way and for `rest` milliseconds after them, is loaded together, at most `size` at a time. A mass reconnect then costs a
 * handful of statements instead of one per user, and a lone look-up never waits. Keys that are objects are the same where
 * `keyOf` says so; who asks for the same gets the same value.
 */
export function batchLoader<Key, Value> (
  load: (keys: Key[]) => Promise<Map<Key, Value>>,
  { size = 500, pause = 0, keyOf = (key) => key }: { size?: number, pause?: number, keyOf?: (key: Key) => unknown } = {}
): (key: Key) => Promise<Value | undefined> {
  let waiting = new Map<unknown, { key: Key, promise: Promise<Value | undefined>, resolveWith: (result: Promise<Map<Key, Value>>) => void }>()
  let underWay: NodeJS.Timeout | null = null

  const run = (): void => {
    const all = [...waiting.values()]
    waiting = new Map()
    const results: Array<Promise<unknown>> = []
    for (let at = 0; at < all.length; at += size) {
      const part = all.slice(at, at + size)
      const result = load(part.map(({ key }) => key))
      results.push(result)
      for (const { resolveWith } of part) resolveWith(result)
    }
    const timer = setTimeout(() => { next(timer) }, MAX_WAIT_MS)
    underWay = timer
    void Promise.allSettled(results).then(() => {
      if (pause === 0) next(timer)
      else setTimeout(() => { next(timer) }, pause)
    })
  }

  const next = (after: NodeJS.Timeout): void => {
    clearTimeout(after)
    if (underWay !== after) return
    underWay = null
    if (waiting.size > 0) run()
  }

  return async (key) => {
    const name = keyOf(key)
    const known = waiting.get(name)
    if (known !== undefined) return await known.promise
    if (waiting.size === 0 && underWay === null) setImmediate(run)
    let resolveWith: (result: Promise<Map<Key, Value>>) => void = () => {}
    const promise = new Promise<Value | undefined>((resolve) => {
      resolveWith = (result) => { resolve(result.then((values) => values.get(key))) }
    })
    waiting.set(name, { key, promise, resolveWith })
    return await promise
  }
}

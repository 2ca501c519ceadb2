/** How long loads wait for the one before, in milliseconds: a slow one must not hold up the others. */
const MAX_WAIT_MS = 50

interface Waiting<Key, Value> { key: Key, promise: Promise<Value | undefined>, resolveWith: (result: Promise<Map<Key, Value>>) => void }

/**
 * A batch loader. All keys requested in one turn of the event loop, or while the previous batch is loading and for `pause`
 * milliseconds after it, are loaded together, at most `size` per call. A mass reconnect then costs a handful of statements
 * instead of one per user, and a single request never waits. At most `parallel` calls run at a time; the other keys wait, in
 * their order, and are not refused. Objects are the same key where `keyOf` returns the same; callers of one key share its
 * result until its call begins.
 */
export function batchLoader<Key, Value> (
  load: (keys: Key[]) => Promise<Map<Key, Value>>,
  { size = 500, pause = 0, parallel = Infinity, keyOf = (key) => key }: { size?: number, pause?: number, parallel?: number, keyOf?: (key: Key) => unknown } = {}
): (key: Key) => Promise<Value | undefined> {
  const waiting = new Map<unknown, Waiting<Key, Value>>()
  let running = 0
  let underWay: NodeJS.Timeout | null = null
  /** Keys wait for a call to end. */
  let isFull = false

  const take = (): Array<Waiting<Key, Value>> => {
    const part: Array<Waiting<Key, Value>> = []
    for (const [name, one] of waiting) {
      if (part.push(one) > size) break
      waiting.delete(name)
    }
    return part.slice(0, size)
  }

  const start = (): Promise<unknown> => {
    const part = take()
    const result = load(part.map(({ key }) => key))
    for (const { resolveWith } of part) resolveWith(result)
    running++
    const over = (): void => {
      running--
      if (!isFull) return
      isFull = false
      if (underWay === null && waiting.size > 0) run()
    }
    return result.then(over, over)
  }

  const run = (): void => {
    const results: Array<Promise<unknown>> = []
    while (waiting.size > 0 && running < parallel) results.push(start())
    isFull = waiting.size > 0
    if (results.length === 0) return
    const timer = setTimeout(() => { next(timer) }, MAX_WAIT_MS)
    underWay = timer
    void Promise.all(results).then(() => {
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

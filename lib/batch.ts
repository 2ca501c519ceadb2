/**
 * Gathers single look-ups into one: everything asked within a turn of the event loop is loaded together, at most
 * `size` at a time. A mass reconnect then costs a handful of statements instead of one per user.
 */
export function batched<Key, Value> (
  load: (keys: Key[]) => Promise<Map<Key, Value>>, { size = 500 }: { size?: number } = {}
): (key: Key) => Promise<Value | undefined> {
  let waiting = new Map<Key, { promise: Promise<Value | undefined>, settle: (result: Promise<Map<Key, Value>>) => void }>()

  const run = (): void => {
    const all = [...waiting]
    waiting = new Map()
    for (let at = 0; at < all.length; at += size) {
      const part = all.slice(at, at + size)
      const result = load(part.map(([key]) => key))
      for (const [, entry] of part) entry.settle(result)
    }
  }

  return async (key) => {
    const known = waiting.get(key)
    if (known !== undefined) return await known.promise
    if (waiting.size === 0) setImmediate(run)
    let settle: (result: Promise<Map<Key, Value>>) => void = () => {}
    const promise = new Promise<Value | undefined>((resolve) => {
      settle = (result) => { resolve(result.then((values) => values.get(key))) }
    })
    waiting.set(key, { promise, settle })
    return await promise
  }
}

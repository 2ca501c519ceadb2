interface Reading<Value> {
  now: Promise<Value>
  /** The read after `now`; null if there was no call since `now` began. */
  next: Promise<Value> | null
}

/**
 * At most one read per key at a time. A call made while a read is running waits for the next read, shared by all calls made
 * meanwhile, because the running one may have started before the data the caller needs was written. When a node is back and
 * all members of a channel recover at once, the database is read twice instead of once per member.
 */
export function coalesceReads<Value> (read: (key: string) => Promise<Value>): (key: string) => Promise<Value> {
  const readings = new Map<string, Reading<Value>>()

  const begin = (key: string): Promise<Value> => {
    const reading: Reading<Value> = { now: read(key), next: null }
    readings.set(key, reading)
    const over = (): void => { if (reading.next === null) readings.delete(key) }
    reading.now.then(over, over)
    return reading.now
  }

  return (key) => {
    const reading = readings.get(key)
    if (reading === undefined) return begin(key)
    return reading.next ??= reading.now.then(() => begin(key), () => begin(key))
  }
}

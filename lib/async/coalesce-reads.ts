interface Reading<Value> {
  now: Promise<Value>
  /** Begins when that is over; null: nobody asked since it began. */
  next: Promise<Value> | null
}

/**
 * One read of a key at a time. Who asks while one is under way shares the next with all who do: a read that began before
 * they asked could lack what they must not miss. When a node is back and a room's members ask all at once for what they
 * missed, the database is asked twice, and not once for each of them.
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

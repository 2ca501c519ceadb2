import { setTimeout as sleep } from 'node:timers/promises'

/**
 * Asks again and again until the answer is neither false, null nor undefined; a throw counts as "not yet". Rejects
 * after `ms`, saying what did not come.
 */
export async function until<T> (what: string, ms: number, ask: () => T | Promise<T>): Promise<Exclude<T, false | null | undefined>> {
  const deadline = Date.now() + ms
  let cause: unknown
  for (;;) {
    try {
      const answer = await ask()
      if (answer !== false && answer !== null && answer !== undefined) return answer as Exclude<T, false | null | undefined>
    } catch (err) {
      cause = err
    }
    if (Date.now() > deadline) throw new Error(`${what}: not within ${ms} ms`, { cause })
    await sleep(20)
  }
}

/** The promise's outcome; rejects, saying what took too long, after `ms`. */
export async function within<T> (ms: number, what: string, promise: Promise<T>): Promise<T> {
  const late = new AbortController()
  const timeout = sleep(ms, undefined, { signal: late.signal }).then(() => { throw new Error(`${what}: not within ${ms} ms`) })
  timeout.catch(() => {}) // aborted where the promise was first
  return await Promise.race([promise, timeout]).finally(() => { late.abort() })
}

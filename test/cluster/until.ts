import { setTimeout as sleep } from 'node:timers/promises'

/** Asks again and again until the answer is neither false, null nor undefined. Rejects, saying what did not come, after `ms`. */
export async function until<T> (what: string, ms: number, ask: () => T | Promise<T>): Promise<Exclude<T, false | null | undefined>> {
  const deadline = Date.now() + ms
  for (;;) {
    const answer = await ask()
    if (answer !== false && answer !== null && answer !== undefined) return answer as Exclude<T, false | null | undefined>
    if (Date.now() > deadline) throw new Error(`${what}: not within ${ms} ms`)
    await sleep(20)
  }
}

import { setTimeout as wait } from 'node:timers/promises'

/** Resolves after `ms` milliseconds. `ref: false` does not keep the process alive for it. */
export async function sleep (ms: number, { ref = true }: { ref?: boolean } = {}): Promise<void> {
  await wait(ms, undefined, { ref })
}

/** Resolves in the next turn of the event loop, after what this one still has to do. */
export async function nextTurn (): Promise<void> {
  await new Promise<void>((resolve) => { setImmediate(resolve) })
}

/** The longest time that a timer can wait, in milliseconds; with a longer one it would end at once. */
export const MAX_TIMER_MS = 2 ** 31 - 1

/** Resolves after `ms` milliseconds. `ref: false` does not keep the process alive for it. */
export async function sleep (ms: number, { ref = true }: { ref?: boolean } = {}): Promise<void> {
  // The global timer, not that of node:timers/promises: tests move the time of this one.
  await new Promise<void>((resolve) => {
    const timer = setTimeout(resolve, ms)
    if (!ref) timer.unref()
  })
}

/** Resolves in the next turn of the event loop, after what this one still has to do. */
export async function nextTurn (): Promise<void> {
  await new Promise<void>((resolve) => { setImmediate(resolve) })
}

/** The promise's outcome, or `error()` where it takes longer than `ms`. What was begun goes on, unwatched. */
export async function withTimeout<T> (promise: Promise<T>, ms: number, error: () => Error): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_resolve, reject) => { timer = setTimeout(() => { reject(error()) }, Math.max(ms, 0)) })
  try {
    return await Promise.race([promise, late])
  } finally {
    clearTimeout(timer)
  }
}

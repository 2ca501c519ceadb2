/** A value, or a promise of it. Used on hot paths, where a promise per event would show in the benchmarks. */
export type MaybePromise<T> = T | Promise<T>

/** Also true for promises of other libraries, which a host's functions may return. */
export const isPromise = <T>(value: MaybePromise<T>): value is Promise<T> =>
  value instanceof Promise || (typeof value === 'object' && value !== null && 'then' in value && typeof value.then === 'function')

/** Calls `next` with the value: at once if it is there, otherwise when the promise resolves. */
export const thenMaybe = <T, U> (value: MaybePromise<T>, next: (value: T) => MaybePromise<U>): MaybePromise<U> =>
  isPromise(value) ? value.then(next) : next(value)

/** The result of `run`, or of `failed` if `run` throws or its promise rejects. */
export function catchMaybe<T, U> (run: () => MaybePromise<T>, failed: (err: unknown) => U): MaybePromise<T | U> {
  try {
    const value = run()
    // A host's promise may come from a library without `catch`.
    return isPromise(value) ? Promise.resolve(value).catch(failed) : value
  } catch (err) {
    return failed(err)
  }
}

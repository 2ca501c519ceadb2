/** There already, or later. */
export type MaybePromise<T> = T | Promise<T>

/** A promise of any library: hosts hand in what theirs makes. */
export const isPromise = <T>(value: MaybePromise<T>): value is Promise<T> =>
  value instanceof Promise || (typeof value === 'object' && value !== null && 'then' in value && typeof value.then === 'function')

/** `next` of the value, in this turn where it is there: what each message asks must not cost a promise each time. */
export const thenMaybe = <T, U> (value: MaybePromise<T>, next: (value: T) => MaybePromise<U>): MaybePromise<U> =>
  isPromise(value) ? value.then(next) : next(value)

/** What `run` answers, or what `failed` makes of its error, whether it was thrown or rejected with. */
export function catchMaybe<T, U> (run: () => MaybePromise<T>, failed: (err: unknown) => U): MaybePromise<T | U> {
  try {
    const value = run()
    // A host's promise may be of a library that knows no `catch`.
    return isPromise(value) ? Promise.resolve(value).catch(failed) : value
  } catch (err) {
    return failed(err)
  }
}

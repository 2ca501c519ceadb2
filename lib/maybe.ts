/** There already, or later. */
export type Maybe<T> = T | Promise<T>

/** A promise of any library: hosts hand in what theirs makes. */
export const isPromise = <T>(value: Maybe<T>): value is Promise<T> =>
  value instanceof Promise || (typeof value === 'object' && value !== null && 'then' in value && typeof value.then === 'function')

/** `next` of the value, in this turn where it is there: what each message asks must not cost a promise each time. */
export const andThen = <T, U> (value: Maybe<T>, next: (value: T) => Maybe<U>): Maybe<U> =>
  isPromise(value) ? value.then(next) : next(value)

/** What `run` answers, or what `failed` makes of its error, whether it was thrown or rejected with. */
export function orElse<T, U> (run: () => Maybe<T>, failed: (err: unknown) => U): Maybe<T | U> {
  try {
    const value = run()
    // A host's promise may be of a library that knows no `catch`.
    return isPromise(value) ? Promise.resolve(value).catch(failed) : value
  } catch (err) {
    return failed(err)
  }
}

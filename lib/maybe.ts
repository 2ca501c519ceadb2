/** There already, or later. */
export type Maybe<T> = T | Promise<T>

/** `next` of the value, in this turn where it is there: what each message asks must not cost a promise each time. */
export const andThen = <T, U> (value: Maybe<T>, next: (value: T) => Maybe<U>): Maybe<U> =>
  value instanceof Promise ? value.then(next) : next(value)

import { isPromise, type MaybePromise } from './maybe-promise.js'

/** At most `max` calls run at once; the others wait in order. A call that returns a value, not a promise, costs no promise. */
export class Semaphore {
  readonly #max: number
  /** A set, because taking its oldest entry is cheap however many wait. */
  readonly #waiting = new Set<() => void>()
  #underWay = 0

  constructor (max: number) {
    this.#max = max
  }

  run<T> (call: () => MaybePromise<T>): MaybePromise<T> {
    if (this.#underWay < this.#max) {
      this.#underWay++
      return this.#run(call)
    }
    return new Promise<void>((resolve) => { this.#waiting.add(resolve) }).then(() => this.#run(call))
  }

  #run<T> (call: () => MaybePromise<T>): MaybePromise<T> {
    let answer: MaybePromise<T>
    try {
      answer = call()
    } catch (err) {
      this.#leave()
      throw err
    }
    if (isPromise(answer)) return Promise.resolve(answer).finally(() => { this.#leave() })
    this.#leave()
    return answer
  }

  /** The call that has waited longest runs next. */
  #leave (): void {
    for (const enter of this.#waiting) {
      this.#waiting.delete(enter)
      enter()
      return
    }
    this.#underWay--
  }
}

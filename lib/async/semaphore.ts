import { isPromise, type MaybePromise } from './maybe-promise.js'

/** At most so many calls under way at once, the others in the order they came. A call that answers at once costs no promise. */
export class Semaphore {
  readonly #max: number
  /** A set hands out its oldest at no cost, however many wait. */
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

  /** Whoever waited longest takes the place. */
  #leave (): void {
    for (const enter of this.#waiting) {
      this.#waiting.delete(enter)
      enter()
      return
    }
    this.#underWay--
  }
}

import type { ClientClock } from '../../client/src/index.js'

interface Timer { at: number, serial: number, task: () => void }

/** Time that passes only when a test says so: hours of a client in milliseconds, the same at every run. */
export class VirtualClock {
  time = 0
  #serial = 0
  /** Sorted, the next one last. */
  readonly #timers: Timer[] = []

  now (): number { return this.time }

  after (ms: number, task: () => void): () => void {
    const timer = { at: this.time + ms, serial: this.#serial++, task }
    let at = this.#timers.length
    while (at > 0 && isBefore(this.#timers[at - 1]!, timer)) at--
    this.#timers.splice(at, 0, timer)
    return () => {
      const found = this.#timers.indexOf(timer)
      if (found >= 0) this.#timers.splice(found, 1)
    }
  }

  /** Runs what is due within `ms`, each in its own moment, with all that follows from it. */
  async advance (ms: number): Promise<void> {
    const end = this.time + ms
    await turn()
    for (let next = this.#timers.at(-1); next !== undefined && next.at <= end; next = this.#timers.at(-1)) {
      this.#timers.pop()
      // A machine that slept runs late what was due meanwhile.
      this.time = Math.max(this.time, next.at)
      next.task()
      await turn()
    }
    this.time = Math.max(this.time, end)
  }

  /** The machine sleeps: time passes, and nothing happens in it. */
  sleep (ms: number): void { this.time += ms }

  /** The clock as an option of the client, and how many of its timers wait. */
  forClient (random: () => number): ClientClock & { readonly pending: number } {
    let pending = 0
    return {
      get pending () { return pending },
      now: () => this.time,
      random,
      after: (ms, task) => {
        let isOver = false
        const over = (): void => {
          if (!isOver) pending--
          isOver = true
        }
        pending++
        const cancel = this.after(ms, () => {
          over()
          task()
        })
        return () => {
          over()
          cancel()
        }
      }
    }
  }
}

const isBefore = (one: Timer, other: Timer): boolean => one.at < other.at || (one.at === other.at && one.serial < other.serial)

/** Until all promises that can settle now have. */
const turn = async (): Promise<void> => { await new Promise<void>((resolve) => setImmediate(resolve)) }

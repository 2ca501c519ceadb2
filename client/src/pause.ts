import type { ClientClock } from './clock.js'
import type { Scope } from './scope.js'

/** A wait that can be cut short. One at a time. */
export interface Pause {
  /** Resolves after `ms` milliseconds, or when it is cut short; after the scope's end never. `least`: so long in any case. */
  wait (scope: Scope, ms: number, least?: number): Promise<void>
  /** Ends the wait, or lets it end as soon as it may. */
  end (): void
}

export function createPause (clock: ClientClock): Pause {
  let cut = (): void => {}
  return {
    wait: (scope, ms, least = 0) => new Promise((resolve) => {
      const over = clock.now() + least
      const done = (): void => {
        stop()
        cut = () => {}
        resolve()
      }
      let stop = scope.after(ms, done)
      cut = () => {
        stop()
        const left = over - clock.now()
        if (left <= 0) return done()
        stop = scope.after(left, done)
      }
    }),
    end: () => { cut() }
  }
}

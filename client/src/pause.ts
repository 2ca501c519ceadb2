import type { ClientClock } from './clock.js'
import type { Scope } from './scope.js'

/** A wait that can be cut short. One at a time. */
export interface Pause {
  /** Resolves after `ms` milliseconds, or when it is cut short; never where the scope ends. `least`: so long in any case. */
  wait (scope: Scope, ms: number, least: number): Promise<void>
  /** Ends the wait, or lets it end as soon as it may. */
  end (): void
}

export function createPause (clock: ClientClock): Pause {
  const pause: Pause = {
    wait: (scope, ms, least) => new Promise((resolve) => {
      const over = clock.now() + least
      let stop = scope.after(ms, resolve)
      pause.end = () => {
        stop()
        stop = scope.after(over - clock.now(), resolve)
      }
    }),
    end: () => {}
  }
  return pause
}

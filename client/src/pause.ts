import type { Scope } from './scope.js'
import type { Core } from './state.js'

/** A pause that can be ended early. One at a time. */
export interface Pause {
  /** Resolves after `ms` milliseconds, or when it is ended early, but not before `least`. Never resolves if the scope ends. */
  wait (scope: Scope, ms: number, least: number): Promise<void>
  /** Ends the pause, at the earliest after `least`. */
  end (): void
}

export function createPause (core: Core): Pause {
  const pause: Pause = {
    wait: (scope, ms, least) => new Promise((resolve) => {
      if (ms <= 0) return resolve()
      const over = core.clock.now() + least
      let stop = scope.after(ms, resolve)
      pause.end = () => {
        stop()
        stop = scope.after(over - core.clock.now(), resolve)
      }
    }),
    end: () => {}
  }
  return pause
}

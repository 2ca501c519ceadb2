import type { ClientClock } from './clock.js'
import { ClientError, type ClientErrorCode } from './errors.js'
import { LONGEST } from './limits.js'
import { isRefusal, retryDelay } from './verdicts.js'

/**
 * The lifetime of a part of the client: of the client itself, from `connect()` to `disconnect()`, of a user, of a socket. When
 * a scope ends, its timers, waits and inner scopes end too. Nothing is sent for a scope that has ended.
 */
export interface Scope {
  ended: boolean
  /** Throws `RT_CLIENT_STOPPED` if it has ended. */
  check (): void
  /** Runs `task` after `ms` milliseconds, unless the returned function is called or the scope ends before. */
  after (ms: number, task: () => void): () => void
  /** Runs `task` when the scope ends, or now if it has. */
  onEnd (task: () => void): void
  /**
   * Settles like `promise`. Rejects with `RT_CLIENT_STOPPED` when the scope ends, and with `code` after `ms` milliseconds, so
   * that no wait depends on the server alone.
   */
  guard<T> (promise: Promise<T>, ms?: number, code?: ClientErrorCode): Promise<T>
  /** Repeats a task, with growing pauses, until it succeeds, is refused, `isVain` returns true, or the scope ends. */
  insist<T> (task: () => Promise<T>, isVain?: () => unknown): Promise<T>
  child (): Scope
  end (): void
}

export function createScope (clock: ClientClock, ended = false): Scope {
  const endings = new Set<() => void>()
  const scope: Scope = {
    ended,
    check: () => { if (scope.ended) throw new ClientError('RT_CLIENT_STOPPED') },
    after: (ms, task) => {
      if (scope.ended) return () => {}
      const stop = clock.after(ms > 0 ? Math.min(ms, LONGEST) : 0, () => { if (endings.delete(stop)) task() })
      endings.add(stop)
      return () => { if (endings.delete(stop)) stop() }
    },
    onEnd: (task) => {
      if (scope.ended) task()
      else endings.add(task)
    },
    guard: (promise, ms = LONGEST, code = 'RT_CLIENT_STOPPED') => new Promise((resolve, reject) => {
      const wait = scope.child()
      wait.onEnd(() => { reject(new ClientError('RT_CLIENT_STOPPED')) })
      wait.after(ms, () => { reject(new ClientError(code, 'no answer')) })
      void promise.then(resolve, reject).then(wait.end)
    }),
    insist: async (task, isVain) => {
      for (let tries = 0; ; tries++) {
        try {
          return await task()
        } catch (err) {
          if (scope.ended || isRefusal(err as ClientError) || isVain?.()) throw err
          await scope.guard(new Promise<void>((resolve) => { scope.after(retryDelay(tries, err as ClientError, clock.random()), resolve) }))
        }
      }
    },
    child: () => {
      const child = createScope(clock, scope.ended)
      endings.add(child.end)
      child.onEnd(() => { endings.delete(child.end) })
      return child
    },
    end: () => {
      scope.ended = true
      for (const task of [...endings]) if (endings.delete(task)) task()
    }
  }
  return scope
}

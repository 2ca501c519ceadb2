import type { ClientClock } from './clock.js'
import { ClientError } from './errors.js'
import { isRefusal, retryDelay } from './verdicts.js'

/** The longest that timers take; a larger number would fire at once. */
const LONGEST = 2 ** 31 - 1

/**
 * A stretch of the client's life: its own, a run from `connect()` to `disconnect()`, a user's, a socket's. What was begun
 * within it ends with it: timers, waits and smaller scopes, so that nothing of it is left and nothing of it goes on. Nothing
 * is sent for a scope that has ended.
 */
export interface Scope {
  ended: boolean
  /** Throws `RT_CLIENT_STOPPED` where it has ended. */
  check (): void
  /** Runs `task` in `ms` milliseconds, unless the function it returns is called before or the scope ends. */
  after (ms: number, task: () => void): () => void
  /** Runs `task` when the scope ends. */
  onEnd (task: () => void): void
  /**
   * Settles as `promise` does; rejects with `RT_CLIENT_STOPPED` as soon as the scope ends, and with `late()` after `ms`
   * milliseconds: no wait depends on the other side alone.
   */
  guard<T> (promise: Promise<T>, ms?: number, late?: () => ClientError): Promise<T>
  /** Tries again and again, with longer and longer pauses, until it works, is refused, is in vain, or the scope ends. */
  insist<T> (task: () => Promise<T>, isVain?: () => unknown): Promise<T>
  child (): Scope
  end (): void
}

export function createScope (clock: ClientClock, parent?: Scope): Scope {
  const endings = new Set<() => void>()
  const scope: Scope = {
    ended: Boolean(parent?.ended),
    check: () => { if (scope.ended) throw new ClientError('RT_CLIENT_STOPPED') },
    after: (ms, task) => {
      if (scope.ended) return () => {}
      const stop = clock.after(ms > 0 ? Math.min(ms, LONGEST) : 0, () => { if (endings.delete(stop)) task() })
      endings.add(stop)
      return () => { if (endings.delete(stop)) stop() }
    },
    onEnd: (task) => { endings.add(task) },
    guard: (promise, ms, late) => new Promise((resolve, reject) => {
      const stopped = (): void => { reject(new ClientError('RT_CLIENT_STOPPED')) }
      if (scope.ended) stopped()
      const stop = scope.after(ms ?? LONGEST, () => { reject(late!()) })
      endings.add(stopped)
      void promise.then(resolve, reject).then(() => {
        endings.delete(stopped)
        stop()
      })
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
      const child = createScope(clock, scope)
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

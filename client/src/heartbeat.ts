import type { ClientClock } from './clock.js'
import { globals } from './globals.js'
import type { Link } from './link.js'

/** Milliseconds in which a peer has to answer a client that just woke up. */
const WAKE_TIMEOUT = 5000

/** Finds out that a socket is dead though nobody closed it. Returns what asks at once: whoever woke up wants to know soon. */
export function beat (link: Link, clock: ClientClock, interval: number, onBeat: () => void): () => void {
  let pingedAt = 0
  let stop = (): void => {}

  const ping = (): void => {
    pingedAt = clock.now()
    link.ping()
  }
  const next = (ms: number, patience: number): void => {
    stop()
    stop = link.scope.after(ms, () => {
      // A timer that was slowed down or slept says nothing of the peer: only a ping without any sign after it does.
      if (link.heardAt >= pingedAt) ping()
      else if (clock.now() - pingedAt >= patience) link.drop()
      next(interval, 2 * interval)
      if (!link.scope.ended) onBeat()
    })
  }
  next(interval, 2 * interval)
  return () => {
    // However often it is called, a ping is waited for no longer than that.
    if (link.heardAt >= pingedAt || clock.now() - pingedAt > WAKE_TIMEOUT) ping()
    next(pingedAt + WAKE_TIMEOUT - clock.now(), 0)
  }
}

/**
 * Calls `wake` when a page is seen again, comes out of the back-forward cache, or the network is back; `hide` when it goes
 * into that cache, where a socket would not live. Returns the function that ends it.
 */
export function onWake (wake: () => void, hide: () => void): () => void {
  const { document } = globals
  const onVisible = (): void => { if (document?.hidden !== true) wake() }
  const onHide = ({ persisted }: { persisted?: boolean }): void => { if (persisted) hide() }
  const all = [
    [document, 'visibilitychange', onVisible], [document, 'resume', wake], [globals, 'online', wake], [globals, 'pageshow', wake], [globals, 'pagehide', onHide]
  ] as const
  const each = (method: 'addEventListener' | 'removeEventListener'): void => { for (const [target, type, listener] of all) target?.[method]?.(type, listener) }
  each('addEventListener')
  return () => { each('removeEventListener') }
}

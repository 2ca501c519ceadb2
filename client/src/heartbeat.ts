import { globals } from './globals.js'
import { WAKE_TIMEOUT } from './limits.js'
import type { Link } from './link.js'
import type { Core } from './state.js'

/** Detects a dead socket that was not closed. Returns a function that checks it at once, for a client that just woke up. */
export function beat (core: Core, link: Link, interval: number, onBeat: () => void): () => void {
  let pingedAt = 0
  let stop = (): void => {}

  const ping = (): void => {
    pingedAt = core.clock.now()
    link.ping()
  }
  const next = (ms: number, patience: number): void => {
    stop()
    stop = link.after(ms, () => {
      // A timer that was delayed or slept does not show that the server is gone: only a ping without a response does.
      if (link.receivedAt >= pingedAt) ping()
      else if (core.clock.now() - pingedAt >= patience) link.drop()
      next(interval, 2 * interval)
      if (!link.ended) onBeat()
    })
  }
  next(interval, 2 * interval)
  return () => {
    // However often it is called, a ping is waited for no longer than that.
    if (link.receivedAt >= pingedAt || core.clock.now() - pingedAt > WAKE_TIMEOUT) ping()
    next(pingedAt + WAKE_TIMEOUT - core.clock.now(), 0)
  }
}

/**
 * Calls `wake` when a page becomes visible, leaves the back-forward cache, or the network is back, and `hide` when it enters
 * that cache, in which sockets are closed. Returns a function that stops it.
 */
export function onWake (wake: () => void, hide: () => void): () => void {
  const { document } = globals
  const onVisible = (): void => { if (!document!.hidden) wake() }
  const onHide = ({ persisted }: { persisted?: boolean }): void => { if (persisted) hide() }
  const all = [
    [document, 'visibilitychange', onVisible], [document, 'resume', wake], [globals, 'online', wake], [globals, 'pageshow', wake], [globals, 'pagehide', onHide]
  ] as const
  const each = (method: 'addEventListener' | 'removeEventListener'): void => { for (const [target, type, listener] of all) target?.[method]?.(type, listener) }
  each('addEventListener')
  return () => { each('removeEventListener') }
}

import type { ClientClock } from './clock.js'
import type { Link } from './link.js'

/** Milliseconds in which a peer has to answer a client that just woke up. */
const WAKE_TIMEOUT = 5000

/** Finds out that a socket is dead though nobody closed it. Gives the function that ends it, and one that asks at once. */
export function beat (link: Link, clock: ClientClock, interval: number, onBeat: () => void): { stop: () => void, now: () => void } {
  let pingedAt: number | null = null
  let timer: unknown

  const look = (patience: number): void => {
    const now = clock.now()
    if (pingedAt !== null && link.heardAt >= pingedAt) pingedAt = null
    // A timer that was slowed down or slept is no sign that the peer did not answer: only an open ping is.
    if (pingedAt !== null && now - pingedAt >= patience) link.drop('no sign of the server')
    else if (pingedAt === null) {
      pingedAt = now
      link.ping()
    }
  }
  const tick = (): void => {
    look(2 * interval)
    onBeat()
    timer = clock.setTimeout(tick, interval)
  }
  timer = clock.setTimeout(tick, interval)
  const stop = (): void => { clock.clearTimeout(timer) }
  void link.closed.then(stop)
  return {
    stop,
    now: () => {
      pingedAt = null
      look(Infinity)
      clock.clearTimeout(timer)
      timer = clock.setTimeout(() => {
        look(0)
        tick()
      }, Math.min(WAKE_TIMEOUT, 2 * interval))
    }
  }
}

/** Calls `wake` when a page is seen again or the network is back. Gives the function that ends it. */
export function onWake (wake: () => void): () => void {
  const { document: page } = globalThis as { document?: EventTarget & { hidden?: boolean } }
  const whole = globalThis as Partial<Pick<EventTarget, 'addEventListener' | 'removeEventListener'>>
  const seen = (): void => { if (page?.hidden !== true) wake() }
  page?.addEventListener('visibilitychange', seen)
  whole.addEventListener?.('online', wake)
  return () => {
    page?.removeEventListener('visibilitychange', seen)
    whole.removeEventListener?.('online', wake)
  }
}

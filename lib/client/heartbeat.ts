import type { ClientClock } from './clock.js'
import type { Link } from './link.js'

/** Milliseconds in which a peer has to answer a client that just woke up. */
const WAKE_TIMEOUT = 5000

/** Finds out that a socket is dead though nobody closed it. */
export interface Heartbeat {
  /** Asks at once: whoever woke up wants to know soon. */
  now (): void
  stop (): void
}

export function beat (link: Link, clock: ClientClock, interval: number, onBeat: () => void): Heartbeat {
  let pingedAt = 0
  let stop = (): void => {}

  const ping = (): void => {
    pingedAt = clock.now()
    link.ping()
  }
  const next = (ms: number, patience: number): void => {
    stop()
    stop = clock.after(ms, () => {
      // A timer that was slowed down or slept says nothing of the peer: only a ping without any sign after it does.
      if (link.heardAt >= pingedAt) ping()
      else if (clock.now() - pingedAt >= patience) link.drop()
      onBeat()
      next(interval, 2 * interval)
    })
  }
  next(interval, 2 * interval)
  return {
    now: () => {
      ping()
      next(WAKE_TIMEOUT, 0)
    },
    stop: () => { stop() }
  }
}

/** Calls `wake` when a page is seen again or the network is back. Gives the function that ends it. */
export function onWake (wake: () => void): () => void {
  type Source = Partial<Pick<EventTarget, 'addEventListener'>>
  const whole = globalThis as Source & { document?: Source & { hidden?: boolean } }
  const ending = new AbortController()
  whole.document?.addEventListener?.('visibilitychange', () => { if (whole.document?.hidden !== true) wake() }, ending)
  whole.addEventListener?.('online', wake, ending)
  return () => { ending.abort() }
}

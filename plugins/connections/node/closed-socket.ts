import type { Duplex } from 'node:stream'

/**
 * ws ends its TCP socket when that is closed already, and Node makes an error with a stack trace for it, which nobody gets: 2 %
 * of a connection (bench row "connect"). Called by a 'close' listener that is older than ws's.
 */
export function endsNothing (closed: Duplex): void {
  closed.end = endUnlessClosed
}

/** Whoever passes something, such as a callback that waits for an error, gets what Node does. */
function endUnlessClosed (this: Duplex, ...args: unknown[]): Duplex {
  if (args.length === 0) return this
  const { end } = Object.getPrototypeOf(this) as Duplex
  return Reflect.apply(end, this, args) as Duplex
}

import type { Writable } from 'node:stream'

/**
 * ws ends its TCP socket and its receiver again after they have ended, three times for each connection, and Node makes an error
 * with a stack trace each time, which nobody gets: a tenth of what closing a connection costs (bench row "connect").
 */
export function endOnce (stream: Writable): void {
  stream.end = endUnlessEnded
}

/** Whoever passes something, such as a callback that waits for an error, gets what Node does. */
function endUnlessEnded (this: Writable, ...args: unknown[]): Writable {
  if (args.length === 0 && (this.writableEnded || this.destroyed)) return this
  const { end } = Object.getPrototypeOf(this) as Writable
  return Reflect.apply(end, this, args) as Writable
}

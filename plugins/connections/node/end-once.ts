import type { Writable } from 'node:stream'

/**
 * ws ends its TCP socket and its receiver again after they have ended, three times for each connection, and each time Node
 * creates an error with a stack trace that is never used: a tenth of the cost of closing a connection (bench row "connect").
 */
export function endOnce (stream: Writable): void {
  stream.end = endUnlessEnded
}

/** Calls with arguments, such as a callback that waits for an error, behave as in Node. */
function endUnlessEnded (this: Writable, ...args: unknown[]): Writable {
  if (args.length === 0 && (this.writableEnded || this.destroyed)) return this
  const { end } = Object.getPrototypeOf(this) as Writable
  return Reflect.apply(end, this, args) as Writable
}

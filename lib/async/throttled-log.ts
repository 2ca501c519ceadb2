import type { FastifyBaseLogger } from 'fastify'

const INTERVAL = 60_000

/**
 * For log lines that clients or hosts can provoke repeatedly: the first is written at once, then at most one per minute, with the
 * number of omitted ones.
 */
export class ThrottledLog {
  readonly #log: Pick<FastifyBaseLogger, 'warn' | 'error'>
  readonly #lines = new Map<string, { loggedAt: number, leftOut: number }>()

  constructor (log: Pick<FastifyBaseLogger, 'warn' | 'error'>) {
    this.#log = log
  }

  /** `message` is a constant text: it is the key. */
  write (level: 'warn' | 'error', fields: object, message: string): void {
    const now = performance.now()
    const line = this.#lines.get(message)
    if (line !== undefined && now - line.loggedAt < INTERVAL) {
      line.leftOut++
      return
    }
    this.#lines.set(message, { loggedAt: now, leftOut: 0 })
    this.#log[level](line === undefined || line.leftOut === 0 ? fields : { ...fields, leftOut: line.leftOut }, message)
  }
}

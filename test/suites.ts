import { randomUUID } from 'node:crypto'
import Fastify from 'fastify'
import type { Clock } from '../lib/clock.js'
import { connectRedis, type RedisConnections } from '../lib/redis/connect.js'

export { seeded } from './seeded.js'

/** What the contract suites share. */

/** A logger that says nothing. */
export const { log } = Fastify()

interface Teardown { teardown (task: () => void | Promise<void>): void }

/** The system's time, and what a test adds to it. Redis keeps its own time: the implementation takes the difference from here. */
export class TestClock implements Clock {
  #ahead = 0

  now (): number {
    return Date.now() + this.#ahead
  }

  advance (ms: number): void {
    this.#ahead += ms
  }
}

/** Time that moves only when a test says so, to the millisecond. */
export class StillClock implements Clock {
  #now = Date.now()

  now (): number {
    return this.#now
  }

  advance (ms: number): void {
    this.#now += ms
  }
}

/** A prefix for keys and topics that no other test has. */
export const freshPrefix = (): string => `test-${randomUUID()}`

/** Connections as a node opens them, closed when `t` is through. */
export async function openRedis (t: Teardown, prefix = freshPrefix(), url = process.env.REDIS_URL ?? ''): Promise<RedisConnections> {
  const connections = await connectRedis(url, prefix, log)
  t.teardown(() => { connections.close() })
  return connections
}

/** Until everything that was put off to the end of this turn of the event loop is done. */
export const turn = async (): Promise<void> => { await new Promise<void>((resolve) => setImmediate(resolve)) }

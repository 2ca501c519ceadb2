import { randomUUID } from 'node:crypto'
import Fastify from 'fastify'
import type { Clock } from '../lib/clock.js'
import { connectRedis, type RedisConnections } from '../lib/redis.js'

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

/** Connections as a node of the suite opens them, closed when `t` is through. */
export async function openRedis (t: Teardown, prefix = freshPrefix(), url = process.env.REDIS_URL ?? ''): Promise<RedisConnections> {
  const connections = await connectRedis(url, prefix, log)
  t.teardown(() => { connections.close() })
  return connections
}

/** Numbers that look random and are the same at every run: integers from 0 to below `n`. */
export function seeded (seed: number): (n: number) => number {
  let state = seed
  return (n) => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) % n
  }
}

/** Until everything that was put off to the end of this turn of the event loop is done. */
export const turn = async (): Promise<void> => { await new Promise<void>((resolve) => setImmediate(resolve)) }

import { setTimeout as sleep } from 'node:timers/promises'
import type { Dialect } from '../dialects.js'
import { publisherOf, Room } from './fan-out.js'

/** Members whose frames are read for their time; the others only count. */
const SAMPLED = 10
const MARK = Buffer.from('at=')
const DIGITS = 16

/** Milliseconds from the publisher to a member, at a fixed rate of messages a second. */
export async function latency (dialect: Dialect, { members, rate, seconds }: { members: number, rate: number, seconds: number }, env?: Record<string, string>): Promise<{ p50: number, p99: number }> {
  const server = await dialect.start(env)
  try {
    const room = new Room(dialect)
    await room.fill(server.port, members)
    const publisher = await dialect.open(server.port, publisherOf(0))
    await sleep(500)
    const took: number[] = []
    let measuring = false
    for (let i = 0; i < SAMPLED; i++) {
      const member = room.members[Math.floor(i * members / SAMPLED)]
      if (member === undefined) continue
      member.onFrame = (payload) => {
        const at = payload.indexOf(MARK)
        if (measuring && at >= 0) took.push(performance.now() - Number(payload.toString('latin1', at + MARK.length, at + MARK.length + DIGITS)))
      }
    }
    const begin = performance.now()
    for (let sent = 0; ; sent++) {
      const due = begin + sent * 1000 / rate
      if (due > performance.now()) await sleep(due - performance.now())
      measuring = performance.now() - begin > 1000
      if (performance.now() - begin > (1 + seconds) * 1000) break
      // The time it was due, not the time it was sent: a server that stalls must not slow its own measure.
      publisher.send(dialect.message(`at=${due.toFixed(6).padStart(DIGITS, '0')}${'x'.repeat(128 - MARK.length - DIGITS)}`))
    }
    await sleep(500)
    room.close()
    publisher.close()
    took.sort((a, b) => a - b)
    const percentile = (share: number): number => took[Math.min(took.length - 1, Math.floor(took.length * share))] ?? NaN
    return { p50: percentile(0.5), p99: percentile(0.99) }
  } finally {
    await server.stop()
  }
}

import t from 'tap'
import { SharedRates } from '../../lib/access/shared-rates.js'
import { log, StillClock } from '../suites.js'
import { until } from '../helper.js'

/** Counters that two nodes share, as Redis keeps them. */
function counters (): { add: (window: number, counts: ReadonlyArray<{ key: string, count: number }>) => Promise<number[]>, calls: number, isAway: boolean } {
  const totals = new Map<string, number>()
  const shared = {
    calls: 0,
    isAway: false,
    add: async (window: number, counts: ReadonlyArray<{ key: string, count: number }>) => {
      shared.calls++
      if (shared.isAway) throw new Error('away')
      return counts.map(({ key, count }) => {
        const total = (totals.get(`${window}:${key}`) ?? 0) + count
        totals.set(`${window}:${key}`, total)
        return total
      })
    }
  }
  return shared
}

t.test('A user sends so much a minute, over all nodes, and a send that does not fit is refused whole', async (t) => {
  const clock = new StillClock()
  clock.advance(60_000 - clock.now() % 60_000)
  const redis = counters()
  const [a, b] = [new SharedRates(clock, redis.add, log), new SharedRates(clock, redis.add, log)]
  t.teardown(async () => { await Promise.all([a.close(), b.close()]) })
  a.take('ann', 6, 10)
  t.throws(() => { a.take('ann', 5, 10) }, { code: 'RT_RATE_LIMITED', retryAfter: 60 })
  a.take('ann', 1, 10)
  b.take('ann', 1, 10)
  // What the other node counted is known a second later.
  await until('the nodes know of each other', () => {
    if (redis.calls < 2) return false
    try {
      b.take('ann', 9, 10)
      return false
    } catch {
      return true
    }
  })
  a.take('ben', 10, 10)
  t.throws(() => { a.take('ben', 1, 10) })
  a.take('cat', 1_000_000, 0)
  clock.advance(60_000)
  a.take('ann', 10, 10)
})

t.test('While Redis is away each node limits by itself', async (t) => {
  const clock = new StillClock()
  clock.advance(60_000 - clock.now() % 60_000)
  const redis = counters()
  redis.isAway = true
  const rates = new SharedRates(clock, redis.add, log)
  t.teardown(async () => { await rates.close() })
  rates.take('ann', 10, 10)
  await until('it was tried', () => redis.calls > 0)
  t.throws(() => { rates.take('ann', 1, 10) }, { code: 'RT_RATE_LIMITED' })
})

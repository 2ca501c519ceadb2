import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { TenantCounts } from '../lib/event-log/tenant-counts.js'

t.test('a count of few events is never cached', async (t) => {
  let pending = 0
  const counts = new TenantCounts(async () => {
    await sleep(30)
    return { pending: pending++, failed: 0 }
  })
  t.strictSame([await counts.of(1), await counts.of(1)], [{ pending: 0, failed: 0 }, { pending: 1, failed: 0 }])
})

t.test('a count of many is shared by those who ask, for a hundred times as long as it took', async (t) => {
  let reads = 0
  const counts = new TenantCounts(async (tenantId) => {
    reads++
    await sleep(10)
    return { pending: Number(tenantId) * 300_000, failed: reads }
  })
  await counts.of(1)
  for (let i = 0; i < 20; i++) t.match(await counts.of(1), { failed: 1 })
  t.match(await counts.of(2), { pending: 600_000, failed: 2 })
  t.equal(reads, 2)
  await sleep(1500)
  await Promise.all([counts.of(1), counts.of(1), counts.of(1)])
  t.ok(reads <= 3, `${reads}`)
})

t.test('a count that fails is not kept', async (t) => {
  let isAway = false
  const counts = new TenantCounts(async () => {
    if (isAway) throw new Error('away')
    return { pending: 300_000, failed: 0 }
  })
  await counts.of(1)
  isAway = true
  await sleep(200)
  await t.rejects(counts.of(1), /away/)
  isAway = false
  t.match(await counts.of(1), { pending: 300_000 })
})

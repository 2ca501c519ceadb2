import t from 'tap'
import { Turns } from '../lib/async/turns.js'

const most = { items: 10, size: 1000 }

function turns (): Turns<number, string> {
  return new Turns(({ length }) => length)
}

t.test('items of one tenant leave in order, as many as fit', async (t) => {
  const queue = turns()
  for (let i = 0; i < 25; i++) queue.push(1, `${i}`)
  t.notOk(queue.isShared)
  t.strictSame(queue.take(most, most), ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9'])
  t.equal(queue.take({ items: 100, size: 6 }, { items: 100, size: 6 }).length, 3)
  t.equal(queue.length, 12)
  queue.push(1, 'x'.repeat(5000))
  t.equal(queue.take(most, most).length, 10)
  t.strictSame(queue.take({ items: 10, size: 1 }, most).length, 1)
  queue.take(most, most)
  t.equal(queue.take(most, most).length, 0)
  queue.push(1, 'a')
  t.strictSame(queue.take(most, most), ['a'])
})

t.test('a tenant that queues thousands delays another by one portion', async (t) => {
  const queue = turns()
  for (let i = 0; i < 5000; i++) queue.push(1, `a${i}`)
  queue.push(2, 'b0')
  queue.push(2, 'b1')
  t.ok(queue.isShared)
  t.strictSame(queue.take(most, { items: 4, size: 1000 }), ['a0', 'a1', 'a2', 'a3', 'b0', 'b1', 'a4', 'a5', 'a6', 'a7'])
  queue.push(2, 'b2')
  queue.push(1, 'a5000')
  const next = queue.take(most, { items: 4, size: 1000 })
  t.ok(next.includes('b2'))
  t.strictSame(next.filter((item) => item.startsWith('a')), ['a8', 'a9', 'a10', 'a11', 'a12', 'a13', 'a14', 'a15', 'a16'])
  t.equal(queue.waitingOf(1), 5001 - 17)
  t.equal(queue.tenants, 1)
  t.equal(queue.clear().length, 5001 - 17)
  t.equal(queue.length, 0)
  queue.push(1, 'again')
  t.strictSame(queue.take(most, most), ['again'])
})

t.test('nothing is lost and no tenant’s order changes, whatever comes between', async (t) => {
  const queue = turns()
  const left = new Map<number, string[]>()
  let pushed = 0
  let taken = 0
  const check = (items: string[]): void => {
    for (const item of items) {
      taken++
      const tenant = Number(item.split(':', 1)[0])
      if (left.get(tenant)?.shift() !== item) t.fail(`${item} out of order`)
    }
  }
  for (let round = 0; round < 3000; round++) {
    for (let n = (round * 7) % 5; n > 0; n--) {
      const tenant = (round * n * 31) % 4
      const item = `${tenant}:${pushed++}`
      left.set(tenant, [...left.get(tenant) ?? [], item])
      queue.push(tenant, item)
    }
    if (round % 3 === 0) check(queue.take({ items: 1 + round % 9, size: 200 }, { items: 1 + round % 4, size: 50 }))
  }
  while (queue.length > 0) check(queue.take(most, most))
  t.equal(taken, pushed)
})

import { setTimeout as sleep } from 'node:timers/promises'
import { inspect } from 'node:util'
import t from 'tap'
import { WriteBehind } from '../lib/database/write-behind.js'
import { log, turn } from './suites.js'

t.test('Rows put after the close are not written, and are not retried forever', async (t) => {
  let written = 0
  const rows = new WriteBehind<number>({ name: 'test', log, interval: 1, write: async (batch) => { written += batch.length } })
  rows.put(1)
  await rows.close()
  t.equal(written, 1)
  rows.put(2)
  await sleep(20)
  t.equal(written, 1)
})

t.test('A failure at the end is the last attempt', async (t) => {
  let attempts = 0
  const rows = new WriteBehind<number>({ name: 'test', log, interval: 1, write: async () => { attempts++; throw new Error('closed') } })
  rows.put(1)
  await sleep(20)
  await rows.close()
  const before = attempts
  await sleep(20)
  t.equal(attempts, before)
})

t.test('Enough rows wait for no others, and none is lost however many come', async (t) => {
  const batches: number[][] = []
  const writes: Array<() => void> = []
  const rows = new WriteBehind<number>({
    name: 'test',
    log,
    interval: 3600_000,
    flushAt: 3,
    limit: 5,
    write: async (batch) => {
      batches.push(batch)
      await new Promise<void>((resolve) => { writes.push(resolve) })
    }
  })
  for (let i = 1; i <= 7; i++) rows.put(i)
  t.strictSame(batches, [[1, 2, 3]], 'one statement at a time')
  writes.shift()?.()
  await turn()
  t.strictSame(batches, [[1, 2, 3], [4, 5, 6, 7]])
  rows.put(8)
  const closed = rows.close()
  writes.shift()?.()
  await turn()
  writes.shift()?.()
  await closed
  t.strictSame(batches, [[1, 2, 3], [4, 5, 6, 7], [8]])
})

t.test('While the database is away rows wait for the timer, and the newest are kept', async (t) => {
  const batches: number[][] = []
  let away = true
  const rows = new WriteBehind<number>({
    name: 'test', log, interval: 3600_000, flushAt: 2, limit: 4, write: async (batch) => { batches.push(batch); if (away) throw new Error('away') }
  })
  for (let i = 1; i <= 3; i++) rows.put(i)
  await turn()
  for (let i = 4; i <= 6; i++) rows.put(i)
  await turn()
  t.strictSame(batches, [[1, 2]], 'tried once')
  away = false
  await rows.close()
  t.strictSame(batches, [[1, 2], [3, 4, 5, 6]])
})

/** As mysql2 says that a row is too long, with the statement and its values. */
const tooLong = (): Error => Object.assign(new Error("Data too long for column 'browser' at row 1"),
  { code: 'ER_DATA_TOO_LONG', errno: 1406, sqlState: '22001', sql: 'insert … secret' })

t.test('A row that the database refuses is dropped alone, and logged once without its values', async (t) => {
  const lines: unknown[] = []
  const written: number[] = []
  let calls = 0
  const rows = new WriteBehind<number>({
    name: 'test',
    log: { ...log, warn: (...line: unknown[]) => { lines.push(line) } },
    interval: 3600_000,
    most: 50,
    write: async (batch) => {
      calls++
      if (batch.includes(33)) throw tooLong()
      written.push(...batch)
    }
  })
  for (let i = 0; i < 100; i++) rows.put(i)
  await rows.drain()
  t.strictSame(written, Array.from({ length: 100 }, (_, i) => i).filter((i) => i !== 33))
  t.ok(calls < 20, `${calls} statements`)
  t.equal(lines.length, 1)
  t.notMatch(inspect(lines, { depth: 10 }), /secret/)
  rows.put(100)
  await rows.drain()
  t.equal(written.at(-1), 100, 'and the next ones are written as ever')
})

t.test('Rows written before the database went away are not written again', async (t) => {
  const batches: number[][] = []
  let away = true
  const rows = new WriteBehind<number>({
    name: 'test',
    log,
    interval: 3600_000,
    most: 2,
    write: async (batch) => {
      if (away && batch.includes(4)) throw new Error('away')
      batches.push(batch)
    }
  })
  for (let i = 1; i <= 5; i++) rows.put(i)
  await rows.drain()
  away = false
  await rows.close()
  t.strictSame(batches, [[1, 2], [3, 4], [5]])
})

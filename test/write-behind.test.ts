import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { WriteBehind } from '../lib/write-behind.js'
import { log } from './suites.js'

t.test('What comes after the end is not written, and is not tried again for ever', async (t) => {
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

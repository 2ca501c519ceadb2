import t from 'tap'
import { coalesceReads } from '../lib/async/coalesce-reads.js'
import { turn } from './suites.js'

/** Reads that the test ends. */
function reads (): { ask: (key: string) => Promise<number>, begun: string[], end: Array<(fails?: Error) => void> } {
  const begun: string[] = []
  const end: Array<(fails?: Error) => void> = []
  const ask = coalesceReads((key) => new Promise<number>((resolve, reject) => {
    const n = begun.push(key)
    end.push((fails) => { if (fails === undefined) resolve(n); else reject(fails) })
  }))
  return { ask, begun, end }
}

t.test('A single read starts immediately, and each call reads again', async (t) => {
  const { ask, begun, end } = reads()
  const first = ask('a')
  t.strictSame(begun, ['a'])
  end[0]?.()
  t.equal(await first, 1)
  await turn()
  const second = ask('a')
  end[1]?.()
  t.equal(await second, 2)
})

t.test('Calls during a read share the next read, which starts after them', async (t) => {
  const { ask, begun, end } = reads()
  const [first, second, third] = [ask('a'), ask('a'), ask('a')]
  const other = ask('b')
  t.strictSame(begun, ['a', 'b'], 'other keys wait for nothing')
  end[0]?.()
  t.equal(await first, 1)
  await turn()
  t.strictSame(begun, ['a', 'b', 'a'])
  const late = ask('a')
  end[2]?.()
  t.strictSame(await Promise.all([second, third]), [3, 3])
  await turn()
  t.strictSame(begun, ['a', 'b', 'a', 'a'], 'the second had begun before this one asked')
  end[3]?.()
  end[1]?.()
  t.strictSame(await Promise.all([late, other]), [4, 2])
})

t.test('A failed read rejects the calls that share it, and not later ones', async (t) => {
  const { ask, end } = reads()
  const [first, second] = [ask('a'), ask('a')]
  end[0]?.(new Error('away'))
  await t.rejects(first, /away/)
  await turn()
  end[1]?.()
  t.equal(await second, 2)
})

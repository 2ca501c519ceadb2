import { mock } from 'node:test'
import t from 'tap'
import { batchLoader } from '../lib/async/batch-loader.js'
import { turn } from './suites.js'

/** Look-ups of names by id; each load waits until it is answered. */
function slowNames (): { ask: (id: number) => Promise<string | undefined>, loads: Array<{ ids: number[], answer: () => void, fail: () => void }> } {
  const loads: ReturnType<typeof slowNames>['loads'] = []
  const ask = batchLoader(async (ids: number[]) => await new Promise<Map<number, string>>((resolve, reject) => {
    const names = new Map(ids.filter((id) => id > 0).map((id) => [id, `name ${id}`]))
    loads.push({ ids, answer: () => { resolve(names) }, fail: () => { reject(new Error('away')) } })
  }), { size: 3 })
  return { ask, loads }
}

t.test('keys requested within one turn are loaded together, each once, up to the size of a batch', async (t) => {
  const { ask, loads } = slowNames()
  const asked = Promise.all([1, 2, 2, -3, 4, 5].map(ask))
  await turn()
  t.strictSame(loads.map(({ ids }) => ids), [[1, 2, -3], [4, 5]])
  for (const { answer } of loads) answer()
  t.strictSame(await asked, ['name 1', 'name 2', 'name 2', undefined, 'name 4', 'name 5'])
})

t.test('keys requested during a load form the next one', async (t) => {
  const { ask, loads } = slowNames()
  const first = ask(1)
  await turn()
  const later = [ask(1), ask(2)]
  await turn()
  later.push(ask(3))
  t.strictSame(loads.map(({ ids }) => ids), [[1]])
  loads[0]?.answer()
  t.equal(await first, 'name 1')
  await turn()
  t.strictSame(loads.map(({ ids }) => ids), [[1], [1, 2, 3]])
  loads[1]?.answer()
  t.strictSame(await Promise.all(later), ['name 1', 'name 2', 'name 3'])
})

t.test('a load that hangs holds up the next one for a moment only', async (t) => {
  const { ask, loads } = slowNames()
  void ask(1)
  await turn()
  const second = ask(2)
  while (loads.length < 2) await turn()
  loads[1]?.answer()
  t.equal(await second, 'name 2')
})

t.test('with a pause, single keys after a load are loaded together, and a lone key does not wait', async (t) => {
  mock.timers.enable({ apis: ['setTimeout'] })
  t.teardown(() => { mock.timers.reset() })
  const loads: number[][] = []
  const ask = batchLoader(async (ids: number[]) => {
    loads.push(ids)
    return new Map(ids.map((id) => [id, id]))
  }, { pause: 20 })
  const first = ask(1)
  await turn()
  t.strictSame(loads, [[1]])
  t.equal(await first, 1)
  const later = []
  for (const id of [2, 3, 4]) {
    later.push(ask(id))
    await turn()
  }
  mock.timers.tick(20)
  t.strictSame(await Promise.all(later), [2, 3, 4])
  t.strictSame(loads, [[1], [2, 3, 4]])
})

t.test('a failed load rejects its callers, and not later ones', async (t) => {
  const { ask, loads } = slowNames()
  const first = ask(1)
  await turn()
  const second = ask(2)
  loads[0]?.fail()
  await t.rejects(first, { message: 'away' })
  while (loads.length < 2) await turn()
  loads[1]?.answer()
  t.equal(await second, 'name 2')
})

t.test('with a limit of calls, the other keys wait in their order, and share a call until it begins', async (t) => {
  const loads: Array<{ ids: number[], answer: () => void }> = []
  const ask = batchLoader(async (ids: number[]) => await new Promise<Map<number, string>>((resolve) => {
    loads.push({ ids, answer: () => { resolve(new Map(ids.map((id) => [id, `name ${id}`]))) } })
  }), { size: 2, parallel: 2 })
  const asked = [1, 2, 3, 4, 5, 6, 7].map(ask)
  await turn()
  t.strictSame(loads.map(({ ids }) => ids), [[1, 2], [3, 4]])
  // Longer than one call holds up the next.
  await new Promise((resolve) => setTimeout(resolve, 60))
  asked.push(ask(6), ask(8))
  t.equal(loads.length, 2)
  loads[1]?.answer()
  while (loads.length < 3) await turn()
  loads[0]?.answer()
  while (loads.length < 4) await turn()
  t.strictSame(loads.slice(2).map(({ ids }) => ids), [[5, 6], [7, 8]])
  for (const { answer } of loads) answer()
  t.strictSame(await Promise.all(asked), [1, 2, 3, 4, 5, 6, 7, 6, 8].map((id) => `name ${id}`))
  const last = ask(9)
  while (loads.length < 5) await turn()
  loads[4]?.answer()
  t.equal(await last, 'name 9')
})

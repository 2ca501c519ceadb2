import t from 'tap'
import { Semaphore } from '../lib/async/semaphore.js'
import { turn } from './suites.js'

t.test('A gate answers at once where the call does', async (t) => {
  const gate = new Semaphore(1)
  t.equal(gate.run(() => 1), 1)
  t.throws(() => gate.run(() => { throw new Error('no') }), /no/)
  t.equal(gate.run(() => 2), 2, 'and a throw leaves no place taken')
})

t.test('At most so many calls are under way, the others follow in their order', async (t) => {
  const gate = new Semaphore(2)
  const begun: number[] = []
  const end: Array<() => void> = []
  const call = (i: number) => async (): Promise<number> => {
    begun.push(i)
    await new Promise<void>((resolve) => { end[i] = resolve })
    if (i === 1) throw new Error('failed')
    return i
  }
  const outcomes = [0, 1, 2, 3].map(async (i) => await gate.run(call(i)))
  const later = Promise.resolve(gate.run(() => 'at once'))
  const settled = Promise.allSettled(outcomes)
  t.strictSame(begun, [0, 1])
  end[1]?.()
  t.match(await outcomes[1]?.catch((err: unknown) => err), /failed/)
  t.strictSame(begun, [0, 1, 2], 'one that fails gives its place away too')
  end[0]?.()
  await outcomes[0]
  await turn()
  t.strictSame(begun, [0, 1, 2, 3])
  end[2]?.()
  t.equal(await later, 'at once')
  end[3]?.()
  await settled
  t.equal(gate.run(() => 'free'), 'free')
})

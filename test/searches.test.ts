import t from 'tap'
import type { Identity } from '../lib/identity.js'
import { Searches } from '../plugins/conversations/searches.js'

const who = (tenantId: number, userId: number): Identity => ({ tenantId, userId })

t.test('one search runs at a time, for tenants and users in turn, and one that fails does not stop the others', async (t) => {
  const searches = new Searches({ sharedRates: { take () {} } as never })
  const order: string[] = []
  let running = 0
  const run = async (name: string, identity: Identity): Promise<void> => {
    await searches.run(identity, async () => {
      t.equal(++running, 1)
      order.push(name)
      await new Promise((resolve) => setImmediate(resolve))
      running--
      if (name === 'b') throw new Error('the database')
    })
  }
  await Promise.allSettled([
    ...['a', 'b', 'c', 'd'].map(async (name) => { await run(name, who(1, 1)) }), run('another user', who(1, 2)), run('another tenant', who(2, 1))
  ])
  t.strictSame(order, ['a', 'b', 'another tenant', 'another user', 'c', 'd'])
  await run('later', who(1, 1))
  t.equal(order.at(-1), 'later')
})

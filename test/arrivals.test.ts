import { mock } from 'node:test'
import t from 'tap'
import { Arrivals } from '../plugins/connections/arrivals.js'
import { identityOf } from '../plugins/testing.js'
import { buildHost, socketTo, tokenOf, user } from './helper.js'
import { turn } from './suites.js'

interface Node {
  arrivals: Arrivals
  /** The seconds after which those who were refused may come back. */
  refused: number[]
  /** Who is in, in this order, and since when in milliseconds. */
  entered: Array<{ n: number, at: number }>
  /** One more socket arrives. */
  arrive (): void
  /** Time goes by. */
  wait (ms: number): Promise<void>
}

/** A node whose event loop is busy for `cost` milliseconds with each socket that enters. */
function nodeWith ({ cost, maxLag = 50, isBehind = () => false }: { cost: number, maxLag?: number, isBehind?: () => boolean }): Node {
  mock.timers.enable({ apis: ['setTimeout', 'Date'] })
  let busy = 0
  const began = Date.now()
  const now = (): number => Date.now() - began + busy
  const arrivals = new Arrivals({ maxLag, isBehind, now })
  const entered: Node['entered'] = []
  const refused: number[] = []
  let count = 0
  return {
    arrivals,
    refused,
    entered,
    arrive: () => {
      const n = count++
      const retryAfter = arrivals.arrive(() => {
        entered.push({ n, at: now() })
        busy += cost
      })
      if (retryAfter !== null) refused.push(retryAfter)
    },
    wait: async (ms) => {
      for (const until = now() + ms; now() < until;) {
        mock.timers.tick(1)
        await turn()
      }
    }
  }
}

t.afterEach(() => { mock.timers.reset() })

t.test('A socket that comes alone does not wait', async (t) => {
  const node = nodeWith({ cost: 1 })
  for (let n = 0; n < 20; n++) {
    node.arrive()
    t.equal(node.entered.length, n + 1)
    await node.wait(n % 2 === 0 ? 5 : 2000)
  }
})

t.test('Thousands who come at once are let in in their order, and the node stays responsive', async (t) => {
  const node = nodeWith({ cost: 1 })
  for (let n = 0; n < 3000; n++) node.arrive()
  await node.wait(4000)
  t.strictSame([node.entered.map(({ n }) => n), node.refused], [Array.from({ length: 3000 }, (_, n) => n), []])
  const longest = node.entered.slice(1).reduce(({ run, longest }, { at }, i) => {
    const next = at - (node.entered[i]?.at ?? 0) === 1 ? run + 1 : 1
    return { run: next, longest: Math.max(longest, next) }
  }, { run: 1, longest: 1 }).longest
  t.ok(longest <= 80, `at most ${longest} ms in one go`)
})

t.test('A fast node takes them all within moments', async (t) => {
  const node = nodeWith({ cost: 0 })
  for (let n = 0; n < 3000; n++) node.arrive()
  await node.wait(250)
  t.equal(node.entered.length, 3000)
})

t.test('Upgrades that would wait too long get different values of retryAfter', async (t) => {
  const node = nodeWith({ cost: 20 })
  for (let i = 0; i < 150; i++) {
    for (let n = 0; n < 10; n++) node.arrive()
    await node.wait(100)
  }
  t.ok(node.refused.length > 150, `${node.refused.length} were sent away`)
  t.ok(node.entered.length > 250, `${node.entered.length} came in`)
  t.ok(node.refused.every((seconds) => Number.isInteger(seconds) && seconds >= 1 && seconds <= 30))
  t.ok(new Set(node.refused).size >= 4, 'spread')
})

t.test('While too much waits for the database, only few are let in', async (t) => {
  let isBehind = true
  const node = nodeWith({ cost: 0, isBehind: () => isBehind })
  for (let n = 0; n < 1000; n++) node.arrive()
  await node.wait(500)
  const some = node.entered.length
  t.ok(some >= 200 && some < 500, `${some}`)
  isBehind = false
  await node.wait(500)
  t.equal(node.entered.length, 1000)
})

t.test('Without a limit, or while the node closes, no upgrade waits', async (t) => {
  const open = nodeWith({ cost: 50, maxLag: 0 })
  for (let n = 0; n < 1000; n++) open.arrive()
  t.equal(open.entered.length, 1000)
  mock.timers.reset()
  const closing = nodeWith({ cost: 1 })
  for (let n = 0; n < 1000; n++) closing.arrive()
  t.ok(closing.arrivals.waiting > 900)
  closing.arrivals.end()
  t.equal(closing.entered.length, 1000, 'they are refused as they enter')
})

t.test('A socket that is refused for now is closed with 1013, without a call of authenticate', async (t) => {
  let asked = 0
  const host = await buildHost(t, {
    backend: 'embedded',
    options: {
      authenticate: ({ token }) => {
        asked++
        return identityOf(token)
      }
    }
  })
  const { mock: full } = mock.method(Arrivals.prototype, 'arrive', () => 7)
  t.teardown(() => { full.restore() })
  for (const options of [{ headers: { authorization: `Bearer ${tokenOf(user(1))}` } }, {}]) {
    const client = socketTo(host, options)
    t.match(await client.next('error'), { code: 'RT_UNAVAILABLE', retryAfter: 7 })
    t.equal(await client.closed, 1013)
  }
  t.equal(asked, 0)
  full.restore()
  const client = socketTo(host, { headers: { authorization: `Bearer ${tokenOf(user(1))}` } })
  await client.next('authenticated')
})

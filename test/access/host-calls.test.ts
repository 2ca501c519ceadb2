import { EventEmitter } from 'node:events'
import Fastify from 'fastify'
import t from 'tap'
import { clientAddress } from '../../lib/access/address.js'
import { HostCalls, type Asker } from '../../lib/access/host-calls.js'
import { FairQueue } from '../../lib/async/fair-queue.js'
import { RealtimeError } from '../../lib/errors.js'
import { internalsOf } from '../../lib/internals.js'
import { realtime, stats } from '../../plugins/index.js'
import { until } from '../helper.js'
import { turn } from '../suites.js'

const asker = (holder: string | null, tenant: string | number = 1, owner: object = new EventEmitter()): Asker => ({ owner, tenant, holder })

/** A host function that answers when the test says so. */
function deferred<T> (): { answer: Promise<T>, resolve: (value: T) => void, reject: (err: Error) => void } {
  let resolve: (value: T) => void = () => {}
  let reject: (err: Error) => void = () => {}
  const answer = new Promise<T>((...both) => { [resolve, reject] = both })
  return { answer, resolve, reject }
}

t.test('A synchronous host function needs no promise and no place in the queue', async (t) => {
  const calls = new HostCalls({ places: 1, timeout: 1000 })
  t.equal(calls.run(asker('a'), () => 1), 1)
  t.throws(() => calls.run(asker('a'), () => { throw new Error('no') }), /no/)
  t.equal(calls.run(asker('a'), () => 2), 2)
  t.equal(calls.running, 0)
})

t.test('At most so many calls are under way, and one that fails gives its place away too', async (t) => {
  const calls = new HostCalls({ places: 2, timeout: 60_000 })
  const begun: number[] = []
  const all = [0, 1, 2].map(() => deferred<number>())
  const outcomes = all.map(async ({ answer }, i) => await calls.run(asker(null), () => {
    begun.push(i)
    return answer
  }))
  t.strictSame(begun, [0, 1])
  const settled = Promise.allSettled(outcomes)
  all[1]?.reject(new Error('failed'))
  await turn()
  t.strictSame(begun, [0, 1, 2])
  all[0]?.resolve(0)
  all[2]?.resolve(2)
  t.match(await settled, [{ value: 0 }, { reason: /failed/ }, { value: 2 }])
  t.equal(calls.running, 0)
})

t.test('A host function that never responds times out, and the client may try again', async (t) => {
  const calls = new HostCalls({ places: 1, timeout: 50 })
  const stuck = calls.run(asker(null), async () => await new Promise(() => {}))
  const behind = calls.run(asker(null), async () => 'in time')
  await t.rejects(Promise.resolve(stuck), { code: 'RT_UNAVAILABLE' })
  t.ok([ 'in time', 'RT_UNAVAILABLE' ].includes(await Promise.resolve(behind).catch((err: { code: string }) => err.code)))
  t.equal(calls.running, 0)
  t.equal(calls.waiting, 0)
})

t.test('Clients that leave release their places immediately, whether they hold one or wait for one', async (t) => {
  const calls = new HostCalls({ places: 2, timeout: 60_000 })
  const gone = {}
  const stuck = [1, 2, 3].map(() => Promise.resolve(calls.run(asker(null, 1, gone), async () => await new Promise(() => {}))))
  const refused = Promise.allSettled(stuck)
  const innocent = Promise.resolve(calls.run(asker(null), async () => 'served'))
  t.equal(calls.waiting, 2)
  calls.release(gone)
  t.equal(await innocent, 'served')
  t.match(await refused, stuck.map(() => ({ reason: { code: 'RT_UNAVAILABLE' } })))
  t.equal(calls.running, 0)
})

t.test('One user never holds more than a tenth of the places', async (t) => {
  const calls = new HostCalls({ places: 20, timeout: 60_000 })
  const greedy = {}
  const stuck = Array.from({ length: 50 }, () => Promise.resolve(calls.run(asker('greedy', 1, greedy), async () => await new Promise(() => {}))))
  const refused = Promise.allSettled(stuck)
  t.equal(calls.running, 2)
  t.equal(await calls.run(asker('other'), async () => 'at once'), 'at once')
  calls.release(greedy)
  await refused
  t.equal(calls.running + calls.waiting, 0)
})

t.test('One address never holds more than a tenth of the places, and behind a proxy it is the client’s', async (t) => {
  let asked = 0
  const app = Fastify({ trustProxy: true, forceCloseConnections: true })
  t.teardown(async () => { await app.close() })
  await app.register(realtime, {
    database: 'sqlite::memory:',
    hostTimeout: 60_000,
    authConcurrency: 100,
    authenticate: async ({ token }) => {
      if (token !== 'hangs') return { tenantId: 1, userId: 1 }
      asked++
      return await new Promise(() => {})
    }
  })
  await app.register(stats)
  const url = `${await app.listen({ port: 0, host: '127.0.0.1' })}/api/websocket/stats`
  const headersOf = (token: string, address: string): Record<string, string> => ({ authorization: `Bearer ${token}`, 'x-forwarded-for': address })
  const aborting = new AbortController()
  const stuck = Promise.allSettled(Array.from({ length: 100 }, async () => await fetch(url, { headers: headersOf('hangs', '203.0.113.1'), signal: aborting.signal })))
  await until('as many wait as cannot be asked', () => internalsOf(app).access.load[0]?.waiting === 90)
  t.equal(asked, 10)
  t.equal((await fetch(url, { headers: headersOf('good', '203.0.113.2') })).status, 200)
  aborting.abort()
  await stuck
  await until('every place is free again', () => internalsOf(app).access.load.every(({ running, waiting }) => running + waiting === 0))
})

t.test('An answer that is older than a ban of who asks allows nothing', async (t) => {
  const banned = new Set<number>()
  const calls = new HostCalls({ places: 2, timeout: 60_000, refusal: ({ userId }) => banned.has(Number(userId)) ? new RealtimeError('RT_BANNED') : null })
  const asked = deferred<boolean>()
  const outcomes = Promise.allSettled([1, 2].map(async (userId) => await calls.run({ ...asker(null), identity: { tenantId: 1, userId } }, async () => await asked.answer)))
  banned.add(1)
  asked.resolve(true)
  t.match(await outcomes, [{ reason: { code: 'RT_BANNED' } }, { value: true }])
  t.equal(calls.running, 0)
})

t.test('Waiting askers are served tenant by tenant in turn, each in its own order', async (t) => {
  const queue = new FairQueue<string>()
  for (const i of [1, 2, 3]) queue.push('big', 'ann', `ann ${i}`)
  queue.push('big', 'ben', 'ben 1')
  queue.push('small', 'cat', 'cat 1')
  t.equal(queue.size, 5)
  t.ok(queue.remove('big', 'ann', 'ann 2'))
  t.notOk(queue.remove('big', 'ann', 'ann 2'))
  const served: Array<string | undefined> = []
  while (queue.size > 0) served.push(queue.take())
  t.strictSame(served, ['ann 1', 'cat 1', 'ben 1', 'ann 3'])
  queue.push('big', 'ann', 'ann 4')
  t.equal(queue.take((holder) => holder !== 'ann'), undefined)
  t.equal(queue.take(), 'ann 4')
})

t.test('Addresses count by themselves, IPv6 ones by their /64', async (t) => {
  t.equal(clientAddress('203.0.113.7').key, '203.0.113.7')
  t.equal(clientAddress('::ffff:203.0.113.7').key, '203.0.113.7')
  t.equal(clientAddress('2001:db8:1:2:3:4:5:6').key, clientAddress('2001:db8:1:2::9').key)
  t.equal(clientAddress('2001:0db8:0001:0002::1').key, clientAddress('2001:db8:1:2::9').key)
  t.not(clientAddress('2001:db8:1:3::1').key, clientAddress('2001:db8:1:2::1').key)
  t.equal(clientAddress('2001:db8::1').key, clientAddress('2001:db8:0:0:ffff::').key)
  for (const address of ['127.0.0.1', '::1', '::ffff:127.0.0.1', '10.1.2.3', '172.16.0.1', '192.168.1.1', 'fe80::1', 'fd00::1', '']) t.ok(clientAddress(address).isPrivate, address)
  for (const address of ['203.0.113.7', '172.32.0.1', '2001:db8::1', '::ffff:203.0.113.7']) t.notOk(clientAddress(address).isPrivate, address)
})

import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { Client, rest } from './client.js'
import { clusterFor, type Node } from './cluster.js'
import { GROUP, type Load, startLoad } from './load.js'
import { redisLinksOf, suffer } from './faults.js'
import { until } from './until.js'

t.test('The host of Redis vanishes without a word', async (t) => {
  const { cluster, nodes } = await clusterFor(t, [{}, { proxied: 'redis' }])
  const [, b] = nodes
  const links = redisLinksOf(b.proxy())
  let clubId = 10
  /** Each in a tenant of its own. */
  const nextLoad = async (t: Test): Promise<Load> => await startLoad(t, nodes, { clubId: ++clubId, count: 10, pause: 100 })
  const onlineOn = async (node: Node): Promise<number> => (await rest(node, { userId: 1, clubId }, '/online-users')).total as number

  await t.test('behind the connection of one node that sends commands: it is replaced, and lists are answered again', async (t) => {
    const load = await nextLoad(t)
    await suffer(t, { name: 'Redis, black hole, commands', cluster, nodes: [b], load, begin: () => { links.commands().swallow() } })
    const began = Date.now()
    t.equal(await onlineOn(b), 20)
    t.ok(Date.now() - began < 1000, 'at once')
  })

  await t.test('behind the same, and it takes no more bytes either', async (t) => {
    const load = await nextLoad(t)
    await suffer(t, { name: 'Redis, full buffers, commands', cluster, nodes: [b], load, begin: () => { links.commands().stall() } })
    t.equal(await onlineOn(b), 20)
  })

  await t.test('in front of the subscriber’s connection: events of other nodes arrive afterwards', async (t) => {
    const load = await nextLoad(t)
    await suffer(t, { name: 'Redis, black hole, subscriber', cluster, nodes: [b], load, begin: () => { links.subscriber().swallow() } })
  })

  await t.test('behind both, and new connections are swallowed too for 8 s', async (t) => {
    const load = await nextLoad(t)
    await suffer(t, {
      name: 'Redis, black hole, both and new ones for 8 s',
      cluster,
      nodes: [b],
      load,
      begin: () => { b.proxy().swallow({ swallowNew: true }) },
      meanwhile: async () => {
        await sleep(8000)
        const began = Date.now()
        await t.rejects(onlineOn(b), { code: 'RT_STORAGE_UNAVAILABLE' })
        t.ok(Date.now() - began < 1000, 'refused at once while it is known to be away')
      },
      end: () => { b.proxy().unswallow() }
    })
    t.equal(await until('the list is right', 5000, async () => await onlineOn(b) === 20), true)
    t.ok(b.proxy().links.size <= 2, 'no connection is left behind')
  })

  await t.test('and users on that node reach each other all the while', async (t) => {
    const [sender, receiver] = await Promise.all([Client.connect(b, { userId: 1 }), Client.connect(b, { userId: 2 })])
    await receiver.request('subscribe', { channel: GROUP })
    b.proxy().swallow({ swallowNew: true })
    t.teardown(() => { b.proxy().unswallow() })
    for (let i = 0; i < 5; i++) {
      const message = `while it is away ${i}`
      await sender.request('message:group', { conversationId: 'x', channel: GROUP, message })
      await receiver.next('message:group', 5000, (data) => data.message === message)
      await sleep(1000)
    }
    t.strictSame(receiver.all('message:group').length, 5)
  })
})

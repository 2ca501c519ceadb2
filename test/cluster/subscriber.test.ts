import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { check } from './check.js'
import { Client, rest } from './client.js'
import { clusterFor, healthOf } from './cluster.js'
import { GROUP, Load, startLoad } from './load.js'
import type { Link } from './proxy.js'
import { until, within } from './until.js'

t.test('The subscriber’s connection breaks under load', async (t) => {
  const { cluster, nodes } = await clusterFor(t, [{}, { proxied: 'redis' }])
  const [a, b] = nodes
  const group = { conversationId: 'x', channel: GROUP }
  const subscribers = async (clubId: number): Promise<number> =>
    Number((await cluster.keys.pubsub('NUMSUB', `${cluster.prefix}channel:{${clubId}/${GROUP}}`) as [string, number])[1])

  await t.test('all messages arrive although CLIENT KILL TYPE pubsub cuts the subscription five times', async (t) => {
    const load = await startLoad(t, nodes)
    await until('messages flow', 5000, () => load.acked.length > 200)
    for (let i = 0; i < 5; i++) {
      t.ok(Number(await cluster.keys.call('CLIENT', 'KILL', 'TYPE', 'pubsub')) >= 2)
      await sleep(200)
      await until('both nodes are subscribed again', 5000, async () => await subscribers(1) === 2)
    }
    await load.stopSending()
    const { problems, ...figures } = await check(cluster, load)
    t.comment(figures)
    t.strictSame(problems, [])
    t.strictSame([load.closeCodes, load.refusals], [[], []])
  })

  await t.test('after a restart there is one subscription per node, and one frame per socket', async (t) => {
    const [sender, ...receivers] = await Promise.all([a, a, b].map(async (node, i) => await Client.connect(node, { userId: 10 + i, clubId: 3 }))) as [Client, Client, Client]
    await Promise.all(receivers.map(async (receiver) => await receiver.request('subscribe', { channel: GROUP })))
    for (let i = 0; i < 3; i++) {
      await cluster.redis.restart()
      await until('healthy again', 10_000, async () => await healthOf(a) === 200 && await healthOf(b) === 200)
    }
    t.equal(await subscribers(3), 2)
    const texts = Array.from({ length: 20 }, (_, i) => `after the restarts ${i}`)
    for (const message of texts) await sender.request('message:group', { ...group, message })
    for (const receiver of receivers) {
      await receiver.next('message:group', 5000, (data) => data.message === texts.at(-1))
      t.strictSame(receiver.all('message:group').map(({ data }) => data.message), texts)
    }
  })

  await t.test('a silently dead subscription: /health returns 503, then it heals, and all messages arrive', async (t) => {
    const load = await Load.start({ senders: [a], receivers: nodes, nodes: () => nodes, clubId: 2, count: 10, pause: 100 })
    t.teardown(async () => { await load.close() })
    const [sender, receiver] = await Promise.all([Client.connect(a, { userId: 20 }), Client.connect(b, { userId: 21 })])

    // The link by which node b subscribes.
    let hearing: Link | null = null as Link | null
    b.proxy().inspect = (bytes, link) => {
      if (/\r\nsubscribe\r\n/i.test(bytes.toString('latin1'))) hearing ??= link
      return true
    }
    await receiver.request('subscribe', { channel: GROUP })
    const link = await until('it subscribed', 1000, (): Link | null => hearing)
    link.stall()
    const stalledAt = Date.now()
    const { messageId } = await sender.request('message:group', { ...group, message: 'into the silence' })

    await t.test('a connection that waits does not block the lists and figures of others', async (t) => {
      for (const path of ['/stats', '/online-users', '/presence/20']) await t.resolves(within(1000, path, rest(b, { userId: 21 }, path)), path)
    })
    const found = receiver.next('message:group', 16_000, (data) => data.messageId === messageId).then(() => Date.now() - stalledAt)
    found.catch(() => {}) // looked at below
    await until('/health says so', 21_000, async () => await healthOf(b) === 503)
    t.comment(`503 after ${Date.now() - stalledAt} ms`)
    t.equal(await healthOf(a), 200, 'the other node is well')
    await until('it heals', 10_000, async () => await healthOf(b) === 200)
    t.comment(`healed after ${Date.now() - stalledAt} ms`)
    await t.resolves(found, 'what is missed on a quiet channel is found within 15 s')
    t.comment(`missed and found after ${await found.catch(() => 'never')} ms`)
    const live = await sender.request('message:group', { ...group, message: 'live again' })
    await receiver.next('message:group', 1000, (data) => data.messageId === live.messageId)
    await load.stopSending()
    const { problems, ...figures } = await check(cluster, load)
    t.comment(figures)
    t.strictSame(problems, [])
    t.strictSame(load.closeCodes, [])
  })
})

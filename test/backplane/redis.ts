import { Redis } from 'ioredis'
import type { Test } from 'tap'
import { RedisBackplane } from '../../lib/backplane/redis.js'
import { channelKey, type ChannelKey } from '../../lib/keys.js'
import type { RedisConnections } from '../../lib/redis/connect.js'
import { startProxy, type Link, type Proxy } from '../cluster/proxy.js'
import { until } from '../cluster/until.js'
import { startRedis } from '../servers.js'
import { freshPrefix, log, openRedis, turn } from '../suites.js'
import { durable, frame, startNode, type Node } from './node.js'

export interface RedisNode extends Node<RedisBackplane> {
  connections: RedisConnections
  /** The connection that receives; its end of the wire is what others can cut. */
  subscriber: Redis
}

/** Two nodes on one Redis. */
export async function startNodes (t: Test, url?: string): Promise<[RedisNode, RedisNode]> {
  const prefix = freshPrefix()
  const open = async (nodeId: string): Promise<RedisNode> => {
    const connections = await openRedis(t, prefix, url)
    const node = await startNode(t, new RedisBackplane(nodeId, connections, { log }))
    return { ...node, connections, subscriber: connections.subscriber as Redis }
  }
  return [await open('node-a'), await open('node-b')]
}

/** A client beside fastify-realtime. */
function openAdmin (t: Test, url = process.env.REDIS_URL ?? ''): Redis {
  const admin = new Redis(url, { retryStrategy: () => 20 })
  admin.on('error', () => {})
  t.teardown(() => { admin.disconnect() })
  return admin
}

/** Redis behind a proxy whose connections can be stalled. */
async function proxied (t: Test): Promise<{ proxy: Proxy, url: string }> {
  const url = new URL(process.env.REDIS_URL ?? '')
  const proxy = await startProxy(Number(url.port))
  t.teardown(async () => { await proxy.close() })
  url.port = String(proxy.port)
  return { proxy, url: url.href }
}

async function cutSubscriber (admin: Redis, { subscriber }: RedisNode): Promise<void> {
  // Not events.once: the connection may be reset, and it would reject with that error.
  const closed = new Promise<void>((resolve) => { subscriber.once('close', resolve) })
  await admin.client('KILL', 'ADDR', `127.0.0.1:${subscriber.stream.localPort}`)
  await closed
}

const topicsOf = async (admin: Redis, { connections }: RedisNode): Promise<string[]> =>
  await admin.pubsub('CHANNELS', `${connections.prefix}*`) as string[]

const topicOf = async (admin: Redis, node: RedisNode, key: ChannelKey): Promise<string> =>
  (await topicsOf(admin, node)).find((name) => name.includes(key)) ?? ''

/** From now on intervals are run, and the system's clock is moved, by the function this returns; connections keep their time. */
function holdBeats (t: Test): (ms: number) => void {
  const { setInterval } = globalThis
  t.teardown(() => { Object.assign(globalThis, { setInterval }) })
  let time = 0
  const beats: Array<{ run: () => void, every: number, next: number }> = []
  const hold = (run: () => void, every: number): object => {
    beats.push({ run, every, next: time + every })
    return {}
  }
  Object.assign(globalThis, { setInterval: hold })
  return (ms) => {
    time += ms
    for (const beat of beats) for (; beat.next <= time; beat.next += beat.every) beat.run()
  }
}

/** What can go wrong with Redis, and must not be noticed. */
export function overFailures (t: Test): void {
  t.test('Redis has no subscriptions left after the last unsubscribe', async (t) => {
    const [a, b] = await startNodes(t)
    const admin = openAdmin(t)
    const keys = Array.from({ length: 50 }, (_, i) => channelKey(1, `leak.${i}`))
    for (const { backplane } of [a, b]) await Promise.all(keys.map(async (key) => { await backplane.subscribe(key) }))
    t.equal((await topicsOf(admin, a)).length, keys.length + 2)
    for (const { backplane } of [a, b]) for (const key of keys) backplane.unsubscribe(key)
    for (const key of keys) {
      const raced = channelKey(1, `${key.slice(2)}.raced`)
      const subscribed = a.backplane.subscribe(raced)
      a.backplane.unsubscribe(raced)
      await subscribed
    }
    await until('only the two nodes’ own topics are left', 5000, async () => (await topicsOf(admin, a)).length === 2)
    t.pass()
  })

  t.test('close sends everything that was published before', async (t) => {
    const [a, b] = await startNodes(t)
    await b.backplane.subscribe('1/a')
    void a.backplane.publish('1/a', frame('under way'))
    await turn()
    void a.backplane.publish('1/a', frame('queued'))
    await a.backplane.close()
    a.connections.close()
    await b.recorder.untilText('queued')
    t.strictSame(b.recorder.texts(), ['under way', 'queued'])
  })

  t.test('a lost message is reported as a gap before the next message, on its channel alone', async (t) => {
    const [a, b] = await startNodes(t)
    const admin = openAdmin(t)
    for (const key of ['1/a', '1/b'] as const) await a.backplane.subscribe(key)
    for (const key of ['1/a', '1/b'] as const) await b.backplane.publish(key, durable(`${key} before`))
    await a.recorder.untilText('1/b before')
    const topic = await topicOf(admin, a, '1/a')
    await a.subscriber.unsubscribe(topic)
    await b.backplane.publish('1/a', durable('lost'))
    await a.subscriber.subscribe(topic)
    t.strictSame(a.recorder.missing, [])
    for (const key of ['1/b', '1/a'] as const) await b.backplane.publish(key, durable(`${key} after`))
    await a.recorder.untilText('1/a after')
    t.strictSame(a.recorder.missing, ['1/a'])
    t.strictSame(a.recorder.emitted.slice(-3), ['deliver', 'missed', 'deliver'])
    t.strictSame(a.recorder.texts('1/a'), ['1/a before', '1/a after'])
  })

  t.test('a lost subscription is made again, reported as a gap, and receives again', async (t) => {
    const [a, b] = await startNodes(t)
    const admin = openAdmin(t)
    for (const key of ['1/a', '1/b', '1/left'] as const) await a.backplane.subscribe(key)
    a.backplane.unsubscribe('1/left')
    await cutSubscriber(admin, a)
    t.notOk(a.backplane.healthy)
    void a.backplane.publish('1/a', frame('own'))
    await a.recorder.untilText('own')
    await a.recorder.until('back', () => a.recorder.emitted.includes('back'))
    t.strictSame(new Set(a.recorder.missing), new Set(['1/a', '1/b']))
    t.ok(a.backplane.healthy)
    for (const key of ['1/left', '1/a', '1/b'] as const) await b.backplane.publish(key, frame(`${key} again`))
    await a.recorder.untilText('1/b again')
    t.strictSame(a.recorder.texts(), ['own', '1/a again', '1/b again'])
    t.strictSame(await b.backplane.call('node-a', 'op', 1), { op: 'op', data: 1 }, 'and its own topic too')
  })

  t.test('a message that arrives together with the reply to a new subscription is delivered after the gap before it is reported', async (t) => {
    const { proxy, url } = await proxied(t)
    const [a, b] = await startNodes(t, url)
    const admin = openAdmin(t)
    await a.backplane.subscribe('1/a')
    const topic = await topicOf(admin, a, '1/a')
    let hearing: Link | null = null as Link | null
    proxy.inspect = (bytes, link) => {
      const command = /\r\n(subscribe|mget)\r\n/i.exec(bytes.toString('latin1'))?.[1]?.toLowerCase()
      // What Redis answers to either waits; the numbers are not needed for what follows, and stay unknown.
      if (command !== undefined) link.stall()
      if (command === 'subscribe') hearing = link
      return true
    }
    const subscribed = async (count: number): Promise<void> => {
      await until(`${count} subscribed`, 5000, async () => Number((await admin.pubsub('NUMSUB', topic))[1]) === count)
    }
    const hearAnew = async (meanwhile: () => Promise<void>): Promise<void> => {
      await proxy.refuse()
      a.subscriber.disconnect(true)
      await subscribed(0)
      await meanwhile()
      await proxy.accept()
      await subscribed(1)
    }
    await hearAnew(async () => {})
    hearing?.resume()
    await a.recorder.until('missed', () => a.recorder.missing.length === 1)
    await hearAnew(async () => { await b.backplane.publish('1/a', durable('lost')) })
    await b.backplane.publish('1/a', durable('after'))
    const before = a.recorder.emitted.length
    hearing?.resume()
    await a.recorder.untilText('after')
    t.strictSame(a.recorder.emitted.slice(before).filter((what) => what !== 'back').slice(0, 2), ['missed', 'deliver'])
  })

  t.test('a subscription that is lost repeatedly is restored each time, and each event arrives once', async (t) => {
    const [a, b] = await startNodes(t)
    const admin = openAdmin(t)
    await a.backplane.subscribe('1/a')
    for (let round = 1; round <= 4; round++) {
      await cutSubscriber(admin, a)
      await a.recorder.until('back', () => a.recorder.emitted.filter((what) => what === 'back').length === round)
      await b.backplane.publish('1/a', frame(`round ${round}`))
      await a.recorder.untilText(`round ${round}`)
    }
    t.strictSame(a.recorder.texts(), ['round 1', 'round 2', 'round 3', 'round 4'])
  })

  t.test('while Redis is away publish rejects and delivers locally, and everything recovers when it is back', async (t) => {
    const redis = await startRedis()
    t.teardown(async () => { await redis.stop() })
    const [a, b] = await startNodes(t, redis.url)
    await a.backplane.subscribe('1/a')
    await a.backplane.subscribe('1/left')
    await redis.stop()
    await until('a notices', 5000, () => !a.backplane.healthy)
    await Promise.all([
      t.rejects(a.backplane.publish('1/a', frame('one'))), t.rejects(a.backplane.publish('1/a', frame('two'))),
      t.rejects(a.backplane.publish('1/unheard', frame('three'))), t.rejects(a.backplane.call('node-b', 'op', 1))
    ])
    t.strictSame(a.recorder.texts(), ['one', 'two'])
    await a.backplane.subscribe('1/new')
    a.backplane.unsubscribe('1/left')
    await t.rejects(a.backplane.publish('1/new', frame('three')))
    t.strictSame(a.recorder.texts(), ['one', 'two', 'three'])

    await redis.restart()
    for (const { recorder } of [a, b]) await recorder.until('back', () => recorder.emitted.includes('back'))
    t.ok(a.backplane.healthy && b.backplane.healthy)
    t.strictSame(new Set(a.recorder.missing), new Set(['1/a', '1/new']))
    for (const key of ['1/left', '1/a', '1/new'] as const) await b.backplane.publish(key, frame(`${key} again`))
    await a.recorder.untilText('1/new again')
    t.strictSame(a.recorder.texts().slice(3), ['1/a again', '1/new again'])
    t.strictSame(await a.backplane.call('node-b', 'op', 2), { op: 'op', data: 2 })
  })

  t.test('while Redis hangs a node delivers locally in the order of publishing, whichever command fails first', async (t) => {
    const redis = await startRedis()
    t.teardown(async () => { await redis.stop() })
    const [a] = await startNodes(t, redis.url)
    await a.backplane.subscribe('1/a')
    redis.pause()
    t.teardown(() => { redis.resume() })
    const first = a.backplane.publish('1/a', frame('one', { messageId: 1 }))
    await turn()
    const second = a.backplane.publish('1/a', frame('two', { messageId: 2 }))
    second.catch(() => {}) // looked at below
    await t.rejects(first)
    a.backplane.publishLocally('1/a', frame('three', { messageId: 3 }))
    await t.rejects(second)
    const texts = a.recorder.texts()
    t.strictSame([...new Set(texts)], ['one', 'two', 'three'])
  })

  t.test('events that were on their way back when the subscription was lost are delivered before later ones', async (t) => {
    const [a] = await startNodes(t)
    const admin = openAdmin(t)
    await a.backplane.subscribe('1/a')
    const topic = await topicOf(admin, a, '1/a')
    await a.subscriber.unsubscribe(topic)
    await a.backplane.publish('1/a', frame('one', { messageId: 1 }))
    await cutSubscriber(admin, a)
    await a.backplane.publish('1/a', frame('two', { messageId: 2 }))
    t.strictSame([...new Set(a.recorder.texts())], ['one', 'two'])
  })

  t.test('local delivery without Redis comes after the gap before it is reported; retries wait', async (t) => {
    const { proxy, url } = await proxied(t)
    const [a] = await startNodes(t, url)
    const admin = openAdmin(t)
    await a.backplane.subscribe('1/a')
    const topic = await topicOf(admin, a, '1/a')
    await a.subscriber.unsubscribe(topic)
    await a.backplane.publish('1/a', frame('one', { messageId: 1 }))
    await proxy.refuse()
    a.subscriber.disconnect(true)
    await a.recorder.untilText('one')
    const published = [frame('one once more', { messageId: 1, isRetry: true }), frame('two', { messageId: 2 })]
    for (const one of published) await a.backplane.publish('1/a', one)
    t.strictSame([...new Set(a.recorder.texts())], ['one', 'two'])
    t.notOk(a.recorder.frames.some(({ isRetry }) => isRetry))
    t.equal(a.recorder.emitted[0], 'missed')
    t.strictSame(a.recorder.missing, ['1/a'], 'once: what comes on and on must not hold the channel up')
  })

  t.test('the loss of a channel’s first message is noticed', async (t) => {
    const pass = holdBeats(t)
    const [a, b] = await startNodes(t)
    const admin = openAdmin(t)
    await a.backplane.subscribe('1/a')
    const topic = await topicOf(admin, a, '1/a')
    await a.subscriber.unsubscribe(topic)
    await b.backplane.publish('1/a', durable('lost'))
    pass(10_000)
    await a.recorder.until('missed', () => a.recorder.missing.length > 0)
    t.strictSame(a.recorder.missing, ['1/a'])
  })

  t.test('a dead subscription is noticed by its probe, and a lost last message by its number', async (t) => {
    const pass = holdBeats(t)
    const [a, b] = await startNodes(t)
    const admin = openAdmin(t)
    await a.backplane.subscribe('1/a')
    await b.backplane.publish('1/a', durable('first'))
    const before = performance.now()
    pass(1000)
    const after = performance.now()
    await a.recorder.until('its probe', () => a.recorder.receivedAt.length === 1)
    const [sentAt = 0] = a.recorder.receivedAt
    t.ok(sentAt >= before && sentAt <= after, 'with the time at which it was sent')

    const topics = await topicsOf(admin, a)
    const topic = topics.find((name) => name.includes('1/a')) ?? ''
    await a.subscriber.unsubscribe(topic)
    await b.backplane.publish('1/a', durable('lost'))
    await a.subscriber.subscribe(topic)
    pass(9000)
    await a.recorder.until('missed', () => a.recorder.missing.length > 0)
    t.strictSame(a.recorder.missing, ['1/a'], 'no later message showed the hole')

    await a.subscriber.unsubscribe(...topics.filter((name) => !name.includes('node-b')))
    t.ok(a.backplane.healthy, 'nothing shows yet')
    for (let i = 0; i < 3; i++) {
      pass(1000)
      await a.connections.commands.ping() // answered after the probe
      await turn()
    }
    t.notOk(a.backplane.healthy)
    pass(1000)
    await a.recorder.until('back', () => a.recorder.emitted.includes('back'))
    t.ok(a.backplane.healthy)
    await b.backplane.publish('1/a', durable('again'))
    await a.recorder.untilText('again')
    t.strictSame(a.recorder.texts(), ['first', 'again'])
  })
}

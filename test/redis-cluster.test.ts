import { setTimeout as sleep } from 'node:timers/promises'
import Fastify from 'fastify'
import { Cluster } from 'ioredis'
import t from 'tap'
import { Ids, type Id } from '../lib/ids.js'
import { RedisBackplane } from '../lib/backplane/redis.js'
import { systemClock } from '../lib/clock.js'
import { channelKey } from '../lib/keys.js'
import { connectRedis } from '../lib/redis/connect.js'
import { RedisRoster } from '../lib/roster/redis/roster.js'
import { frame, textOf } from './backplane/node.js'
import { until as holds } from './cluster/until.js'
import { startRedisCluster } from './redis-cluster.js'

const { log } = Fastify()

t.test('On a Redis Cluster of three masters', async (t) => {
  const redis = await startRedisCluster()
  const host = new Cluster(redis.nodes)
  host.on('error', () => {})
  t.teardown(async () => {
    host.disconnect()
    await redis.stop()
  })

  const startNode = async (nodeId: string) => {
    const connections = await connectRedis(host, 'test', log)
    const backplane = new RedisBackplane(nodeId, connections, { log })
    const roster = new RedisRoster(nodeId, connections, new Ids('integer'), systemClock, { nodeTimeout: 13_000, offlineDelay: 5000, registrationTtl: 75_000 }, log)
    const delivered: Array<{ key: string, text: string }> = []
    let wake: () => void = () => {}
    await roster.start()
    await backplane.start({
      onEvents: (key, frames) => {
        for (const one of frames) delivered.push({ key, text: textOf(one) })
        wake()
      },
      onGap: () => {},
      onProbe: () => {},
      onReconnected: () => {},
      onRequest: async (op, data) => ({ op, data })
    })
    t.teardown(async () => {
      await backplane.close()
      connections.close()
    })
    const until = async (count: number): Promise<void> => {
      while (delivered.length < count) await new Promise<void>((resolve) => { wake = resolve })
    }
    return { backplane, roster, delivered, until, health: connections.health }
  }
  const a = await startNode('node-a')
  const b = await startNode('node-b')
  // Enough channels that every shard carries some.
  const keys = Array.from({ length: 30 }, (_, i) => channelKey(7, `group.${i}`))

  t.test('frames of every shard reach the other node, in order, through sharded topics', async (t) => {
    await Promise.all(keys.map(async (key) => { await b.backplane.subscribe(key) }))
    await Promise.all(keys.flatMap((key) => [1, 2, 3].map(async (n) => { await a.backplane.publish(key, frame(`${n}`)) })))
    await b.until(keys.length * 3)
    for (const key of keys) {
      t.strictSame(b.delivered.filter((one) => one.key === key).map(({ text }) => text), ['1', '2', '3'])
    }
    t.equal(await host.spublish('test:0:channel:{7/group.1}', ''), 1, 'one sharded subscriber: node b')
  })

  t.test('a node responds to the calls of another one', async (t) => {
    t.strictSame(await a.backplane.call('node-b', 'hello', { n: 1 }), { op: 'hello', data: { n: 1 } })
  })

  t.test('the roster decides the edges of tenants on every shard', async (t) => {
    for (const tenantId of [1, 2, 3, 4, 5]) {
      const entry = { tenantId, userId: 9, connectionId: `c${tenantId}`, nodeId: 'node-a', device: 'web' as const, connectedAt: 1 }
      t.equal((await a.roster.join(entry, 20)).isFirstOfUser, true)
      t.equal((await b.roster.join({ ...entry, connectionId: `d${tenantId}`, nodeId: 'node-b' }, 20)).isFirstOfUser, false)
      t.match(await b.roster.counts(tenantId), { total: 2, active: 2, users: 1 })
    }
  })

  t.test('the roster keeps tenants with string ids apart, each on one shard', async (t) => {
    const [mine, theirs] = await Promise.all(['node-c', 'node-d'].map(async (nodeId) => {
      const connections = await connectRedis(host, 'strings', log)
      t.teardown(() => { connections.close() })
      const roster = new RedisRoster(nodeId, connections, new Ids('string'), systemClock, { nodeTimeout: 13_000, offlineDelay: 5000, registrationTtl: 75_000 }, log)
      await roster.start()
      return roster
    })) as [RedisRoster, RedisRoster]
    for (const tenant of ['acme', 'Acme', 'auth0|x', 'a=b+c', 'due', 'nodes', '007', '7']) {
      const tenantId = tenant as unknown as Id
      const entry = { tenantId, userId: 'Zoe' as unknown as Id, connectionId: 'c', nodeId: 'node-c', device: 'web' as const, connectedAt: 1 }
      t.equal((await mine.join(entry, 20)).isFirstOfUser, true, tenant)
      t.equal((await theirs.join({ ...entry, connectionId: 'd', nodeId: 'node-d' }, 20)).isFirstOfUser, false, tenant)
      t.equal((await theirs.join({ ...entry, userId: 'ann' as unknown as Id, connectionId: 'e', nodeId: 'node-d' }, 20)).isFirstOfUser, true, tenant)
      t.match(await theirs.counts(tenantId), { total: 3, active: 3, users: 2 })
      t.match(await mine.online(tenantId, { limit: 9, after: '' as unknown as Id }), { users: [{ userId: 'Zoe' }, { userId: 'ann' }], total: 2, next: null })
    }
    t.strictSame(await mine.renew(), { arrived: [], displaced: [] })
  })

  const faults: Array<{ name: string, begin: () => void, end: () => void, lasts: number }> = [
    { name: 'vanishes without a word, and new connections to it work', begin: () => { redis.proxies[1]?.swallow() }, end: () => {}, lasts: 0 },
    {
      name: 'vanishes without a word for 5 s, for new connections too',
      begin: () => { redis.proxies[2]?.swallow({ swallowNew: true }) },
      end: () => { redis.proxies[2]?.unswallow() },
      lasts: 5000
    },
    { name: 'hangs for 5 s', begin: () => { redis.servers[0]?.pause() }, end: () => { redis.servers[0]?.resume() }, lasts: 5000 }
  ]
  for (const { name, begin, end, lasts } of faults) {
    t.test(`one of its servers ${name}: it is noticed, and all channels and tenants are well again within 10 s`, async (t) => {
      await holds('all is well', 10_000, async () => a.health.ok && b.health.ok && a.backplane.healthy && b.backplane.healthy)
      const began = Date.now()
      begin()
      for (const node of [a, b]) await holds('noticed', 6000, () => !node.health.ok)
      const noticed = Date.now() - began
      await sleep(lasts)
      end()
      const ended = Date.now()
      for (const node of [a, b]) await holds('healthy again', 10_000, () => node.health.ok && node.backplane.healthy)
      t.comment(`${name}: noticed after ${noticed} ms, healthy again after ${Date.now() - ended} ms`)
      for (const key of keys) {
        await holds(`${key} is received again`, 10_000 - (Date.now() - ended), async () => {
          const text = `${name} ${key} ${Math.random()}`
          await a.backplane.publish(key, frame(text)).catch(() => {})
          await sleep(20)
          return b.delivered.some((one) => one.key === key && one.text === text)
        })
      }
      for (const tenantId of [1, 2, 3, 4, 5]) t.match(await b.roster.counts(tenantId), { total: 2, active: 2, users: 1 })
    })
  }
})

import { Redis } from 'ioredis'
import t from 'tap'
import { SENTINEL_NAME, startRedis, startSentinel } from './redis-servers.js'
import { until } from './cluster/until.js'

t.test('a Redis of the tests', async (t) => {
  await t.test('comes back with its last snapshot, and empty when asked to', async (t) => {
    const redis = await startRedis()
    t.teardown(async () => { await redis.kill() })
    await redis.command('SET', 'kept', 'yes')
    await redis.snapshot()
    await redis.command('SET', 'kept', 'newer')
    await redis.restart()
    t.equal(await redis.command('GET', 'kept'), 'yes')
    await redis.restart({ empty: true })
    t.equal(await redis.command('GET', 'kept'), null)
  })

  await t.test('as a replica follows its master and refuses writes, until it is promoted; the master can be demoted', async (t) => {
    const master = await startRedis()
    t.teardown(async () => { await master.kill() })
    await master.command('SET', 'key', 'value')
    const replica = await startRedis({ replicaOf: master })
    t.teardown(async () => { await replica.kill() })
    t.equal(await replica.command('GET', 'key'), 'value')
    await t.rejects(replica.command('SET', 'key', 'other'), { message: /READONLY/ })
    await replica.promote()
    await replica.command('SET', 'key', 'other')
    await master.demote(replica)
    t.equal(await master.command('GET', 'key'), 'other')
    await t.rejects(master.command('SET', 'key', 'value'), { message: /READONLY/ })
  })

  await t.test('with little memory refuses writes once it is full', async (t) => {
    const redis = await startRedis({ maxmemory: '3mb' })
    t.teardown(async () => { await redis.kill() })
    await t.rejects((async () => {
      for (let i = 0; i < 100; i++) await redis.command('SET', `filler:${i}`, 'x'.repeat(100_000))
    })(), { message: /OOM/ })
  })

  await t.test('is found by its sentinel, and after it was killed its replica instead', async (t) => {
    const master = await startRedis()
    t.teardown(async () => { await master.kill() })
    const replica = await startRedis({ replicaOf: master })
    t.teardown(async () => { await replica.kill() })
    const sentinel = await startSentinel({ master })
    t.teardown(async () => { await sentinel.kill() })
    const client = new Redis({ sentinels: [{ host: '127.0.0.1', port: sentinel.port }], name: SENTINEL_NAME, maxRetriesPerRequest: null })
    client.on('error', () => {})
    t.teardown(() => { client.disconnect() })
    await client.set('key', 'value')
    await client.wait(1, 5000)
    await master.kill()
    await until('the replica is master', 30_000, async () => await sentinel.masterPort() === replica.port)
    t.equal(await client.get('key'), 'value')
  })
})

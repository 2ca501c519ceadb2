import { setTimeout as sleep } from 'node:timers/promises'
import { Redis, type RedisOptions } from 'ioredis'
import t, { type Test } from 'tap'
import { connectRedis, type RedisConnections } from '../lib/redis/connect.js'
import { startProxy } from './cluster/proxy.js'
import { until } from './cluster/until.js'
import { SENTINEL_NAME, startRedis, startSentinel, type RedisServer } from './redis-servers.js'
import { freshPrefix, log } from './suites.js'

async function start (t: Test, options?: Parameters<typeof startRedis>[0]): Promise<RedisServer> {
  const server = await startRedis(options)
  t.teardown(async () => { await server.kill() })
  return server
}

async function connect (t: Test, redis: unknown): Promise<RedisConnections> {
  const connections = await connectRedis(redis, freshPrefix(), log)
  t.teardown(() => { connections.close() })
  return connections
}

/** An instance of the host's own. */
function instance (t: Test, options: RedisOptions): Redis {
  const redis = new Redis({ lazyConnect: true, ...options })
  redis.on('error', () => {})
  t.teardown(() => { redis.disconnect() })
  return redis
}

const healthy = async ({ health }: RedisConnections, within = 10_000): Promise<void> => { await until('healthy', within, () => health.ok) }

const connectionsTo = async (server: RedisServer): Promise<number> =>
  Number(/total_connections_received:(\d+)/.exec(await server.command('INFO', 'stats') as string)?.[1])

t.test('A host that starts', async (t) => {
  t.test('a Redis that refuses, that never answers, or that is read-only is an option error within seconds', async (t) => {
    const master = await start(t)
    const replica = await start(t, { replicaOf: master })
    const proxy = await startProxy(master.port)
    t.teardown(async () => { await proxy.close() })
    proxy.swallow({ swallowNew: true })
    for (const [url, message] of [
      ['redis://127.0.0.1:1', /option "redis" cannot be used: .*ECONNREFUSED/],
      [`redis://127.0.0.1:${proxy.port}`, /option "redis" cannot be used: /],
      [replica.url, /option "redis" cannot be used: READONLY/]
    ] as const) {
      const began = Date.now()
      await t.rejects(connectRedis(url, freshPrefix(), log), { message })
      t.ok(Date.now() - began < 9000, url)
    }
  })

  t.test('while Redis loads its data waits for it', async (t) => {
    const redis = await start(t, { args: ['--key-load-delay', '1000', '--loading-process-events-interval-bytes', '1024'] })
    await redis.command('EVAL', "for i = 1, 1500 do redis.call('SET', 'filler:' .. i, string.rep('x', 1000)) end", 0)
    await redis.snapshot()
    const loaded = redis.restart()
    await until('it loads', 5000, async () => /loading:1/.test(await redis.command('INFO', 'persistence') as string))
    const connections = await connect(t, redis.url)
    t.ok(connections.health.ok)
    await loaded
  })
})

t.test('However the host has configured its own instance, our connections return after Redis was away', async (t) => {
  const redis = await start(t)
  const { port } = redis
  const all: RedisConnections[] = []
  for (const options of [
    {}, { db: 3 },
    { retryStrategy: () => null, maxRetriesPerRequest: null, enableReadyCheck: false, enableOfflineQueue: false },
    { keyPrefix: 'host:', stringNumbers: true, enableAutoPipelining: true, commandTimeout: 1, socketTimeout: 1, reconnectOnError: () => 2 as const }
  ] satisfies RedisOptions[]) all.push(await connect(t, instance(t, { port, ...options })))
  for (const { commands, prefix, health } of all) {
    t.ok(health.ok)
    t.match(prefix, /:[03]:$/)
    t.equal(await commands.exists(`${prefix}probe`), 1)
  }
  await redis.kill()
  for (const { health } of all) await until('it is noticed', 6000, () => !health.ok)
  await redis.restart()
  for (const connections of all) await healthy(connections)
  for (const { commands, subscriber } of all) {
    t.equal(await (commands as Redis).incr('a number'), 1, 'numbers are numbers')
    await commands.del('a number')
    await until('both are back', 5000, () => subscriber?.status === 'ready')
  }
})

t.test('A handshake that is never answered is given up, on both connections', async (t) => {
  const redis = await start(t, { args: ['--requirepass', 'secret'] })
  const proxy = await startProxy(redis.port)
  t.teardown(async () => { await proxy.close() })
  const { commands, subscriber, health } = await connect(t, `redis://:secret@127.0.0.1:${proxy.port}`)
  // What a client asks first goes nowhere: the connection stands, and nobody is there.
  let lost = 0
  proxy.inspect = (bytes, link) => {
    if (!/\r\n(auth|info)\r\n/i.test(bytes.toString('latin1'))) return true
    lost++
    link.swallow()
    return false
  }
  for (const one of [commands as Redis, subscriber as Redis]) one.stream.destroy()
  await until('it is noticed', 6000, () => !health.ok)
  await until('each has tried twice', 15_000, () => lost >= 4)
  proxy.inspect = () => true
  await until('both are back', 10_000, () => health.ok && commands.status === 'ready' && subscriber?.status === 'ready')
  t.ok(lost < 12, `${lost} handshakes, not one after the other without a pause`)
})

t.test('While the server stays read-only there is no busy loop of connects, and the first writable one is found', async (t) => {
  const redis = await start(t)
  const other = await start(t)
  const { health } = await connect(t, redis.url)
  const before = await connectionsTo(redis)
  await redis.demote(other)
  await until('it is noticed', 6000, () => health.reason === 'READONLY')
  await sleep(4000)
  const tried = await connectionsTo(redis) - before
  t.ok(tried >= 2 && tried < 40, `${tried} connections`)
  t.notOk(health.ok)
  await redis.promote()
  await until('healthy', 5000, () => health.ok)
})

t.test('A sentinel that hangs is passed over', async (t) => {
  const master = await start(t)
  const replica = await start(t, { replicaOf: master })
  const sentinels = await Promise.all([1, 2].map(async () => await startSentinel({ master })))
  t.teardown(async () => { for (const sentinel of sentinels) await sentinel.kill() })
  const hosts = sentinels.map(({ port }) => ({ host: '127.0.0.1', port }))
  const connections = await connect(t, instance(t, { sentinels: hosts, name: SENTINEL_NAME, sentinelRetryStrategy: () => null }))
  const [, second] = sentinels
  sentinels[0]?.pause()
  t.teardown(() => { sentinels[0]?.resume() })
  // Alone it has no majority for a failover: the test informs it of one.
  await second?.command('REMOVE', SENTINEL_NAME)
  await second?.command('MONITOR', SENTINEL_NAME, '127.0.0.1', String(replica.port), '1')
  await replica.promote()
  await master.kill()
  await until('it is noticed', 6000, () => !connections.health.ok)
  await healthy(connections)
  t.equal((connections.commands as Redis).stream.remotePort, replica.port)
})

t.test('While no sentinel can be reached all are asked again and again', async (t) => {
  const master = await start(t)
  const sentinel = await startSentinel({ master, replicas: 0 })
  t.teardown(async () => { await sentinel.kill() })
  const connections = await connect(t, instance(t, {
    sentinels: [{ host: '127.0.0.1', port: sentinel.port }], name: SENTINEL_NAME, sentinelRetryStrategy: () => null
  }))
  await Promise.all([sentinel.stop(), master.stop()])
  await until('it is noticed', 6000, () => !connections.health.ok)
  await sleep(2000)
  await Promise.all([sentinel.restart(), master.restart()])
  await healthy(connections)
  t.pass()
})

t.test('Nothing is an alarm', async (t) => {
  const redis = await start(t)
  const { commands, subscriber, health, close } = await connect(t, redis.url)
  let changes = 0
  health.onChange(() => { changes++ })
  const streams = [(commands as Redis).stream, subscriber?.stream]
  const unchanged = (): void => {
    t.equal(changes, 0)
    t.strictSame([(commands as Redis).stream === streams[0], subscriber?.stream === streams[1]], [true, true], 'the connections are the same')
  }

  await t.test('that this process itself was busy for 4 s', async () => {
    const ended = Date.now() + 4000
    while (Date.now() < ended);
    await sleep(3000)
    unchanged()
  })

  await t.test('that Redis forgot all scripts', async () => {
    await redis.command('SCRIPT', 'FLUSH')
    await sleep(2500)
    unchanged()
  })

  await t.test('that Redis hung for a second', async () => {
    redis.pause()
    await sleep(1000)
    redis.resume()
    await sleep(2500)
    unchanged()
  })

  await t.test('that it is closed', async () => {
    close()
    await sleep(1000)
    t.equal(changes, 0)
    t.ok(health.ok)
  })
})

import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { Client, rest } from './client.js'
import { clusterFor } from './cluster.js'
import { GROUP, type Load, startLoad } from './load.js'
import { suffer } from './faults.js'
import { until } from './until.js'

/** Long enough that a node that tries again without a pause would do so thousands of times. */
const LASTS = 4000

t.test('Redis answers, and refuses', async (t) => {
  // It loads each key with a delay: 2000 of them are more than three seconds.
  const { cluster, nodes } = await clusterFor(t, [{}, {}], {
    redis: { args: ['--key-load-delay', '1600', '--loading-process-events-interval-bytes', '1024'] }
  })
  const [a] = nodes
  const { redis } = cluster
  let clubId = 0
  /** Each in a tenant of its own. */
  const nextLoad = async (t: Test): Promise<Load> => await startLoad(t, nodes, { clubId: ++clubId, count: 10, pause: 100 })
  const linesOf = (text: string): number => nodes.reduce((sum, node) => sum + node.output().split(text).length - 1, 0)
  const connectionsSoFar = async (): Promise<number> =>
    Number(/total_connections_received:(\d+)/.exec(await redis.command('INFO', 'stats') as string)?.[1])

  await t.test('writes, because its memory is full: users of one node still reach each other, and all events are published afterwards', async (t) => {
    const load = await nextLoad(t)
    const [sender, receiver] = await Promise.all([Client.connect(a, { userId: 1, clubId: 99 }), Client.connect(a, { userId: 2, clubId: 99 })])
    await receiver.request('subscribe', { channel: GROUP })
    const connections = await connectionsSoFar()
    await suffer(t, {
      name: 'Redis, memory full',
      cluster,
      nodes,
      load,
      begin: async () => { await redis.command('CONFIG', 'SET', 'maxmemory', '1mb') },
      meanwhile: async () => {
        const { messageId } = await sender.request('message:group', { conversationId: 'x', channel: GROUP, message: 'hello' })
        await receiver.next('message:group', 1000, (data) => data.messageId === messageId)
        const late = await Client.connect(a, { userId: 3, clubId: 99 })
        await late.request('subscribe', { channel: GROUP })
        await sleep(LASTS)
        t.notOk(sender.isClosed || receiver.isClosed || late.isClosed)
      },
      end: async () => { await redis.command('CONFIG', 'SET', 'maxmemory', '0') }
    })
    t.ok(await connectionsSoFar() - connections < 10, 'a new connection would not help, and none is made')
    t.equal(linesOf('"reason":"OOM"'), 2, 'one line in the log of each node')
    await until('who came meanwhile is listed', 15_000, async () => (await rest(nodes[1], { userId: 1, clubId: 99 }, '/online-users')).total === 3)
  })

  await t.test('everything, because a script runs on and on', async (t) => {
    const load = await nextLoad(t)
    await redis.command('CONFIG', 'SET', 'busy-reply-threshold', 200)
    await suffer(t, {
      name: 'Redis, busy script',
      cluster,
      nodes,
      load,
      begin: () => { redis.command('EVAL', 'while true do end', 0).catch(() => {}) },
      meanwhile: async () => { await sleep(LASTS) },
      end: async () => { await redis.command('SCRIPT', 'KILL') }
    })
  })

  await t.test('the Redis user loses one right, and gets it back', async (t) => {
    const load = await nextLoad(t)
    await suffer(t, {
      name: 'Redis, a right is missing',
      cluster,
      nodes,
      load,
      begin: async () => { await redis.command('ACL', 'SETUSER', 'default', '-set') },
      meanwhile: async () => { await sleep(LASTS) },
      end: async () => { await redis.command('ACL', 'SETUSER', 'default', '+set') }
    })
  })

  await t.test('new subscriptions, and takes them again', async (t) => {
    const load = await nextLoad(t)
    await suffer(t, {
      name: 'Redis, subscriptions refused',
      cluster,
      nodes,
      load,
      begin: async () => {
        await redis.command('ACL', 'SETUSER', 'default', '-subscribe')
        await redis.command('CLIENT', 'KILL', 'TYPE', 'pubsub')
      },
      meanwhile: async () => { await sleep(LASTS) },
      end: async () => { await redis.command('ACL', 'SETUSER', 'default', '+subscribe') }
    })
    t.equal(linesOf('Backplane cannot subscribe to Redis, retrying'), 2, 'one line in the log of each node')
  })

  await t.test('all new connections, because it has too many', async (t) => {
    const load = await nextLoad(t)
    const connections = await connectionsSoFar()
    // One connection for all of it: another one would be refused too.
    await suffer(t, {
      name: 'Redis, too many clients',
      cluster,
      nodes,
      load,
      begin: async () => {
        await cluster.keys.config('SET', 'maxclients', '1')
        await cluster.keys.client('KILL', 'TYPE', 'normal', 'SKIPME', 'yes')
        await cluster.keys.client('KILL', 'TYPE', 'pubsub')
      },
      meanwhile: async () => { await sleep(LASTS) },
      end: async () => { await cluster.keys.config('SET', 'maxclients', '1000') }
    })
    t.ok(await connectionsSoFar() - connections < 100, `${await connectionsSoFar() - connections} connections were tried`)
  })

  await t.test('everything while it loads its data', async (t) => {
    await redis.command('EVAL', "for i = 1, 2000 do redis.call('SET', 'filler:' .. i, string.rep('x', 1000)) end", 0)
    await redis.snapshot()
    const load = await nextLoad(t)
    let loaded: Promise<void> | null = null
    await suffer(t, {
      name: 'Redis, loading',
      cluster,
      nodes,
      load,
      begin: () => { loaded = redis.restart() },
      meanwhile: async () => { await until('it loads', 5000, async () => /loading:1/.test(await redis.command('INFO', 'persistence') as string)) },
      end: async () => { await loaded }
    })
  })
})

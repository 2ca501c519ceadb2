import t, { type Test } from 'tap'
import { Client, rest } from './client.js'
import { clusterFor } from './cluster.js'
import { suffer } from './faults.js'
import { type Load, startLoad } from './load.js'
import { until } from './until.js'

/** Users of a load of ten senders and ten receivers. */
const LOAD_USERS = 20

t.test('Redis has lost data of the nodes', async (t) => {
  const { cluster, nodes } = await clusterFor(t, [{}, {}])
  const { redis } = cluster
  let clubId = 0
  /** Each in a tenant of its own. */
  const nextLoad = async (t: Test): Promise<Load> => await startLoad(t, nodes, { clubId: ++clubId, count: 10, pause: 100 })
  const listed = async (): Promise<number[]> => await Promise.all(nodes.map(async (node) =>
    (await rest(node, { userId: 1, clubId }, '/online-users').catch(() => ({ total: -1 }))).total as number))

  await t.test('it starts from a snapshot of some seconds ago: who came since is online, and who left since is not', async (t) => {
    const load = await nextLoad(t)
    const leaving = await Promise.all([5001, 5002, 5003].map(async (userId) => await Client.connect(nodes[0], { userId, clubId })))
    await until('all are listed', 10_000, async () => (await listed()).every((total) => total === LOAD_USERS + leaving.length))
    await redis.snapshot()
    for (const client of leaving) client.terminate()
    await Promise.all([6001, 6002].map(async (userId) => await Client.connect(nodes[1], { userId, clubId })))
    await until('the list is right', 15_000, async () => (await listed()).every((total) => total === LOAD_USERS + 2))
    await suffer(t, {
      name: 'Redis, restarted from an old snapshot',
      cluster,
      nodes,
      load,
      begin: async () => { await redis.kill() },
      end: async () => { await redis.restart() }
    })
    await until('the list is right', 30_000, async () => (await listed()).every((total) => total === LOAD_USERS + 2))
  })

  await t.test('it evicts keys, because a neighbour fills its memory', async (t) => {
    const load = await nextLoad(t)
    await until('the list is right', 10_000, async () => (await listed()).every((total) => total === LOAD_USERS))
    const keysOfTenant = async (): Promise<number> => (await cluster.keys.keys(`${cluster.prefix}{${clubId}}:*`)).length
    const before = await keysOfTenant()
    let fewest = before
    await suffer(t, {
      name: 'Redis, keys evicted',
      cluster,
      nodes,
      load,
      silent: true,
      begin: async () => {
        await redis.command('CONFIG', 'SET', 'maxmemory-policy', 'allkeys-random')
        await redis.command('CONFIG', 'SET', 'maxmemory', '4mb')
        // Until the tenant's keys were among those that went.
        for (let i = 0; fewest >= before && i < 400; i++) {
          await redis.command('EVAL', "for i = 1, 200 do redis.call('SET', 'neighbour:' .. ARGV[1] .. ':' .. i, string.rep('x', 1000)) end", 0, i)
          fewest = Math.min(fewest, await keysOfTenant())
        }
      },
      end: async () => {
        await redis.command('CONFIG', 'SET', 'maxmemory', '0')
        await redis.command('CONFIG', 'SET', 'maxmemory-policy', 'noeviction')
      },
      healed: async () => { await until('the list is right', 30_000, async () => (await listed()).every((total) => total === LOAD_USERS)) }
    })
    t.ok(fewest < before, `${fewest} of the tenant's ${before} keys were left`)
  })
})

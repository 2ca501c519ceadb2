import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { startRedis } from '../redis-servers.js'
import { rest } from './client.js'
import { clusterFor } from './cluster.js'
import { startLoad } from './load.js'
import { suffer } from './faults.js'
import { until } from './until.js'

t.test('Redis becomes a read-only replica, and 5 s later its name points to the writable one', async (t) => {
  const { cluster, nodes } = await clusterFor(t, [{ proxied: 'redis' }, { proxied: 'redis' }])
  const other = await startRedis({ replicaOf: cluster.redis })
  t.teardown(async () => { await other.kill() })

  for (const [i, { name, connected }] of [
    { name: 'the old one follows the new one', connected: true },
    { name: 'the old one follows a third one that nobody uses', connected: false }
  ].entries()) {
    await t.test(`${name}: nodes say that they cannot work meanwhile, and heal by themselves`, async (t) => {
      const clubId = i + 1
      const load = await startLoad(t, nodes, { clubId, count: 10, pause: 100 })
      const [from, to] = i === 0 ? [cluster.redis, other] : [other, cluster.redis]
      const third = await startRedis()
      t.teardown(async () => { await third.kill() })
      await suffer(t, {
        name: `Redis, demoted, ${name}`,
        cluster,
        nodes,
        load,
        begin: async () => {
          await to.promote()
          await from.demote(connected ? to : third)
        },
        meanwhile: async () => {
          await sleep(5000)
          await t.rejects(rest(nodes[0], { userId: 1, clubId }, '/presence/update', { status: 'busy', device: 'web' }).then(async () =>
            await rest(nodes[0], { userId: 1, clubId }, '/connect', { connection_id: 'by-rest' })), { code: 'RT_STORAGE_UNAVAILABLE' })
        },
        end: () => { for (const node of nodes) node.proxy().pointTo(to.port) }
      })
      for (const node of nodes) {
        await until('the list is right', 15_000, async () => (await rest(node, { userId: 1, clubId }, '/online-users')).total === 20)
      }
      t.strictSame(await Promise.all([from, to].map(async (server) => (await server.command('CLIENT', 'LIST') as string)
        // A replica lists the link to its master, too: what is published there goes over it.
        .split('\n').filter((line) => !/ flags=M /.test(line) && /cmd=(eval|evalsha|subscribe|ping|publish) /.test(line)).length)), [0, 4],
      'all connections are on the new one')
    })
  }
})

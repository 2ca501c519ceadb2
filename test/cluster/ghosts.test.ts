import t from 'tap'
import { Client, rest } from './client.js'
import { clusterFor } from './cluster.js'
import { until } from './until.js'

const USERS = 30
const watcherIds = [901, 902]
const ids = Array.from({ length: USERS }, (_, i) => 1 + i)
const stats = { total_connections: 2, active_connections: 2, unique_users: 2 }

t.test('kill -9 of a node with 30 users', async (t) => {
  const { cluster, nodes: [a, b] } = await clusterFor(t, [{}, {}])
  const watchers = await Promise.all(watcherIds.map(async (userId) => await Client.connect(b, { userId })))
  const [watcher] = watchers as [Client]
  // Two tabs for some: entries of one user must not be told twice.
  await Promise.all([...ids, ...ids.slice(0, 5)].map(async (userId) => await Client.connect(a, { userId })))
  await until('all are online', 5000, async () => (await rest(b, watcher.who, '/online-users')).total === USERS + 2)

  await a.kill()
  const killedAt = Date.now()
  // The same name and port, started at once: another node, that has nothing of the old one.
  const again = await cluster.start({ env: { SOCKET_PORT: String(a.port) } })
  t.equal(again.port, a.port)

  await t.test('each user:offline is sent exactly once on the other node, within 21 s', async (t) => {
    for (const userId of ids) await watcher.next('user:offline', 30_000, (data) => data.userId === userId)
    const times = watcher.all('user:offline').map(({ at }) => at - killedAt)
    t.comment(`first after ${Math.min(...times)} ms, last after ${Math.max(...times)} ms`)
    t.ok(Math.max(...times) < 21_000, `the last one after ${Math.max(...times)} ms`)
  })

  await t.test('after kill -9 no user of the node stays in the lists and figures of any node', async (t) => {
    for (const node of [b, again]) {
      const { data, total } = await rest(node, watcher.who, '/online-users')
      t.strictSame((data as Array<{ user_id: number }>).map((user) => user.user_id), watcherIds)
      t.equal(total, 2)
      t.match((await rest(node, watcher.who, '/presence?user_ids=1,30')).data, [{ status: 'offline' }, { status: 'offline' }])
    }
  })

  await t.test('after a crash the figures are those of the remaining connections', async (t) => {
    for (const node of [b, again]) t.match((await rest(node, watcher.who, '/stats')).data, stats)
  })

  await t.test('a restarted node with the same name brings back no user of its former process', async (t) => {
    const [first = 0] = ids
    const back = await Client.connect(again, { userId: first })
    await watcher.next('user:online', 5000, (data) => data.userId === first && Date.parse(data.timestamp as string) > killedAt)
    t.equal((await rest(b, watcher.who, '/online-users')).total, 3)
    t.match((await rest(b, watcher.who, '/stats')).data, { ...stats, total_connections: 3, active_connections: 3, unique_users: 3 })

    await back.close()
    await until('the one who came back is reported offline to both, after the grace', 8000, () => watchers.every((one) =>
      one.all('user:offline').filter(({ data }) => data.userId === first).length === 2))
    // More than a grace later: what was delivered twice would have come by now.
    for (const { frames } of watchers) {
      const emitted = frames.filter(({ event }) => event === 'user:offline').map(({ data }) => data.userId as number).sort((x, y) => x - y)
      t.strictSame(emitted, [first, ...ids])
    }
  })
})

import t from 'tap'
import { Client, rest } from './client.js'
import { bootIdOf, clusterFor, type Node } from './cluster.js'
import { until } from './until.js'

const TENANTS = 120
const clubs = Array.from({ length: TENANTS }, (_, i) => 1 + i)

t.test('a cleanup that was interrupted by a crash is completed by the next node', async (t) => {
  const { cluster, nodes } = await clusterFor(t, [{}, {}, {}])
  const [dead, ...others] = nodes
  const [deadId = '', ...otherIds] = await Promise.all(nodes.map(async (node, i) =>
    await bootIdOf(cluster, (await Client.connect(node, { userId: 1, clubId: 1001 + i })).who)))
  await Promise.all(clubs.map(async (clubId) => { await Client.connect(dead, { userId: 7, clubId }) }))
  const listeners = await Promise.all(others.map(async (node) =>
    await Promise.all(clubs.map(async (clubId) => await Client.connect(node, { userId: 8, clubId })))))
  await dead.kill()

  // Tenants in which it holds nothing any more: they are cleaned up many at a time, and one batch alone is over at once.
  await cluster.keys.sadd(`${cluster.prefix}tenants:${deadId}`, ...Array.from({ length: 10_000 }, (_, i) => 100_000 + i))
  // Its lease is ended by hand: what is looked at is what comes after. Whoever holds the lock dies in the middle of it.
  const { keys } = cluster
  await until('a living node looks after the dead', 10_000, async () => otherIds.includes(await keys.get(`${cluster.prefix}lock:reaper`) ?? ''))
  const reaper = otherIds.indexOf(await keys.get(`${cluster.prefix}lock:reaper`) ?? '')
  await keys.zadd(`${cluster.prefix}nodes`, 1, deadId)
  const left = await until('some tenants are cleaned up', 5000, async () => {
    const count = await keys.scard(`${cluster.prefix}tenants:${deadId}`)
    return count < 10_000 && count
  })
  process.kill((others[reaper] as Node).pid, 'SIGKILL')
  const killedAt = Date.now()
  const atDeath = await keys.scard(`${cluster.prefix}tenants:${deadId}`)
  t.comment(`${left} tenants were left, ${atDeath} when the reaper was killed`)
  t.ok(atDeath > 0, 'it died half way')

  const survivor = others[1 - reaper] as Node
  const listening = listeners[1 - reaper] as Client[]
  await t.test('every user of the dead node is reported offline, each once', async (t) => {
    await until('all are reported', 21_000, () =>
      listening.every((client) => client.all('user:offline').some(({ data }) => data.userId === 7)))
    t.comment(`after ${Date.now() - killedAt} ms`)
    t.ok(Date.now() - killedAt < 21_000)
    t.strictSame(listening.filter((client) => client.all('user:offline').filter(({ data }) => data.userId === 7).length !== 1).length, 0)
  })

  await t.test('and is in no list and no figure', async (t) => {
    for (const clubId of [1, 2, TENANTS / 2, TENANTS]) {
      const who = { userId: 8, clubId }
      t.match(await rest(survivor, who, '/online-users'), { total: 1, data: [{ user_id: 8 }] })
      t.match((await rest(survivor, who, '/presence/7')).data, { status: 'offline' })
    }
    await until('nothing of the two dead nodes is left', 21_000, async () =>
      (await keys.keys(`${cluster.prefix}tenants:*`)).length === 1 && (await keys.zcard(`${cluster.prefix}nodes`)) === 1 &&
      (await keys.keys(`${cluster.prefix}*node:${deadId}`)).length === 0)
    t.match((await rest(survivor, { userId: 8, clubId: 1 }, '/stats')).data, { total_connections: 1, unique_users: 1 })
  })
})

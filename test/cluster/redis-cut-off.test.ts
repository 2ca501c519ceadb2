import t from 'tap'
import { Client, rest, type Who } from './client.js'
import { clusterFor, healthOf, type Node } from './cluster.js'
import { until } from './until.js'

const who = (userId: number): Who => ({ userId })
const usersOn = async (node: Node): Promise<number[]> =>
  ((await rest(node, who(9), '/online-users')).data as Array<{ user_id: number }>).map((user) => user.user_id)

t.test('One node alone cannot reach Redis, until it counts as dead', async (t) => {
  const { cluster, nodes } = await clusterFor(t, [{}, { proxied: 'redis' }])
  const [a, b] = nodes
  const watcher = await Client.connect(a, who(1))
  const cutOff = await Client.connect(b, who(2))
  await watcher.next('user:online', 2000, (data) => data.userId === 2)
  const nodeIds = await cluster.keys.zrange('rt:0:nodes', 0, -1)

  await b.proxy().refuse()
  b.proxy().cut()
  await until('it notices', 3000, async () => await healthOf(b) === 503)
  // Its lease is ended by hand, and the other's goes on.
  for (const id of nodeIds) await cluster.keys.zadd('rt:0:nodes', 1, id)
  await watcher.next('user:offline', 15_000, (data) => data.userId === 2)
  t.strictSame(await usersOn(a), [1])

  await b.proxy().accept()
  const backAt = Date.now()
  await t.test('back again, its users are online again, and are told so', async (t) => {
    await until('the lists are right', 15_000, async () => [await usersOn(a), await usersOn(b)].every((users) => users.join() === '1,2'))
    t.comment(`right after ${Date.now() - backAt} ms`)
    await until('the other node is told', 2000, () => watcher.all('user:online').filter(({ data }) => data.userId === 2).length === 2)
    t.equal(cutOff.isClosed, false, 'its socket stayed')
    const { messageId } = await watcher.request('message:direct', { recipientId: 2, message: 'hello again', conversationId: 'x' })
    await cutOff.next('message:direct', 2000, (data) => data.messageId === messageId)
  })
})

import t from 'tap'
import { Client, rest, type Who } from './client.js'
import { bootIdOf, clusterFor, healthOf, type Node } from './cluster.js'
import { until } from './until.js'

/** What makes a node seem dead, and what brings it back. */
const absences = [
  {
    name: 'that alone could not reach Redis',
    clubId: 1,
    begin: async (node: Node) => {
      await node.proxy().refuse()
      node.proxy().cut()
      await until('it notices', 3000, async () => await healthOf(node) === 503)
    },
    end: async (node: Node) => { await node.proxy().accept() }
  },
  {
    name: 'that was frozen',
    clubId: 2,
    begin: async (node: Node) => { node.pause() },
    end: async (node: Node) => { node.resume() }
  }
]

t.test('A node that counted as dead and comes back', async (t) => {
  const { cluster, nodes: [a, b] } = await clusterFor(t, [{}, { proxied: 'redis' }])
  for (const { name, clubId, begin, end } of absences) {
    await t.test(`${name}: its users are reported offline once, and online again once, and hear again`, async (t) => {
      const who = (userId: number): Who => ({ userId, clubId })
      const usersOn = async (node: Node): Promise<string> =>
        ((await rest(node, who(9), '/online-users')).data as Array<{ user_id: number }>).map((user) => user.user_id).join()
      const watcher = await Client.connect(a, who(1))
      const absent = await Client.connect(b, who(2))
      const emitted = (event: string): number => watcher.all(event).filter(({ data }) => data.userId === 2).length
      await watcher.next('user:online', 2000, (data) => data.userId === 2)
      const nodeId = await bootIdOf(cluster, who(2))

      await begin(b)
      // Its lease is ended by hand: fifteen seconds less to wait.
      await cluster.keys.zadd(`${cluster.prefix}nodes`, 1, nodeId)
      await watcher.next('user:offline', 10_000, (data) => data.userId === 2)
      t.equal(await usersOn(a), '1')
      const { messageId } = await watcher.request('message:direct', { recipientId: 2, message: 'are you there', conversationId: 'x' })

      await end(b)
      const backAt = Date.now()
      await until('the lists are right', 15_000, async () => await usersOn(a) === '1,2' && await usersOn(b) === '1,2')
      t.comment(`right after ${Date.now() - backAt} ms`)
      await until('the other node receives it', 2000, () => emitted('user:online') === 2)
      await absent.next('message:direct', 15_000, (data) => data.messageId === messageId)
      t.comment(`what was sent meanwhile came after ${Date.now() - backAt} ms`)
      t.equal(absent.isClosed, false, 'its socket stayed')
      t.strictSame([emitted('user:online'), emitted('user:offline')], [2, 1])
    })
  }
})

import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { check } from './check.js'
import { Client, rest, type Who } from './client.js'
import { clusterFor, healthOf, type Node } from './cluster.js'
import { startLoad } from './load.js'
import { until } from './until.js'

const who = (userId: number): Who => ({ userId, clubId: 2 })
const usersOn = async (node: Node): Promise<number[]> =>
  ((await rest(node, who(9), '/online-users')).data as Array<{ user_id: number }>).map((user) => user.user_id)

t.test('Redis frozen for 16 s, longer than a lease', async (t) => {
  const { cluster, nodes } = await clusterFor(t, [{}, {}])
  const [a, b] = nodes
  const load = await startLoad(t, nodes, { count: 10, pause: 100 })
  const [watcher, stayer] = await Promise.all([Client.connect(b, who(1)), Client.connect(a, who(2))])
  await until('messages flow', 5000, () => load.acked.length > 50)

  cluster.redis.pause()
  const acked = load.acked.length
  await sleep(16_000)
  cluster.redis.resume()
  const backAt = Date.now()

  await t.test('sends are acked all along, and all of it arrives within 30 s of the return', async (t) => {
    t.ok(load.acked.length > acked + 500, `${load.acked.length - acked} acked meanwhile`)
    await until('both are healthy', 15_000, async () => await healthOf(a) === 200 && await healthOf(b) === 200)
    await load.stopSending()
    const { problems, ...figures } = await check(cluster, load, { within: 30_000 - (Date.now() - backAt) })
    t.comment({ ...figures, all: Date.now() - backAt })
    t.strictSame(problems, [])
    t.strictSame([load.refusals, load.closeCodes], [[], []])
  })

  await t.test('new events reach the other node at once', async (t) => {
    const { messageId } = await stayer.request('message:direct', { recipientId: 1, message: 'now', conversationId: 'x' })
    await t.resolves(watcher.next('message:direct', 2000, (data) => data.messageId === messageId))
  })

  await t.test('presence is right again within 15 s, and no user who stayed was reported offline', async (t) => {
    await until('the lists are right', 15_000, async () => [await usersOn(a), await usersOn(b)].every((users) => users.join() === '1,2'))
    t.strictSame(watcher.all('user:offline'), [])
  })
})

import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { check } from './check.js'
import { Client, rest, type Who } from './client.js'
import { clusterFor, healthOf, type Node } from './cluster.js'
import { startLoad } from './load.js'
import { until } from './until.js'

const AWAY = 5000
const who = (userId: number): Who => ({ userId, clubId: 2 })

const onlineOn = async (node: Node): Promise<number[]> =>
  ((await rest(node, who(99), '/online-users')).data as Array<{ user_id: number }>).map((user) => user.user_id)
const typingOn = async (node: Node): Promise<number[]> =>
  ((await rest(node, who(99), '/typing/talk')).data as Array<{ user_id: number }>).map((user) => user.user_id)

t.test('Redis away for 5 s and empty on return, under load on both nodes', async (t) => {
  const { cluster, nodes: [a, b] } = await clusterFor(t, [{}, {}])
  const load = await startLoad(t, [a, b])

  // Apart from the load, in another tenant: two on a, a watcher on b, one who leaves, one who comes, meanwhile.
  const [one, two, watcher, leaver] = await Promise.all([
    Client.connect(a, who(1)), Client.connect(a, who(2)), Client.connect(b, who(3)), Client.connect(a, who(4))])
  await watcher.request('subscribe', { channel: 'conversation.talk' })
  await one.request('user:presence', { status: 'busy', device: 'mobile' })
  await one.request('user:typing', { conversationId: 'talk', isTyping: true })
  await watcher.next('user:typing', 5000, (data) => data.isTyping)
  await sleep(1000)

  await cluster.redis.kill()
  const goneAt = Date.now()
  const ackedBefore = load.acked.length
  await t.test('while Redis is down, users of one node still reach each other, and lists report that they are unavailable', async (t) => {
    await until('the node notices', 3000, async () => await healthOf(a) === 503)
    const { messageId } = await one.request('message:direct', { recipientId: 2, message: 'hello', conversationId: 'x' })
    const frame = await two.next('message:direct', 1000, (data) => data.messageId === messageId)
    t.equal(frame.data.message, 'hello')
    const { messageId: far } = await one.request('message:direct', { recipientId: 3, message: 'to the other node', conversationId: 'x' })
    const [row] = await cluster.rows('select status, handed_at from websocket_events where id = ?', [far])
    t.match(row, { status: 'pending', handed_at: null }, 'it waits in the table')
    await t.rejects(rest(a, who(1), '/online-users'), { code: 'RT_STORAGE_UNAVAILABLE' }, 'unknown, not nobody')
  })
  await leaver.close()
  const comer = await Client.connect(a, who(5))
  await sleep(Math.max(0, AWAY - (Date.now() - goneAt)))
  const ackedMeanwhile = load.acked.length - ackedBefore
  await cluster.redis.restart({ empty: true })
  const backAt = Date.now()

  await t.test('presence is right again on every node within 15 s, restored from the local state of each node', async (t) => {
    // The one who left is in the grace of 5 s.
    await until('the lists are right', 15_000, async () =>
      [await onlineOn(a), await onlineOn(b)].every((users) => users.join() === '1,2,3,5'))
    t.comment(`online lists right after ${Date.now() - backAt} ms`)
    t.match((await rest(b, who(99), '/presence/1')).data, { status: 'busy', device: 'mobile' })
    t.match((await rest(b, who(99), '/stats')).data, { total_connections: 4, active_connections: 4, unique_users: 4 })
    const emitted = (event: string, userId: number): number => watcher.all(event).filter(({ data }) => data.userId === userId).length
    await until('who left meanwhile is reported offline', 15_000, () => emitted('user:offline', 4) > 0)
    t.equal(emitted('user:offline', 4), 1, 'who left meanwhile is reported offline, once')
    t.equal(emitted('user:online', 5), 1, 'who came meanwhile is reported online, once')
    t.strictSame([1, 2, 3].map((userId) => emitted('user:offline', userId)), [0, 0, 0], 'users who stayed are not reported')
    t.ok(Date.now() - backAt < 15_000)
  })

  await t.test('typing is right again within 15 s, and its end is sent', async (t) => {
    t.strictSame(await until('typing is known', 15_000 - (Date.now() - backAt), async () =>
      (await typingOn(b)).length > 0 && await typingOn(b)), [1], 'whoever typed before still does')
    const frames = watcher.all('user:typing').length
    await one.request('user:typing', { conversationId: 'talk', isTyping: false })
    await until('the watcher receives it', 2000, () => watcher.all('user:typing').length > frames)
    t.match(watcher.all('user:typing').at(-1)?.data, { userId: 1, isTyping: false })
    t.strictSame(await typingOn(b), [])
  })

  await t.test('sockets stay, sends are acked all along, and all of it arrives within 30 s of the return', async (t) => {
    t.ok(ackedMeanwhile > 500, `${ackedMeanwhile} acked meanwhile`)
    await load.stopSending()
    const { problems, ...figures } = await check(cluster, load, { within: Math.max(1000, 30_000 - (Date.now() - backAt)) })
    t.comment({ ...figures, ackedMeanwhile, all: Date.now() - backAt })
    t.strictSame(problems, [])
    t.strictSame(load.refusals, [], 'nothing was refused')
    t.strictSame(load.closeCodes, [], 'no socket was closed')
    t.equal([one, two, watcher, comer].some(({ isClosed }) => isClosed), false)
    const far = await watcher.next('message:direct', 1000)
    t.equal(far.data.message, 'to the other node')
  })
})

import t from 'tap'
import { Client, rest, type Who } from './client.js'
import { clusterFor, type Node } from './cluster.js'
import { until, within } from './until.js'

/** A tenant of its own for each test. */
const members = (clubId: number) => (userId: number): Who => ({ userId, clubId })
const usersOn = async (node: Node, who: Who): Promise<number[]> =>
  ((await rest(node, who, '/online-users')).data as Array<{ user_id: number }>).map((user) => user.user_id)

t.test('Who is connected, over two nodes', async (t) => {
  const { nodes } = await clusterFor(t, [{ env: { LOG_LEVEL: 'info' } }, {}])
  const [a, b] = nodes
  const emitted = (watcher: Client, event: string, userId: number): number =>
    watcher.all(event).filter(({ data }) => data.userId === userId).length

  await t.test('each node lists the online users of both', async (t) => {
    const who = members(11)
    const clients = await Promise.all([1, 2, 3, 4].map(async (userId) => await Client.connect(userId % 2 === 0 ? a : b, who(userId))))
    await clients[0]?.request('user:presence', { status: 'busy' })
    for (const node of nodes) {
      t.strictSame(await usersOn(node, who(1)), [1, 2, 3, 4])
      t.match((await rest(node, who(2), '/presence/1')).data, { status: 'busy' })
      t.match((await rest(node, who(1), '/stats')).data, { total_connections: 4, active_connections: 4, unique_users: 4 })
    }
  })

  await t.test('counts and lists are complete and immediate while one node hangs', async (t) => {
    const who = members(4)
    await Promise.all([Client.connect(a, who(1)), Client.connect(b, who(2))])
    b.pause()
    try {
      for (const path of ['/stats', '/online-users', '/presence?user_ids=1,2']) await t.resolves(within(1000, path, rest(a, who(1), path)), path)
      t.strictSame(await usersOn(a, who(1)), [1, 2])
      t.match((await rest(a, who(1), '/stats')).data, { total_connections: 2, unique_users: 2 })
    } finally {
      b.resume()
    }
  })

  await t.test('the late disconnect of an old socket does not affect a user who reconnected to another node', async (t) => {
    const who = members(9)
    const watcher = await Client.connect(b, who(2))
    const old = await Client.connect(a, who(1), { connectionId: 'the-tab' })
    await watcher.next('user:online', 2000, (data) => data.userId === 1)
    a.pause()
    old.terminate()
    const back = await within(5000, 'the same connection on the other node', Client.connect(b, who(1), { connectionId: 'the-tab' }))
    a.resume()
    await until('the old node lets go of the old socket', 5000, () => /"connection_id":"the-tab".*"msg":"Connection replaced"/.test(a.output()))
    for (const node of nodes) {
      t.match((await rest(node, who(2), '/stats')).data, { total_connections: 2, active_connections: 2, unique_users: 2 })
      t.strictSame(await usersOn(node, who(2)), [1, 2])
    }
    const { messageId } = await watcher.request('message:direct', { recipientId: 1, message: 'still there', conversationId: 'x' })
    await back.next('message:direct', 2000, (data) => data.messageId === messageId)
    t.strictSame([emitted(watcher, 'user:online', 1), emitted(watcher, 'user:offline', 1)], [1, 0])
  })

  await t.test('rows 10 and 12, edges: tabs and mass reconnects emit nothing, the first and the last connection emit once', async (t) => {
    const who = members(10)
    const watchers = await Promise.all(nodes.map(async (node) => await Client.connect(node, who(100))))
    const connectAll = async (turn: number): Promise<Client[]> => await Promise.all(
      Array.from({ length: 50 }, async (_, i) => await Client.connect(nodes[(i + turn) % 2] as Node, who(1 + i))))
    const tabs = await Promise.all(nodes.map(async (node) => await Client.connect(node, who(200))))
    let clients = await connectAll(0)
    for (const turn of [1, 2]) {
      for (const client of clients) client.terminate()
      clients = await connectAll(turn)
    }
    await tabs[0]?.close()
    const last = clients.pop() as Client
    await Promise.all([last.close(), tabs[1]?.close()])
    const closedAt = Date.now()
    for (const watcher of watchers) {
      for (const userId of [50, 200]) await watcher.next('user:offline', 8000, (data) => data.userId === userId)
      t.ok(Date.now() - closedAt > 4500, `after the grace: ${Date.now() - closedAt} ms`)
      const online = watcher.all('user:online').map(({ data }) => data.userId as number).filter((id) => id !== 100).sort((x, y) => x - y)
      t.strictSame(online, [...Array.from({ length: 50 }, (_, i) => 1 + i), 200], 'online, each once')
      t.strictSame(watcher.all('user:offline').map(({ data }) => data.userId).sort(), [200, 50], 'offline, each once')
    }
  })

  await t.test('with too many tabs the oldest of 20 is closed, with the reason, and the user is not locked out', async (t) => {
    const who = members(30)
    const tabs: Client[] = []
    for (let i = 0; i < 20; i++) tabs.push(await Client.connect(nodes[i % 2] as Node, who(1)))
    t.match((await rest(a, who(1), '/stats')).data, { total_connections: 20 })
    const [oldest, second] = tabs as [Client, Client]
    await Client.connect(b, who(1))
    const { code, reason } = await within(2000, 'the oldest is closed', oldest.closed)
    t.equal(code, 4001)
    t.match(reason, /oldest/)
    t.equal(second.isClosed, false, 'the others stay')
    t.match((await rest(a, who(1), '/stats')).data, { total_connections: 20, unique_users: 1 })
  })

  await t.test('the tabs of a killed node do not lock a user out', async (t) => {
    const who = members(31)
    await Promise.all(Array.from({ length: 20 }, async () => await Client.connect(b, who(1))))
    await b.kill()
    const back = await within(5000, 'a new tab', Client.connect(a, who(1)))
    t.match(await back.request('ping', {}), { timestamp: String })
    t.match((await rest(a, who(1), '/stats')).data, { total_connections: 20, unique_users: 1 })
  })
})

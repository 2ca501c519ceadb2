import t from 'tap'
import { Client, rest, type Who } from './client.js'
import { bootIdOf, clusterFor } from './cluster.js'
import { until } from './until.js'

const IDS = { env: { IDS: 'string' } }
const CLUB = 'club|One'
const who = (userId: string, clubId = CLUB): Who => ({ userId, clubId }) as unknown as Who
/** Users who would be one, were their ids not compared byte by byte. */
const users = ['ann', 'Ann', 'ann|1', 'ann@1', 'ann.1', 'ann+1', '007', '7', '1e3', '3f2504e0-4f89-41d3-9a0c-0305e82c3301', 'x'.repeat(64)].toSorted()

t.test('String ids over three nodes', async (t) => {
  const { cluster, nodes: [a, b, c] } = await clusterFor(t, [IDS, IDS, IDS])
  const watcher = await Client.connect(b, who('watcher'))
  const stranger = await Client.connect(b, who('watcher', 'club|one'))
  const clients = new Map<string, Client>()
  for (const user of users) clients.set(user, await Client.connect(a, who(user)))
  const online = async (): Promise<string[]> => {
    const found: string[] = []
    for (let cursor: string | null = ''; cursor !== null;) {
      const page = await rest(b, who('watcher'), `/online-users?limit=4${cursor === '' ? '' : `&cursor=${encodeURIComponent(cursor)}`}`)
      found.push(...page.data.map(({ user_id: user }: { user_id: string }) => user))
      cursor = page.next_cursor
    }
    return found.filter((user) => user !== 'watcher')
  }

  await t.test('each user is reported online and reached, on any node', async (t) => {
    for (const user of users) {
      await watcher.next('user:online', 5000, (data) => data.userId === user)
      await watcher.request('message:direct', { recipientId: user, message: `for ${user}`, conversationId: 'c' })
      const { data } = await (clients.get(user) as Client).next('message:direct')
      t.match(data, { senderId: 'watcher', message: `for ${user}` })
      await (clients.get(user) as Client).request('message:delivered', { messageId: data.messageId })
      await watcher.next('message:delivered', 5000, (delivered) => delivered.messageId === data.messageId && delivered.userId === user)
      t.equal((clients.get(user) as Client).all('message:direct').length, 1, user)
    }
    t.strictSame(await online(), users)
    t.equal(await bootIdOf(cluster, who('ann')), await bootIdOf(cluster, who('Ann')))
  })

  await t.test('an emptied Redis gets the online users back, and no edge is emitted', async (t) => {
    const before = watcher.frames.length
    await cluster.keys.flushall()
    await until('all are listed again', 20_000, async () => (await online()).join() === users.join())
    t.strictSame(watcher.frames.slice(before).filter(({ event }) => /^user:(online|offline)$/.test(event)), [])
  })

  await t.test('kill -9 of their node makes each of them offline, once, and no user of another tenant', async (t) => {
    await a.kill()
    for (const user of users) await watcher.next('user:offline', 45_000, (data) => data.userId === user)
    t.strictSame(watcher.all('user:offline').map(({ data }) => data.userId).toSorted(), users)
    t.strictSame(stranger.all('user:offline'), [])
    t.strictSame(await online(), [])
  })

  await t.test('a client that reconnects to another node gets the events sent meanwhile', async (t) => {
    for (const user of ['ann', 'Ann', '007', '7']) await watcher.request('message:direct', { recipientId: user, message: `later, ${user}`, conversationId: 'c' })
    for (const user of ['ann', 'Ann', '007', '7']) {
      const client = await Client.connect(c, who(user))
      t.match((await client.next('message:direct')).data, { message: `later, ${user}` })
      await client.close()
    }
  })
})

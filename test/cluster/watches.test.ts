import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { Client, rest } from './client.js'
import { clusterFor, healthOf, type Node } from './cluster.js'
import { until } from './until.js'

const CHANNEL = 'group.room'
const who = (userId: number) => ({ userId })

const enter = async (node: Node, userId: number, connectionId = `c${userId}`): Promise<Client> => {
  const client = await Client.connect(node, who(userId), { connectionId })
  await client.request('subscribe', { channel: CHANNEL })
  return client
}

/** What a client knows: who is in the room, and of those it watches who is online. */
class Observer {
  readonly members = new Set<number>()
  readonly online = new Map<number, string>()
  version = 0
  reads = 0
  readonly #node: Node
  readonly #client: Client

  constructor (node: Node, client: Client) {
    this.#node = node
    this.#client = client
  }

  async start (userIds: number[]): Promise<void> {
    this.#client.onFrame = ({ event, data }) => {
      if (event === 'channel:members') this.#changed(data as never)
      if (event === 'user:online') this.online.set(data.userId as number, 'online')
      if (event === 'user:offline') this.online.delete(data.userId as number)
      if (event === 'user:presence') this.online.set(data.userId as number, data.status as string)
    }
    const { version } = await this.#client.request('subscribe', { channel: CHANNEL })
    this.version = version as number
    await this.#read()
    const { users } = await this.#client.request('presence:watch', { userIds })
    for (const { userId, status } of users as Array<{ userId: number, status: string }>) if (status !== 'offline') this.online.set(userId, status)
  }

  #changed ({ joined = [], left = [], version }: { joined?: Array<{ userId: number }>, left?: number[], version: number }): void {
    const follows = version === this.version + 1
    this.version = version
    if (!follows) {
      this.#read().catch(() => {})
      return
    }
    for (const { userId } of joined) this.members.add(userId)
    for (const userId of left) this.members.delete(userId)
  }

  async #read (): Promise<void> {
    this.reads++
    const { data, version } = await rest(this.#node, this.#client.who, `/channels/${CHANNEL}/members?limit=500`) as { data: Array<{ user_id: number }>, version: number }
    if (version < this.version) return
    this.version = version
    this.members.clear()
    for (const { user_id: userId } of data) this.members.add(userId)
  }

  get state (): string {
    const list = (ids: Iterable<number>): string => [...ids].sort((x, y) => x - y).join()
    return `members ${list(this.members)}, online ${[...this.online].sort(([x], [y]) => x - y).map(([id, status]) => `${id} ${status}`).join()}`
  }
}

t.test('watches and members through faults, on two nodes with changes sent to watchers only', async (t) => {
  const env = { PRESENCE_EVERYONE: 'never' }
  const { cluster, nodes: [a, b] } = await clusterFor(t, [{ env }, { env }])
  const client = await Client.connect(b, who(9), { connectionId: 'observer' })
  const observer = new Observer(b, client)
  const stayer = await enter(b, 8)
  await observer.start([1, 2, 3, 8])
  const [one] = [await enter(a, 1), await enter(a, 2)]
  const agrees = async (state: string, within: number): Promise<void> => {
    await until(state, within, () => observer.state === state).catch((err: unknown) => { t.equal(observer.state, state, String(err)) })
    const { data } = await rest(b, who(9), `/channels/${CHANNEL}/members`) as { data: Array<{ user_id: number }> }
    t.equal(`members ${data.map(({ user_id: id }) => id).join()}`, state.split(', online')[0])
  }

  await t.test('both are told of', async (t) => {
    await agrees('members 1,2,8,9, online 1 online,2 online,8 online', 5000)
    await one.request('user:presence', { status: 'busy' })
    await agrees('members 1,2,8,9, online 1 busy,2 online,8 online', 5000)
    t.equal(observer.reads, 1, 'and the list was read once')
  })

  await t.test('an invisible user stays invisible when Redis is emptied and the user comes back', async (t) => {
    const hidden = await enter(a, 3)
    await hidden.request('user:presence', { status: 'invisible' })
    await cluster.keys.flushall()
    await until('Redis is written again', 20_000, async () => (await rest(b, who(9), '/online-users').catch(() => ({ total: 0 }))).total === 4)
    await hidden.close()
    await sleep(6500)
    const again = await enter(b, 3)
    const { users } = await again.request('presence:watch', { userIds: [3] }) as { users: unknown }
    t.match(users, [{ userId: 3, status: 'invisible' }])
    await agrees('members 1,2,8,9, online 1 busy,2 online,8 online', 20_000)
    t.notOk(client.all('user:online').filter(({ data }) => data.userId === 3).length > 1, 'reported online once, before it was set')
    await again.close()
  })

  await t.test('while Redis is away nothing is lost permanently', async () => {
    cluster.redis.pause()
    await sleep(6000)
    await stayer.close()
    cluster.redis.resume()
    await until('both are healthy', 20_000, async () => await healthOf(a) === 200 && await healthOf(b) === 200)
    await agrees('members 1,2,9, online 1 busy,2 online', 25_000)
    await one.request('user:presence', { status: 'away' })
    await agrees('members 1,2,9, online 1 away,2 online', 5000)
  })

  await t.test('no user of a frozen node stays online by mistake, and its users are back when it continues', async () => {
    a.pause()
    await agrees('members 9, online ', 25_000)
    a.resume()
    await until('they are back', 25_000, async () => (await rest(b, who(9), '/online-users')).total === 3)
    await agrees('members 1,2,9, online 1 away,2 online', 25_000)
  })

  await t.test('kill -9 leaves no ghost', async () => {
    await a.kill()
    await agrees('members 9, online ', 25_000)
  })
})

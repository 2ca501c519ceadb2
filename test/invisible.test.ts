import { setTimeout as sleep } from 'node:timers/promises'
import { allowAll, buildNodes, connect, leave, open, overBackends, rest, tokenOf, until, user, type Client, type Host } from './helper.js'

const channel = 'list.a'
/** Longer than the nodes take to look at what is due, in milliseconds. */
const SWEEP = 550
const channels = { members: (name: string) => name.startsWith('list.') ? 'list' as const : name.startsWith('count.') ? 'count' as const : false as const }

/** A tenant as two of its users see it; what its user 1 does must not show in one, and does not happen in the other. */
class Tenant {
  readonly id: number
  readonly #hosts: [Host, Host]
  observers: Client[] = []

  constructor (id: number, hosts: [Host, Host]) {
    this.id = id
    this.#hosts = hosts
  }

  user (userId: number): ReturnType<typeof user> {
    return user(userId, { tenantId: this.id })
  }

  async enter (host: Host, userId: number): Promise<Client> {
    const client = await connect(host, this.user(userId), { connectionId: `t${this.id}u${userId}` })
    for (const name of [channel, 'count.a']) await client.request('subscribe', { channel: name })
    return client
  }

  async observe (): Promise<void> {
    this.observers = [await this.enter(this.#hosts[0], 8), await this.enter(this.#hosts[1], 9)]
    for (const client of this.observers) await client.request('presence:watch', { userIds: [1, 8, 9] })
  }

  /** Everything that an observer can ask, and everything that came. */
  async view (): Promise<unknown> {
    const answers: unknown[] = []
    for (const [i, host] of this.#hosts.entries()) {
      for (const path of ['/presence/1', '/presence?user_ids=1,8,9', '/online-users', '/online-users?limit=1', '/stats', `/channels?names=${channel},count.a,x`,
        `/channels/${channel}/members`, `/channels/${channel}/members?limit=1`, '/typing/c']) {
        answers.push(path, (await rest(host, this.user(8 + i), 'GET', path)).body)
      }
      const fresh = await open(host)
      answers.push((await fresh.request('auth', { token: tokenOf(this.user(8 + i)) })).presence)
      answers.push(await fresh.request('presence:watch', { userIds: [1] }), await fresh.request('subscribe', { channel }), await fresh.request('subscribe', { channel: 'count.a' }))
      await leave(host, fresh)
      const client = this.observers[i] as Client
      await client.request('ping')
      // Frames of different channels have no order.
      answers.push(client.frames.splice(0).map(({ event, data }) => JSON.stringify(plain([event, data]))).sort())
    }
    return plain(answers)
  }
}

/** Without times and versions, which differ, and in words that are the same in every tenant. */
function plain (value: unknown): unknown {
  return JSON.parse(JSON.stringify(value, (name, one: unknown) => {
    if (name === 'version' || name === 'timestamp' || name === 'position') return typeof one
    return typeof one === 'string' ? one.replace(/\d{4}-\d\d-\d\dT[\d:.]+Z/g, 'a time') : one
  }))
}

overBackends((test, backend) => {
  // One of each kind of backend and of ids: each waits for the nodes to look at what is due.
  for (const everyone of backend.endsWith('string ids') ? ['never'] as const : ['always'] as const) {
    test(`nobody can tell an invisible user from one who is offline, where presence is sent to everyone ${everyone}`, async (t) => {
      const hosts = await buildNodes(t, { backend, presence: { everyone }, channels, options: allowAll })
      const [a, b] = hosts
      const tick = async (): Promise<void> => {
        for (let i = 0; i < 2; i++) {
          a.clock.advance(1100)
          await sleep(SWEEP)
        }
      }
      const [hidden, gone] = [new Tenant(1, hosts), new Tenant(2, hosts)]
      for (const tenant of [hidden, gone]) await tenant.observe()
      const [here, left] = [await hidden.enter(a, 1), await gone.enter(a, 1)]
      await tick()
      // How everyone came is coalesced by time, and says nothing of hiding.
      for (const observer of [hidden, gone].flatMap(({ observers }) => observers)) observer.frames.splice(0)
      await here.request('user:presence', { status: 'invisible', lastMessage: 'Hiding', data: { secret: true } })
      await left.request('user:presence', { status: 'offline' })
      const lastSeen = async (tenant: Tenant): Promise<string> => (await rest(b, tenant.user(9), 'GET', '/presence/1')).body.data.last_seen_at
      const moment = await lastSeen(hidden)
      await leave(a, left)
      t.match(await here.next('user:presence', ({ status }) => status === 'invisible'), { userId: 1, lastMessage: 'Hiding', data: { secret: true } }, 'the user’s own connections know')
      await tick()
      t.strictSame(await hidden.view(), await gone.view(), 'after it was set')
      t.notOk(here.frames.some(({ event, data }) => event === 'user:offline' && data.userId === 1), 'nor are they told that the user is offline')

      // All that an invisible user does, and that the other one does not.
      const second = await open(b)
      t.match((await second.request('auth', { token: tokenOf(hidden.user(1)), connectionId: 'second' })).presence, { status: 'invisible' })
      await second.request('subscribe', { channel })
      await second.request('presence:watch', { userIds: [8, 9] })
      await rest(b, hidden.user(1), 'POST', '/connect', { connection_id: 'third' })
      await rest(b, hidden.user(1), 'POST', '/heartbeat', { connection_id: 'third' })
      await rest(a, hidden.user(1), 'POST', '/subscribe', { connection_id: 'second', channel: 'count.a' })
      await rest(a, hidden.user(1), 'POST', '/presence/update', { status: 'invisible', device: 'mobile', last_message: 'Still' })
      t.match((await rest(b, hidden.user(1), 'GET', '/presence/1')).body.data, { status: 'invisible', last_message: 'Still' }, 'own requests see the real status')
      await leave(a, here)
      await tick()
      t.strictSame(await hidden.view(), await gone.view(), 'while the user is busy')
      t.equal(await lastSeen(hidden), moment)
      await leave(b, second)
      await rest(b, hidden.user(1), 'POST', '/disconnect', { connection_id: 'third' })
      a.clock.advance(8000)
      await tick()
      t.strictSame(await hidden.view(), await gone.view(), 'after the last connection ended')
      t.equal(await lastSeen(hidden), moment)
      const again = await hidden.enter(b, 1)
      await tick()
      t.strictSame(await hidden.view(), await gone.view(), 'after the user came back')
      t.equal(await lastSeen(hidden), moment)

      // And when it ends.
      await again.request('user:presence', { status: 'busy' })
      const back = await gone.enter(b, 1)
      await back.request('user:presence', { status: 'busy' })
      for (const tenant of [hidden, gone]) {
        for (const observer of tenant.observers) {
          await observer.next('user:presence', ({ userId }) => userId === 1)
          t.equal(observer.frames.filter(({ event, data }) => event === 'user:online' && data.userId === 1).length, 1)
        }
      }
      await until('the rooms know', async () => {
        a.clock.advance(1000)
        const sizes = await Promise.all([hidden, gone].map(async (tenant) => (await rest(a, tenant.user(8), 'GET', `/channels?names=${channel}`)).body.data[0].users))
        return sizes.every((size) => size === 3)
      })
      t.match((await rest(a, hidden.user(8), 'GET', '/presence/1')).body.data, { status: 'busy' })
    })
  }
})

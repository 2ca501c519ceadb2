import { internalsOf } from '../lib/internals.js'
import { buildHost, buildNodes, connect, leave, open, overBackends, rest, tokenOf, until, user, type Client, type Host } from './helper.js'

const presenceOf = async (host: Host, userId: number, viewer = 9) => (await rest(host, user(viewer), 'GET', `/presence/${userId}`)).body.data

/** A client, and what `authenticated` said of presence. */
async function enter (host: Host, userId: number): Promise<{ client: Client, presence: unknown }> {
  const client = await open(host)
  const { presence } = await client.request('auth', { token: tokenOf(user(userId)) })
  return { client, presence }
}

const events = (client: Client): string[] => client.frames.filter(({ event }) => event.startsWith('user:')).map(({ event, data }) => `${event} ${data.userId}`)

overBackends((test, backend) => {
  test('the text and data of a status are part of every presence of the user, until an update without them', async (t) => {
    const [a, b] = await buildNodes(t, { backend })
    const [client, viewer] = [await connect(a, user(1)), await connect(b, user(9))]
    const data = { emoji: '🌴', 'until "noon"': { status: 'offline', n: [1, null] } }
    await client.request('user:presence', { status: 'away', lastMessage: 'At lunch', data })
    const said = { status: 'away', lastMessage: 'At lunch', data }
    const row = { status: 'away', last_message: 'At lunch', data }
    t.match(await viewer.next('user:presence'), said)
    t.match(await presenceOf(b, 1), row)
    t.match((await rest(b, user(9), 'GET', '/presence?user_ids=1,9')).body.data, [row, { last_message: null, data: null }])
    t.match((await rest(b, user(9), 'GET', '/online-users')).body.data, [row, { last_message: null, data: null }])
    t.match((await viewer.request('presence:watch', { userIds: [1] })).users, [said])
    t.match(await a.app.realtime.presence.get(1, [1]), [said])
    await rest(a, user(1), 'POST', '/presence/update', { status: 'busy' })
    t.match(await viewer.next('user:presence'), { status: 'busy', lastMessage: null, data: null })
    t.match(await presenceOf(b, 1), { last_message: null, data: null })
    await t.rejects(client.request('user:presence', { status: 'away', data: { text: 'x'.repeat(1014) } }), { code: 'RT_INVALID_DATA', message: /data/ })
    await client.request('user:presence', { status: 'away', data: { text: 'x'.repeat(1013) } })
    for (const wrong of ['text', [1], 5]) await t.rejects(client.request('user:presence', { status: 'away', data: wrong }), { code: 'RT_INVALID_DATA' })
    t.equal((await rest(a, user(1), 'POST', '/presence/update', { status: 'away', data: { text: '€'.repeat(400) } })).status, 400)
    await client.request('user:presence', { status: 'offline', lastMessage: 'Gone', data })
    t.match(await presenceOf(b, 1), { status: 'offline', last_message: null, data: null }, 'nobody sees what somebody offline says')
  })

  test('a user who sets offline is offline for others at once, reported once, until the next connection', async (t) => {
    const [a, b] = await buildNodes(t, { backend })
    const viewer = await connect(b, user(9))
    const first = await connect(a, user(1))
    await viewer.next('user:online', ({ userId }) => userId === 1)
    await first.request('user:presence', { status: 'offline' })
    t.match(await viewer.next('user:offline'), { userId: 1 })
    t.match(await first.next('user:presence'), { userId: 1, status: 'offline' }, 'the user’s own connections are told what is set')
    t.match(await presenceOf(b, 1), { status: 'offline', display_status: 'Offline', device: 'web', last_seen_at: /Z$/ })
    t.match(await presenceOf(b, 1, 1), { status: 'offline' })
    t.match((await rest(b, user(9), 'GET', '/stats')).body.data, { total_connections: 1, active_connections: 1, unique_users: 1 })
    const { client: second, presence } = await enter(b, 1)
    t.strictSame(presence, { everyone: true, online: 2, status: 'online' })
    t.match(await viewer.next('user:online'), { userId: 1 })
    await second.request('user:presence', { status: 'offline' })
    await viewer.next('user:offline')
    await leave(a, first)
    await leave(b, second)
    a.clock.advance(6000)
    await until('nobody is left', async () => (await internalsOf(a.app).roster.presence(tenantOf(a), [tenantOf(a)]))[0] === null)
    t.strictSame(await viewer.soFar('user:offline'), [], 'leaving is not sent again')
    t.same(events(viewer), ['user:online 9'].filter((one) => events(viewer).includes(one)), 'nor anything else')
  })

  test('a connection that watches a user is sent each change once, whether changes are sent to everyone or not', async (t) => {
    for (const everyone of ['always', 'never'] as const) {
      const [a, b] = await buildNodes(t, { backend, presence: { everyone } })
      const { client: watcher, presence } = await enter(b, 9)
      t.strictSame(presence, { everyone: everyone === 'always', online: 1, status: 'online' })
      const bystander = await connect(a, user(8))
      const deaf = await connect(b, user(7))
      await deaf.request('unsubscribe', { channel: 'presence' })
      const { users } = await watcher.request('presence:watch', { userIds: [1, 2, 1, 9] })
      t.match(users, [{ userId: 1, status: 'offline', device: null, lastMessage: null, data: null, lastSeenAt: null }, { userId: 2 }, { userId: 1 }, { userId: 9, status: 'online' }])
      await deaf.request('presence:watch', { userIds: [1] })
      const client = await connect(a, user(1))
      for (const one of [watcher, deaf]) t.match(await one.next('user:online', ({ userId }) => userId === 1), { userId: 1 })
      await client.request('user:presence', { status: 'busy', lastMessage: 'x' })
      for (const one of [watcher, deaf]) t.match(await one.next('user:presence'), { userId: 1, status: 'busy', lastMessage: 'x' })
      await connect(a, user(3))
      t.strictSame(await watcher.request('presence:unwatch', { userIds: [1, 404] }), { watching: 2 })
      await client.request('user:presence', { status: 'away' })
      t.match(await deaf.next('user:presence'), { userId: 1, status: 'away' }, 'who still watches is still told')
      if (everyone === 'always') t.match(await watcher.next('user:presence'), { status: 'away' }, 'and every change is sent to everyone')
      t.strictSame(await watcher.request('presence:unwatch', {}), { watching: 0 })
      for (const one of [watcher, deaf]) t.strictSame(await one.soFar('user:presence'), [], 'each change came once')
      t.strictSame((await deaf.soFar('user:online')).filter(({ userId }) => userId !== 8 && userId !== 7), [])
      if (everyone === 'never') t.strictSame((await bystander.soFar('user:presence')).length, 0)
    }
  })

  test('a watch is limited per connection, ends with it, and its hidden channel cannot be named', async (t) => {
    const host = await buildHost(t, { backend, presence: { maxWatched: 3, everyone: 'never' }, options: { authorize: () => true } })
    const watcher = await connect(host, user(9))
    await watcher.request('presence:watch', { userIds: [1, 2] })
    await t.rejects(watcher.request('presence:watch', { userIds: [2, 3, 4] }), { code: 'RT_LIMIT_EXCEEDED' })
    t.match((await watcher.request('presence:watch', { userIds: [2, 3] })).users.length, 2)
    for (const userIds of [[], Array.from({ length: 501 }, (_, i) => i + 1)]) await t.rejects(watcher.request('presence:watch', { userIds }), { code: 'RT_INVALID_DATA' })
    for (const channel of ['~user.1', '~members']) await t.rejects(watcher.request('subscribe', { channel }), { code: 'RT_INVALID_DATA' })
    t.equal((await rest(host, user(9), 'GET', '/events?channel=~user.1')).status, 400)
    const { hub } = internalsOf(host.app)
    t.equal(hub.watched.length, 3)
    await leave(host, watcher)
    t.equal(hub.watched.length, 0)
  })

  test('a connection watches by REST, on whichever node it is', async (t) => {
    const [a, b] = await buildNodes(t, { backend, presence: { everyone: 'never' } })
    const watcher = await connect(a, user(9), { connectionId: 'w' })
    const answer = await rest(b, user(9), 'POST', '/presence/watch', { connection_id: 'w', user_ids: [1] })
    t.match(answer, { status: 200, body: { data: { users: [{ user_id: 1, status: 'offline', last_message: null, data: null, last_seen_at: null }] } } })
    await connect(b, user(1))
    t.match(await watcher.next('user:online'), { userId: 1 })
    t.match((await rest(b, user(9), 'POST', '/presence/unwatch', { connection_id: 'w' })).body, { data: { watching: 0 } })
    t.equal((await rest(b, user(8), 'POST', '/presence/watch', { connection_id: 'w', user_ids: [1] })).status, 403)
    t.equal((await rest(b, user(8), 'POST', '/presence/watch', { connection_id: 'none', user_ids: [1] })).status, 404)
  })

  test('a connection without a socket watches by REST, and its socket is sent earlier and later changes', async (t) => {
    const [a, b] = await buildNodes(t, { backend, presence: { everyone: 'never', maxWatched: 3 } })
    const one = await connect(a, user(1))
    await one.request('user:presence', { status: 'busy' })
    await rest(b, user(9), 'POST', '/connect', { connection_id: 'early' })
    const post = async (path: string, userIds?: number[], who = 9) => await rest(b, user(who), 'POST', `/presence/${path}`, { connection_id: 'early', ...userIds === undefined ? {} : { user_ids: userIds } })
    t.match(await post('watch', [2, 1, 2]), { status: 200, body: { data: { users: [{ user_id: 2, status: 'offline', last_seen_at: null }, { user_id: 1, status: 'busy' }, { user_id: 2 }] } } })
    t.match(await post('watch', [3, 4]), { status: 409, body: { code: 'RT_LIMIT_EXCEEDED' } })
    t.equal((await post('watch', [3], 8)).status, 403)
    t.match((await post('unwatch', [2, 404])).body, { data: { watching: 1 } })
    t.match((await post('watch', [2, 3])).status, 200)
    await connect(b, user(2))
    await one.request('user:presence', { status: 'away', lastMessage: 'Back soon' })
    const watcher = await connect(a, user(9), { connectionId: 'early' })
    t.match(await watcher.next('user:online'), { userId: 2 })
    t.match(await watcher.next('user:presence'), { userId: 1, status: 'away', lastMessage: 'Back soon' })
    await one.request('user:presence', { status: 'busy' })
    t.match(await watcher.next('user:presence'), { userId: 1, status: 'busy', lastMessage: null })
    t.strictSame([await watcher.soFar('user:offline'), await watcher.soFar('user:online'), await watcher.soFar('user:presence')], [[], [], []], 'each change once, and nothing of who is as before')
    t.match((await post('unwatch')).body, { data: { watching: 0 } })
    await leave(a, watcher)
    await connect(b, user(9), { connectionId: 'early' })
    t.equal(internalsOf(b.app).hub.watched.length, 0, 'a watch ends with its connection')
  })

  test('above the limit everyone is sent only the count, and below nine tenths of it every change again', async (t) => {
    const [a, b] = await buildNodes(t, { backend, presence: { everyone: 10 } })
    const viewer = await connect(a, user(100))
    const clients: Client[] = []
    for (let i = 1; i <= 9; i++) clients.push(await connect(i % 2 === 0 ? a : b, user(i)))
    for (let i = 1; i <= 9; i++) await viewer.next('user:online', ({ userId }) => userId === i)
    const { client: tenth, presence } = await enter(b, 10)
    t.strictSame(presence, { everyone: false, online: 11, status: 'online' }, 'who comes counts')
    t.strictSame(await viewer.next('presence:mode'), { everyone: false, online: 11 })
    await connect(a, user(11))
    a.clock.advance(1000)
    t.match(await viewer.next('presence:count', ({ online }) => online === 12), { timestamp: /Z$/ })
    t.strictSame(await viewer.soFar('user:online'), [], 'changes of the tenth and the eleventh are not sent')
    await tenth.request('user:presence', { status: 'busy' })
    t.strictSame(await viewer.soFar('user:presence'), [])
    t.strictSame((await viewer.soFar('presence:mode')).length, 0)
    const depart = async (client: Client): Promise<void> => { await client.request('user:presence', { status: 'offline' }) }
    for (const client of clients.slice(0, 2)) await depart(client)
    a.clock.advance(1000)
    await viewer.next('presence:count', ({ online }) => online === 10)
    t.strictSame(await viewer.soFar('presence:mode'), [], 'not at the number itself')
    await depart(clients[2] as Client)
    t.strictSame(await viewer.next('presence:mode'), { everyone: true, online: 9 })
    await depart(clients[3] as Client)
    t.match(await viewer.next('user:offline', ({ userId }) => userId === 4), { userId: 4 })
  })

  test('users whom the host does not show look offline, and cannot be watched', async (t) => {
    const asked: number[][] = []
    let hidden = [2]
    const [a, b] = await buildNodes(t, {
      backend,
      presence: {
        visible: async ({ viewerId, userIds }: { viewerId: number, userIds: number[] }) => {
          asked.push([viewerId, ...userIds])
          return userIds.filter((id) => !hidden.includes(id))
        }
      }
    })
    const { client: viewer, presence } = await enter(a, 9)
    t.match(presence, { everyone: false })
    const two = await connect(b, user(2))
    const one = await connect(b, user(1))
    const nobody = { status: 'offline', device: null, last_message: null, data: null, last_seen_at: null, display_status: 'Offline' }
    t.match((await rest(a, user(9), 'GET', '/presence?user_ids=1,2,9')).body.data, [{ status: 'online' }, nobody, { status: 'online' }])
    t.strictSame(asked.splice(0), [[9, 1, 2]], 'one question for all, and none about oneself')
    t.match(await presenceOf(a, 2), nobody)
    t.strictSame(asked.splice(0), [], 'kept for a while')
    t.match((await rest(a, user(9), 'GET', '/online-users')).body, { data: [{ user_id: 1 }, { user_id: 9 }], total: 3 })
    t.match((await rest(a, user(2), 'GET', '/online-users')).body, { data: [{ user_id: 1 }, { user_id: 2 }, { user_id: 9 }], total: 3 }, 'a list is another viewer’s')
    t.match(await presenceOf(a, 2, 2), { status: 'online' }, 'oneself is always visible')
    t.match((await viewer.request('presence:watch', { userIds: [1, 2] })).users, [{ status: 'online' }, { userId: 2, status: 'offline', device: null, lastSeenAt: null }])
    await two.request('user:presence', { status: 'busy' })
    await one.request('user:presence', { status: 'busy' })
    t.match(await viewer.next('user:presence'), { userId: 1 })
    t.strictSame(await viewer.soFar('user:presence'), [])
    hidden = [1]
    await a.app.realtime.access.recheck({ tenantId: 1, userId: 9 })
    t.match(await viewer.next('user:offline'), { userId: 1 })
    await one.request('user:presence', { status: 'away' })
    await two.request('user:presence', { status: 'away' })
    t.strictSame(await viewer.soFar('user:presence'), [], 'who is gone stays so, and who was hidden too')
  })
})

/** Tenant 1, or user 1, as this host calls them. */
const tenantOf = (host: Host): never => (internalsOf(host.app).ids.kind === 'string' ? '00000000-0000-4000-8000-000000000001' : 1) as never

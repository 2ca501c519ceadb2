import t from 'tap'
import { CloseCode } from '../lib/wire/close-codes.js'
import { OnlinePageCache } from '../plugins/presence/online-page-cache.js'
import { buildHost, buildNodes, connect, leave, overBackends, PREFIX, rest, rowsOf, tokenOf, until, user, type Host } from './helper.js'

const presenceOf = async (host: Host, userId: number) => (await rest(host, user(9), 'GET', `/presence/${userId}`)).body.data
const onlineOf = async (host: Host): Promise<number[]> =>
  (await rest(host, user(9), 'GET', '/online-users')).body.data.map(({ user_id: id }: { user_id: number }) => id)

overBackends((test, backend) => {
  test('a user is offline 5 s after the last connection closed, and user:offline is sent once; a return before that sends nothing', async (t) => {
    const [a, b] = await buildNodes(t, { backend })
    const watcher = await connect(b, user(9))
    for (const host of [a, b]) {
      const visit = await connect(host, user(1))
      const second = await connect(a, user(1))
      await leave(host, visit)
      await leave(a, second)
      a.clock.advance(4000)
    }
    const last = await connect(b, user(1))
    t.match(await watcher.next('user:online'), { userId: 1, status: 'online', timestamp: /\.\d{3}Z$/ })
    await leave(b, last)
    t.match(await presenceOf(a, 1), { status: 'online' })
    a.clock.advance(5000)
    t.match(await watcher.next('user:offline'), { userId: 1, status: 'offline', timestamp: /\.\d{3}Z$/ })
    await until('the list knows', async () => !(await onlineOf(a)).includes(1))
    // The row is written behind: half a second, of which the moved clock knows nothing.
    await until('the table knows', async () => (await presenceOf(b, 1)).last_seen_at !== null)
    t.match(await presenceOf(b, 1), { user_id: 1, status: 'offline', display_status: 'Offline', device: 'web', last_seen_at: /\.\d{3}Z$/ })
    await connect(a, user(1))
    await watcher.next('user:online')
    t.strictSame([await watcher.soFar('user:online'), await watcher.soFar('user:offline')], [[], []], 'each edge once')
  })

  test('a user whose node restarts stays online for 30 s, and longer only after a reconnect', async (t) => {
    const [a, b] = await buildNodes(t, { backend })
    const watcher = await connect(b, user(9))
    for (const userId of [1, 2]) {
      await connect(a, user(userId), { connectionId: `c${userId}` })
      await watcher.next('user:online')
      const gone = new Promise((resolve) => { a.app.realtime.events.on('disconnected', resolve) })
      await a.app.realtime.connections.close(1, `c${userId}`, CloseCode.restarting)
      await gone
    }
    const other = await connect(a, user(3))
    await watcher.next('user:online')
    await leave(a, other)
    a.clock.advance(20_000)
    t.match(await watcher.next('user:offline'), { userId: 3 }, 'looked at together, and it is too early for the others')
    await connect(b, user(1))
    t.match(await presenceOf(b, 2), { status: 'online' })
    a.clock.advance(11_000)
    t.match(await watcher.next('user:offline'), { userId: 2 })
    t.strictSame([await watcher.soFar('user:online'), await watcher.soFar('user:offline')], [[], []], 'nothing is sent for a user who came back')
  })

  test('the grace is the host’s to choose', async (t) => {
    const host = await buildHost(t, { backend, options: { presenceGrace: 60_000 } })
    const watcher = await connect(host, user(9))
    const [leaving, left] = [await connect(host, user(1)), await connect(host, user(2))]
    await leave(host, left)
    host.clock.advance(30_000)
    await leave(host, leaving)
    host.clock.advance(30_000)
    t.match(await watcher.next('user:offline'), { userId: 2 })
    t.match(await presenceOf(host, 1), { status: 'online' }, 'looked at together, and not yet')
  })

  test('a user who sets offline leaves the online list, and returns with any other status', async (t) => {
    const host = await buildHost(t, { backend })
    const [client, watcher] = [await connect(host, user(1)), await connect(host, user(9))]
    await client.request('user:presence', { status: 'offline' })
    t.match(await watcher.next('user:offline'), { userId: 1, status: 'offline' })
    t.match((await rest(host, user(9), 'GET', '/online-users')).body, { data: [{ user_id: 9 }], total: 1 })
    t.match(await presenceOf(host, 1), { status: 'offline', display_status: 'Offline' })
    await rest(host, user(1), 'POST', '/presence/update', { status: 'online', device: 'tablet' })
    t.strictSame(await onlineOf(host), [1, 9])
    t.match(await presenceOf(host, 1), { status: 'online', display_status: 'Online on tablet' })
  })

  test('the words for a status count minutes, then hours, then days, from when it began', async (t) => {
    const host = await buildHost(t, { backend })
    const watcher = user(9)
    await connect(host, user(1))
    const words = async () => [(await presenceOf(host, 1)).display_status,
      (await rest(host, watcher, 'GET', '/online-users')).body.data[0].display_status]
    t.strictSame(await words(), ['Online on web', 'Online'])
    await rest(host, user(1), 'POST', '/presence/update', { status: 'away', device: 'mobile' })
    for (const [ms, text] of [[0, '0m'], [5 * 60_000, '5m'], [54 * 60_000, '59m'], [60_000, '1h'], [22 * 3600_000, '23h'], [3600_000, '1d'], [48 * 3600_000, '3d']] as const) {
      host.clock.advance(ms)
      // A client repeats its status: that is no new absence.
      await rest(host, user(1), 'POST', '/presence/update', { status: 'away' })
      t.strictSame(await words(), [`Away for ${text}`, `Away for ${text}`])
    }
    await rest(host, user(1), 'POST', '/presence/update', { status: 'busy' })
    t.strictSame(await words(), ['Busy', 'Busy'])
    await rest(host, user(1), 'POST', '/presence/update', { status: 'away' })
    t.strictSame(await words(), ['Away for 0m', 'Away for 0m'])
  })

  test('a status set by REST without a connection lasts 75 s', async (t) => {
    const host = await buildHost(t, { backend })
    const watcher = await connect(host, user(9))
    t.match(await rest(host, user(1), 'POST', '/presence/update', { status: 'busy', device: 'mobile', last_message: 'In a meeting' }),
      { status: 200, body: { data: { status: 'busy', device: 'mobile', updated_at: /\.\d{3}Z$/ } } })
    t.match(await watcher.next('user:online'), { userId: 1 })
    t.match(await watcher.next('user:presence'), { userId: 1, status: 'busy', device: 'mobile', lastMessage: 'In a meeting' })
    host.clock.advance(70_000)
    await rest(host, user(1), 'POST', '/presence/update', { status: 'busy' })
    host.clock.advance(70_000)
    t.match(await presenceOf(host, 1), { status: 'busy' }, 'prolonged by the second')
    host.clock.advance(5000)
    await until('it is over', async () => {
      host.clock.advance(1000)
      return (await watcher.soFar('user:offline')).length > 0
    })
    t.match(await presenceOf(host, 1), { status: 'offline', device: 'mobile', last_seen_at: /Z$/ })
  })

  test('updates are counted over REST, frames and nodes together, at the host’s rate', async (t) => {
    const [a, b] = await buildNodes(t, { backend, presence: { updatesPerMinute: 4 } })
    const client = await connect(a, user(1))
    for (let i = 0; i < 2; i++) {
      await client.request('user:presence', { status: 'online' })
      t.equal((await rest(b, user(1), 'POST', '/presence/update', { status: 'online' })).status, 200)
    }
    await t.rejects(client.request('user:presence', { status: 'busy' }), { code: 'RT_RATE_LIMITED', retryAfter: Number })
    const refused = await rest(b, user(1), 'POST', '/presence/update', { status: 'busy' })
    t.match(refused, { status: 429, body: { statusCode: 429, code: 'RT_RATE_LIMITED', error: 'Too Many Requests' } })
    t.ok(Number(refused.headers['retry-after']) > 0 && Number(refused.headers['retry-after']) <= 60)
    t.match(await presenceOf(a, 1), { status: 'online' }, 'what is refused has no effect')
    t.equal((await rest(a, user(2), 'POST', '/presence/update', { status: 'busy' })).status, 200, 'others are not counted with them')
    t.equal((await rest(a, user(1, { tenantId: 2 }), 'POST', '/presence/update', { status: 'busy' })).status, 200)
  })

  test('a rate of 0 is none', async (t) => {
    const host = await buildHost(t, { backend, presence: { updatesPerMinute: 0 }, options: { requestsPerMinute: 0 } })
    const client = await connect(host, user(1))
    for (let i = 0; i < 70; i++) await client.request('user:presence', { status: 'online' })
    t.equal((await rest(host, user(1), 'POST', '/presence/update', { status: 'online' })).status, 200)
  })

  test('names come from resolveUsers in one batch, and are kept for a while', async (t) => {
    const asked: Array<[number, number[]]> = []
    const host = await buildHost(t, {
      backend,
      options: {
        userCacheTime: 60_000,
        resolveUsers: async (tenantId, ids) => {
          asked.push([tenantId, [...ids].sort((a, b) => a - b)])
          return new Map(ids.filter((id) => id !== 4).map((id) => [id, { name: `User ${id} of ${tenantId}` }]))
        }
      }
    })
    const ids = [1, 2, 3, 4]
    for (const id of ids) await connect(host, user(id))
    const list = async () => (await rest(host, user(1), 'GET', '/online-users')).body.data.map(({ name }: { name: string | null }) => name)
    const names = ['User 1 of 1', 'User 2 of 1', 'User 3 of 1', null]
    t.strictSame(await Promise.all([list(), list()]), [names, names])
    t.strictSame(asked.splice(0), [[1, ids]], 'one question for all')
    t.strictSame(await list(), names)
    t.strictSame(asked.splice(0), [], 'and none for what is known')
    host.clock.advance(60_000)
    t.strictSame(await list(), names)
    t.strictSame(asked, [[1, ids]])
  })

  test('the list shows every change at once, however often it was asked for before', async (t) => {
    let spelling = 'Ann'
    const host = await buildHost(t, {
      backend, options: { userCacheTime: 3600_000, resolveUsers: (_, ids) => new Map(ids.map((id) => [id, { name: `${spelling} ${id}` }])) }
    })
    const list = async (query = ''): Promise<string> => {
      const { body, headers } = await rest(host, user(9), 'GET', `/online-users${query}`)
      t.equal(headers['content-type'], 'application/json; charset=utf-8')
      return [...body.data.map(({ name, device, display_status: words }: Record<string, string>) => `${name} ${device}: ${words}`), body.total, body.next_cursor].join(', ')
    }
    const shows = async (expected: string): Promise<void> => {
      for (let i = 0; i < 3; i++) t.equal(await list(), expected)
    }
    await shows('0, ')
    const first = await connect(host, user(1))
    await shows('Ann 1 web: Online, 1, ')
    const second = await connect(host, user(2))
    await shows('Ann 1 web: Online, Ann 2 web: Online, 2, ')
    t.equal(await list('?limit=1'), 'Ann 1 web: Online, 2, 1')
    t.equal(await list('?limit=1&cursor=1'), 'Ann 2 web: Online, 2, ')
    t.match((await rest(host, user(9, { tenantId: 2 }), 'GET', '/online-users')).body, { data: [], total: 0 }, 'another tenant has its own')
    await second.request('user:presence', { status: 'away', device: 'tablet' })
    await shows('Ann 1 web: Online, Ann 2 tablet: Away for 0m, 2, ')
    host.clock.advance(59_000)
    await list()
    host.clock.advance(1000)
    await shows('Ann 1 web: Online, Ann 2 tablet: Away for 1m, 2, ')
    await second.request('user:presence', { status: 'offline' })
    await shows('Ann 1 web: Online, 1, ')
    await second.request('user:presence', { status: 'busy' })
    await shows('Ann 1 web: Online, Ann 2 tablet: Busy, 2, ')
    spelling = 'Anna'
    await shows('Ann 1 web: Online, Ann 2 tablet: Busy, 2, ')
    host.clock.advance(3600_000)
    await shows('Anna 1 web: Online, Anna 2 tablet: Busy, 2, ')
    await leave(host, first)
    await shows('Anna 1 web: Online, Anna 2 tablet: Busy, 2, ')
    const emitted = new Promise((resolve) => host.app.realtime.events.on('offline', resolve))
    host.clock.advance(5000)
    await emitted
    await until('the list knows', async () => await list() === 'Anna 2 tablet: Busy, 1, ')
    await rest(host, user(3), 'POST', '/presence/update', { status: 'busy', device: 'mobile' })
    await shows('Anna 2 tablet: Busy, Anna 3 mobile: Busy, 2, ')
    const head = await host.app.inject({ method: 'HEAD', url: `${PREFIX}/online-users`, headers: { authorization: `Bearer ${tokenOf(user(9))}` } })
    t.match(head, { statusCode: 200, body: '', headers: { 'content-type': 'application/json; charset=utf-8', 'x-ratelimit-limit': '600' } })
  })

  test('a name that could not be had is asked for again', async (t) => {
    let fails = true
    const host = await buildHost(t, {
      backend,
      options: {
        resolveUsers: async (_, ids) => {
          if (fails) throw new Error('away')
          return new Map(ids.map((id) => [id, { name: `User ${id}` }]))
        }
      }
    })
    await connect(host, user(1))
    const name = async () => (await rest(host, user(1), 'GET', '/online-users')).body.data[0].name
    t.equal(await name(), null)
    fails = false
    t.equal(await name(), 'User 1')
  })

  test('host code reads presence and the online list', async (t) => {
    const [a, b] = await buildNodes(t, { backend })
    for (const id of [5, 3, 4]) await connect(id === 3 ? a : b, user(id))
    await connect(a, user(8, { tenantId: 2 }))
    await rest(b, user(4), 'POST', '/presence/update', { status: 'away', device: 'tablet' })
    const { presence } = a.app.realtime
    t.match(await presence.of(1, [4, 8, 3]), [
      { user_id: 4, status: 'away', device: 'tablet', display_status: 'Away for 0m' },
      { user_id: 8, status: 'offline', device: null, display_status: 'Offline', last_seen_at: null },
      { user_id: 3, status: 'online', device: 'web', display_status: 'Online on web' }
    ])
    t.match(await presence.get(1, [4]), [{ userId: 4, status: 'away', device: 'tablet', displayStatus: 'Away for 0m', lastSeenAt: /Z$/ }])
    t.strictSame(await presence.listOnline(1, { limit: 1 }), {
      users: [{ userId: 3, name: null, status: 'online', device: 'web', lastMessage: null, data: null, displayStatus: 'Online' }], total: 3, nextCursor: 3
    })
    t.match(await presence.online(1, { limit: 2 }), { data: [{ user_id: 3 }, { user_id: 4 }], total: 3, next_cursor: 4 })
    t.match(await presence.online(1, { cursor: 4 }), { data: [{ user_id: 5 }], total: 3, next_cursor: null })
    t.match(await presence.online(3), { data: [], total: 0, next_cursor: null })
  })

  test('a user has one row, written now and then, whatever the number of updates', async (t) => {
    const host = await buildHost(t, { backend })
    const client = await connect(host, user(1))
    for (let i = 0; i < 20; i++) await client.request('user:presence', { status: i % 2 === 0 ? 'busy' : 'online' })
    const { updatedAt } = await client.request('user:presence', { status: 'away', device: 'mobile', lastMessage: 'Lunch' })
    const row = async (status: string) => await until(`a row that says ${status}`, async () => {
      const rows = await rowsOf(host, 'websocket_presence')
      t.ok(rows.length <= 1)
      return rows[0]?.status === status && rows[0]
    })
    const time = updatedAt.replace('T', ' ').slice(0, 23)
    t.match(await row('away'), { tenant_id: 1, user_id: 1, device: 'mobile', last_message: 'Lunch', away_since: time, last_seen_at: time })
    await leave(host, client)
    host.clock.advance(5000)
    t.match(await row('offline'), { device: 'mobile', last_message: 'Lunch' })
    const audited = async (event: string): Promise<number> => (await rowsOf(host, 'websocket_events'))
      .filter(({ event_type: type, channel, status }) => `${type} ${channel} ${status}` === `${event} presence delivered`).length
    await until('the last of it is on record', async () => await audited('user:offline') === 1)
    t.strictSame([await audited('user:online'), await audited('user:presence')], [1, 21])
  })
})

t.test('pages are kept within a bound, and for five minutes at most', async (t) => {
  const pages = new OnlinePageCache()
  const page = { bytes: Buffer.alloc(1024 * 1024), version: 1, until: Infinity }
  for (let i = 0; i < 10; i++) pages.keep(String(i), page, 0)
  t.strictSame(Array.from({ length: 10 }, (_, i) => i).filter((i) => pages.find(String(i), 1, 0) !== null), [2, 3, 4, 5, 6, 7, 8, 9])
  for (let i = 0; i < 10; i++) pages.keep('9', page, 0)
  t.ok(pages.find('2', 1, 0), 'a page made again takes the place of the old one')
  t.equal(pages.find('9', 2, 0), null, 'another version is another page')
  t.ok(pages.find('9', 1, 299_999))
  t.equal(pages.find('9', 1, 300_000), null)
  const empty = { ...page, bytes: Buffer.alloc(0) }
  for (let i = 0; i < 10_001; i++) pages.keep(`empty ${i}`, empty, 0)
  t.strictSame(['9', 'empty 0', 'empty 1'].map((key) => pages.find(key, 1, 0) !== null), [false, false, true], 'many small ones are bounded too')
})

import { randomUUID } from 'node:crypto'
import { join } from 'node:path'
import type { FastifyInstance } from 'fastify'
import { sql } from 'kysely'
import t, { type Test } from 'tap'
import { internalsOf } from '../lib/internals.js'
import type { ChannelKey } from '../lib/keys.js'
import { migrate, openDatabase, OptionError, type Id, type Identity, type IdKind, type RealtimeOptions } from '../plugins/index.js'
import { buildApp, connect, tokenOf, type TestClient } from '../plugins/testing.js'
import { dataFolder } from './exit-hooks.js'
import { createDatabase } from './servers.js'
import { freshPrefix } from './suites.js'

/** What ids are in this package's own program; a host with string ids declares them. */
const id = (text: string): Id => text as unknown as Id
const identity = (userId: string, tenantId = 'acme'): Identity => ({ tenantId: id(tenantId), userId: id(userId), name: `Name of ${userId}` })

/** Ids that a database, a key, a URL or JavaScript could take for one another, in the order of their bytes. */
const alike = [
  '+', '-', '.', '..', '007', '0x7', '1e3', '7', '7.0', '1000', '10', 'ANN', 'Ann', 'ann', 'ann+1', 'ann-1', 'ann.1', 'ann=1', 'ann@1', 'ann_1', 'ann|1', 'auth0|5f7',
  'NaN', 'null', 'true', '__proto__', 'constructor', 'due', '=', '|', '@', '3f2504e0-4f89-41d3-9a0c-0305e82c3301', 'x'.repeat(64), `${'x'.repeat(63)}X`, '='.repeat(64)
].toSorted()

type Store = Pick<RealtimeOptions, 'database' | 'redis' | 'keyPrefix'>
const stores: Record<string, (t: Test) => Promise<Store>> = {
  'in one process with SQLite': async () => ({ database: `sqlite:${join(dataFolder('string-ids'), `${randomUUID()}.db`)}` }),
  'on a MariaDB whose collation knows no case, and Redis': async (t) => {
    const { url, drop } = await createDatabase(process.env.DATABASE_URL ?? '')
    t.teardown(drop)
    const admin = openDatabase(url)
    await sql.raw(`alter database \`${new URL(url).pathname.slice(1)}\` character set latin1 collate latin1_general_ci`).execute(admin.db)
    await admin.close()
    return { database: url, redis: process.env.REDIS_URL, keyPrefix: freshPrefix() }
  }
}

async function start (t: Test, store: Store, more: Partial<RealtimeOptions> = {}): Promise<FastifyInstance> {
  const { app } = await buildApp({ core: { ids: 'string', authorize: () => true, ...store, ...more } })
  t.teardown(async () => { await app.close() })
  return app
}

async function rest (app: FastifyInstance, who: Identity, method: 'GET' | 'POST', path: string, payload?: object): Promise<{ status: number, body: any }> { // eslint-disable-line @typescript-eslint/no-explicit-any
  const response = await app.inject({
    method, url: `/api/websocket${path}`, headers: { authorization: `Bearer ${tokenOf(who)}` }, ...payload === undefined ? {} : { payload }
  })
  return { status: response.statusCode, body: response.json() }
}

for (const [name, create] of Object.entries(stores)) {
  void t.test(`String ids ${name}`, async (t) => {
    const store = await create(t)
    const asked: string[] = []
    const app = await start(t, store, {
      resolveUsers: (_tenant, users) => {
        asked.push(...users.map(String))
        return new Map(users.map((user) => [user, { name: `Name of ${user}` }]))
      }
    })
    const me = identity('reader')
    const clients = new Map<string, TestClient>()
    for (const user of alike) clients.set(user, await connect(app, identity(user)))

    await t.test('users with similar ids each receive their own events, and no others', async (t) => {
      const reader = await connect(app, me)
      for (const user of alike) await reader.request('message:direct', { recipientId: user, message: `for ${user}`, conversationId: 'c' })
      for (const user of alike) {
        const client = clients.get(user) as TestClient
        const got = await client.soFar('message:direct')
        t.match(got, [{ senderId: 'reader', message: `for ${user}` }], user)
        t.equal(got.length, 1, user)
        await client.request('message:delivered', { messageId: got[0].messageId })
        t.match(await reader.next('message:delivered', (data) => data.userId === user), { messageId: got[0].messageId })
      }
      await reader.end()
    })

    await t.test('each has an own row, an own status and an own address', async (t) => {
      for (const [i, user] of alike.entries()) {
        await (clients.get(user) as TestClient).request('user:presence', { status: i % 2 === 0 ? 'busy' : 'away' })
      }
      for (const [i, user] of alike.entries()) {
        const { status, body } = await rest(app, me, 'GET', `/presence?user_ids=${encodeURIComponent(user)}`)
        t.match({ status, body }, { status: 200, body: { data: [{ user_id: user, status: i % 2 === 0 ? 'busy' : 'away' }] } }, user)
        // A URL cannot end in these two, however they are written.
        if (user === '.' || user === '..') continue
        t.match((await rest(app, me, 'GET', `/presence/${encodeURIComponent(user)}`)).body.data, { user_id: user, status: i % 2 === 0 ? 'busy' : 'away' }, user)
      }
      const { db } = internalsOf(app).database
      const saved = async (): Promise<string[]> =>
        (await db.selectFrom('websocket_presence').select(['user_id', 'status']).execute()).map((row) => `${row.user_id}: ${row.status}`).sort()
      const expected = alike.map((user, i) => `${user}: ${i % 2 === 0 ? 'busy' : 'away'}`).sort()
      for (let tries = 0; tries < 100 && (await saved()).filter((row) => !row.startsWith('reader')).join() !== expected.join(); tries++) await new Promise((resolve) => setTimeout(resolve, 50))
      t.strictSame((await saved()).filter((row) => !row.startsWith('reader')), expected)
    })

    await t.test('the online list is in the order of bytes, page by page, each with its name', async (t) => {
      const found: string[] = []
      let cursor: string | null = null
      do {
        const { body } = await rest(app, me, 'GET', `/online-users?limit=5${cursor === null ? '' : `&cursor=${encodeURIComponent(cursor)}`}`)
        for (const { user_id: user, name } of body.data) {
          t.equal(name, `Name of ${user}`)
          found.push(user)
        }
        cursor = body.next_cursor
        t.ok(cursor === null || typeof cursor === 'string')
      } while (cursor !== null)
      t.strictSame(found.filter((user) => user !== 'reader'), alike)
      t.strictSame([...new Set(asked)].filter((user) => user !== 'reader').toSorted(), alike, 'and the host is asked for each')
    })

    await t.test('typing is of one user, and ends with that user’s message', async (t) => {
      for (const user of ['ann', 'Ann', '007', '7']) await rest(app, identity(user), 'POST', '/typing', { conversation_id: 'c', is_typing: true, channel: 'group.c' })
      await (clients.get('ann') as TestClient).request('message:group', { channel: 'group.c', message: 'done', conversationId: 'c' })
      await rest(app, identity('7'), 'POST', '/typing', { conversation_id: 'c', is_typing: false })
      await internalsOf(app).backplane.publish('acme/none', { payload: Buffer.from('{}'), messageId: 0, excludeConnectionId: null, isRetry: false })
      const typing = async (): Promise<string[]> => (await rest(app, me, 'GET', '/typing/c')).body.data.map(({ user_id: user }: { user_id: string }) => user).sort()
      for (let tries = 0; tries < 100 && (await typing()).length > 2; tries++) await new Promise((resolve) => setTimeout(resolve, 20))
      t.strictSame(await typing(), ['007', 'Ann'])
    })

    await t.test('a key against sending twice is of one user, and so is a rate', async (t) => {
      const sent = await Promise.all(alike.map(async (user) =>
        await (clients.get(user) as TestClient).request('message:group', { channel: 'group.c', message: 'once', conversationId: 'c', dedupeId: 'same' })))
      t.equal(new Set(sent.map(({ messageId }) => messageId)).size, alike.length)
      const again = await Promise.all(alike.map(async (user) =>
        await (clients.get(user) as TestClient).request('message:group', { channel: 'group.c', message: 'once', conversationId: 'c', dedupeId: 'same' })))
      t.strictSame(again.map(({ messageId }) => messageId), sent.map(({ messageId }) => messageId))
      for (let i = 0; i < 70; i++) await rest(app, identity('rate'), 'POST', '/presence/update', { status: 'busy' })
      t.equal((await rest(app, identity('rate'), 'POST', '/presence/update', { status: 'busy' })).status, 429)
      t.equal((await rest(app, identity('Rate'), 'POST', '/presence/update', { status: 'busy' })).status, 200)
    })

    await t.test('tenants with similar ids receive nothing of each other', async (t) => {
      const [acme, shouted] = [await connect(app, identity('ann', 'Acme')), await connect(app, identity('ann', 'ACME'))]
      for (const client of [acme, shouted]) await client.request('subscribe', { channel: 'group.c' })
      await acme.request('message:group', { channel: 'group.c', message: 'ours', conversationId: 'c' })
      t.strictSame(await shouted.soFar('message:group'), [])
      t.match((await rest(app, identity('ann', 'ACME'), 'GET', '/online-users')).body, { data: [{ user_id: 'ann' }], total: 1 })
      t.match(await shouted.request('subscribe', { channel: 'group.c', since: 0 }), { position: 0, recovered: true })
      t.match((await rest(app, identity('ann', 'ACME'), 'GET', '/events?channel=group.c')).body, { data: [] })
      await Promise.all([acme.end(), shouted.end()])
    })

    await t.test('events that wait for an absent user wait for that user alone, and are in the history of that channel alone', async (t) => {
      const away = ['Bob', 'bob', 'BOB', '042', '42', 'bob|1', 'bob@1']
      for (const user of away) await app.realtime.channels.direct({ tenantId: id('acme'), recipientId: id(user), message: `kept for ${user}`, conversationId: 'c' })
      await app.realtime.channels.notify({ tenantId: id('acme'), recipientIds: away.map(id), title: 'hello', body: 'all', dedupeId: 'n' })
      const { replays } = internalsOf(app).eventLog
      const waiting = await Promise.all(['acme/private-user.Bob', 'ACME/private-user.Bob', 'Acme/private-user.bob', 'acme/private-user.nobody'].map(async (key) =>
        (await replays.waiting(key as ChannelKey, null)).ids.length))
      t.strictSame(waiting, [2, 0, 0, 0], 'asked for together')
      for (const user of away) {
        const client = await connect(app, identity(user))
        t.match(await client.next('message:direct'), { senderId: '', message: `kept for ${user}` }, user)
        await client.next('notification:received')
        t.strictSame([await client.soFar('message:direct'), await client.soFar('notification:received')], [[], []], `${user}: once`)
        t.match((await rest(app, identity(user), 'GET', '/events?channel=user:me')).body.data, [{ data: { message: `kept for ${user}` } }, { data: { title: 'hello' } }], user)
        t.match(await client.request('subscribe', { channel: 'user:me', since: 0 }), { channel: `private-user.${user}`, recovered: true })
        await client.end()
      }
    })

    await t.test('host code reaches one user, and gets that user’s lifecycle events', async (t) => {
      const { presence, connections, stats, typing } = app.realtime
      t.match(await presence.of(id('acme'), [id('ANN'), id('Ann'), id('nobody')]), [{ user_id: 'ANN' }, { user_id: 'Ann' }, { user_id: 'nobody', status: 'offline' }])
      const gone: unknown[] = []
      app.realtime.events.on('disconnected', ({ userId }) => { gone.push(userId) })
      t.equal(await connections.closeUser(id('acme'), id('Ann')), 1)
      t.equal(await (clients.get('Ann') as TestClient).closed, 4000)
      for (let tries = 0; tries < 100 && !gone.includes('Ann'); tries++) await new Promise((resolve) => setTimeout(resolve, 20))
      t.ok(gone.includes('Ann') && !gone.includes('ann'), 'host code gets the events of that one')
      t.equal((clients.get('ann') as TestClient).socket.readyState, 1)
      t.match(await stats.of(id('acme')), { unique_users: alike.length - 1 })
      t.match(await typing.in(id('acme'), 'nothing'), [])
    })

    await t.test('wrong ids are refused, by name', async (t) => {
      const ann = clients.get('ann') as TestClient
      for (const recipientId of [7, '', 'a/b', 'a:b', 'a b', 'ä', 'x'.repeat(65), null, true]) {
        await t.rejects(ann.request('message:direct', { recipientId, message: 'x', conversationId: 'c' }), { code: 'RT_INVALID_DATA', message: /recipientId/ }, JSON.stringify(recipientId))
        t.match(await rest(app, me, 'POST', '/messages/direct', { recipient_id: recipientId, message: 'x', conversation_id: 'c' }), { status: 400 })
      }
      t.equal((await rest(app, me, 'GET', '/presence/a%2Fb')).status, 400)
      t.equal((await rest(app, me, 'GET', '/presence?user_ids=a+b')).status, 400, 'a plus sign is a blank where it is not encoded')
      t.equal((await rest(app, me, 'GET', '/online-users?cursor=a%3Ab')).status, 400)
      await t.rejects(app.realtime.channels.direct({ tenantId: id('acme'), recipientId: 7, message: 'x', conversationId: 'c' }), { code: 'RT_INVALID_DATA', message: /recipientId.*1 to 64/ })
      t.throws(() => { app.realtime.channels.emit({ tenantId: 1, channel: 'group.c', event: 'x', data: {} }) }, { code: 'RT_INVALID_DATA', message: /tenantId/ })
    })

    await t.test('channels may be named with the characters of ids', async (t) => {
      const ann = clients.get('ann') as TestClient
      for (const channel of ['group.auth0|7', 'group.a@b.co', 'group.a+b=c']) {
        t.match(await ann.request('subscribe', { channel }), { channel })
        await app.realtime.channels.group({ tenantId: id('acme'), channel, message: 'hi', conversationId: 'c' })
        t.match(await ann.next('message:group', (data) => data.channel === channel), { userId: '', message: 'hi' })
      }
      await t.rejects(ann.request('subscribe', { channel: '|group' }), { code: 'RT_INVALID_DATA' })
    })

    await t.test('documents show strings', async (t) => {
      const text = JSON.stringify(app.realtime.asyncapi())
      const { components: { messages } } = JSON.parse(text)
      t.match(messages['client.message.direct'].payload.properties.data.properties, { recipientId: { type: 'string', maxLength: 64 } })
      t.match(messages['server.message.direct'].payload.properties.data.properties, { senderId: { type: 'string' }, messageId: { type: 'integer' } })
    })
  })
}

for (const [name, create] of Object.entries(stores)) {
  void t.test(`The choice ${name}`, async (t) => {
    for (const [first, other] of [['integer', 'string'], ['string', 'integer']] as Array<[IdKind, IdKind]>) {
      const store = await create(t)
      const { app } = await buildApp({ core: { ...store, ids: first } })
      await app.close()
      await t.rejects(buildApp({ core: { ...store, ids: other } }), { name: OptionError.name, message: new RegExp(`ids.*'${other}'.*has ${first} ids`) }, `${other} after ${first}`)
      if (first === 'string') await t.rejects(buildApp({ core: store }), { message: /ids.*has string ids/ }, 'integer is the default')
      const database = openDatabase(store.database)
      await t.rejects(migrate(database.db, 'up', { ids: other }), { message: /ids/ })
      t.strictSame(await migrate(database.db), [], 'the command takes what is there')
      for (let step = 0; step < 3; step++) await migrate(database.db, 'down')
      await t.rejects(migrate(database.db, 'up', { ids: other }), { message: /ids/ }, 'also where some migrations are missing')
      await migrate(database.db)
      await database.close()
      const again = await buildApp({ core: { ...store, ids: first } })
      await again.app.close()
    }
  })
}

for (const kind of ['integer', 'string'] as const) {
  void t.test(`An authenticate that returns another kind than ${kind} ids is reported to the host, and not blamed on the client`, async (t) => {
    const lines: Array<{ level: number, msg: string }> = []
    const wrong: Identity = kind === 'integer' ? identity('ann') : { tenantId: 1, userId: 1 }
    const Fastify = (await import('fastify')).default
    const app = Fastify({ logger: { level: 'error', stream: { write: (line: string) => { lines.push(JSON.parse(line)) } } } })
    t.teardown(async () => { await app.close() })
    const { realtime, connections } = await import('../plugins/index.js')
    await app.register(realtime, { database: 'sqlite::memory:', ids: kind, authenticate: () => wrong })
    await app.register(connections)
    for (let i = 0; i < 3; i++) t.match(await rest(app, wrong, 'POST', '/connect', { connection_id: 'c' }), { status: 500, body: { code: 'RT_INTERNAL' } })
    await t.rejects(connect(app, wrong), /authenticated did not arrive.*RT_INTERNAL.*"retryAfter":60/)
    const errors = lines.filter(({ level }) => level === 50).map(({ msg }) => msg)
    t.equal(errors.length, 1, 'one line')
    t.match(errors[0], kind === 'integer' ? /tenantId is a string, and the option ids is 'integer'/ : /tenantId is a number.*and the option ids is 'string'/)
  })
}

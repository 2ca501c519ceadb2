import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { Redis } from 'ioredis'
import { sql } from 'kysely'
import t, { type Test } from 'tap'
import { internalsOf } from '../lib/internals.js'
import { MovableClock } from '../plugins/testing.js'
import { CLI } from './cli.js'
import { connect, rest, startNode, store, until, user, type Host } from './helper.js'

/** An id that no other number contains. */
const ME = 770_077_700_779
const MARK = String(ME)
const OTHER = 2
const SILENT = 3

/** What Redis has under the prefix that contains the mark: names, and what is in them. */
async function tracesInRedis (redis: Redis, prefix: string): Promise<string[]> {
  const traces: string[] = []
  for (const key of await redis.keys(`${prefix}*`)) {
    const type = await redis.type(key)
    const content = type === 'string' ? await redis.get(key) : type === 'hash' ? await redis.hgetall(key) : type === 'set' ? await redis.smembers(key) : await redis.zrange(key, 0, -1)
    const text = `${key} ${JSON.stringify(content)}`
    if (text.includes(MARK)) traces.push(text)
  }
  return traces
}

const isForgotten = async (redis: Redis, prefix: string): Promise<void> => {
  let left: string[] = []
  // A departure from a channel is sent within a second. Counters end within two minutes.
  await until('Redis has nothing', async () => {
    left = (await tracesInRedis(redis, prefix)).filter((trace) => !trace.includes(':rates:'))
    return left.length === 0
  }).catch((err: unknown) => { throw new Error(`${String(err)}: ${left.join('\n')}`) })
}

/** The rows of all tables that contain the mark, but what others wrote. */
async function tracesInDatabase (host: Host): Promise<string[]> {
  const { db } = internalsOf(host.app).database
  const { rows: tables } = await sql<{ name: string }>`select table_name as name from information_schema.tables where table_schema = database()`.execute(db)
  const traces: string[] = []
  for (const { name } of tables) {
    const { rows } = await sql<Record<string, unknown>>`select * from ${sql.table(name)}`.execute(db)
    for (const row of rows) {
      const isOfOthers = row.user_id === OTHER && (name === 'websocket_conversations' || String(row.event_type).startsWith('message:'))
      if (!isOfOthers && JSON.stringify(row).includes(MARK)) traces.push(`${name} ${JSON.stringify(row)}`)
    }
  }
  return traces
}

/** Two nodes, and a look into their Redis. */
async function twoNodes (t: Test): Promise<{ a: Host, b: Host, shared: Awaited<ReturnType<typeof store>>, clock: MovableClock, redis: Redis }> {
  const shared = await store(t, 'servers')
  const clock = new MovableClock()
  const [a, b] = [await startNode(t, settings, shared, clock), await startNode(t, settings, shared, clock)]
  const redis = new Redis(process.env.REDIS_URL ?? '')
  t.teardown(() => { redis.disconnect() })
  return { a, b, shared, clock, redis }
}

/** Leaves a trace of the user everywhere; returns the id of a message of another user. */
async function live (a: Host, b: Host): Promise<number> {
  const { app: { realtime } } = a
  const [phone, laptop, other] = [await connect(a, user(ME)), await connect(b, user(ME)), await connect(b, user(OTHER))]
  await rest(a, user(ME), 'POST', '/connect', { connection_id: 'by-rest' })
  for (const client of [phone, laptop, other]) await client.request('subscribe', { channel: 'group.x' })
  await other.request('presence:watch', { userIds: [ME] })
  const send = async (recipientId: number): Promise<number> =>
    (await phone.request('message:direct', { recipientId, message: `from ${MARK}`, conversationId: 'c', data: { by: MARK } }) as { messageId: number }).messageId
  const [first, second, third] = [await send(OTHER), await send(OTHER), await send(OTHER)]
  await send(SILENT)
  await phone.request('message:group', { channel: 'group.x', message: `from ${MARK}`, conversationId: 'c' })
  await laptop.request('message:edit', { messageId: first, message: `edited by ${MARK}` })
  await laptop.request('message:delete', { messageId: second })
  await other.request('message:edit', { messageId: first, message: `edited by a moderator: ${MARK}` })
  await other.request('message:delete', { messageId: third })
  const { messageId } = await other.request('message:direct', { recipientId: ME, message: 'of another user', conversationId: 'c' }) as { messageId: number }
  await other.request('notification:send', { recipientIds: [ME], title: 'title', body: 'body' })
  await phone.request('notification:send', { recipientIds: [OTHER], title: 'title', body: 'body' })
  await phone.request('conversation:read', { with: OTHER, messageId })
  await other.request('user:typing', { conversationId: 'c', isTyping: true, recipientId: ME })
  await phone.request('user:typing', { conversationId: 'c', isTyping: true, channel: 'group.x' })
  await rest(b, user(ME), 'POST', '/typing', { conversation_id: 'd', is_typing: true, recipient_id: OTHER })
  await phone.request('user:presence', { status: 'busy', lastMessage: MARK })
  await phone.request('user:presence', { status: 'invisible' })
  await realtime.access.revoke({ tenantId: 1, userId: ME, issuedBefore: 1 })
  return messageId
}

t.jobs = 2
const options = { authorize: () => true, presenceGrace: 30_000 }
const settings = { backend: 'servers', options, conversations: { moderate: () => true }, channels: { members: () => 'list' as const } } as const

void t.test('after an erasure nothing in the database or in Redis names the user, except messages of others', { buffered: true }, async (t) => {
  const { a, b, shared, redis } = await twoNodes(t)
  const kept = await live(a, b)
  const watcher = await connect(b, user(OTHER))
  await rest(b, user(ME), 'POST', '/presence/update', { status: 'online' })
  await watcher.next('user:online', ({ userId }) => userId === ME)
  t.ok((await tracesInDatabase(a)).length > 5)
  t.ok((await tracesInRedis(redis, String(shared.keyPrefix))).length > 5)

  const { total, rows } = await a.app.realtime.conversations.erase(1, ME)
  t.equal(total, Object.values(rows).reduce((sum, count) => sum + count, 0))
  for (const table of ['websocket_events', 'websocket_connections', 'websocket_presence', 'websocket_typing_indicators', 'websocket_access', 'websocket_conversations']) {
    t.ok((rows[table] ?? 0) > 0, `${table}: ${rows[table]}`)
  }
  t.strictSame(await tracesInDatabase(a), [])
  await isForgotten(redis, String(shared.keyPrefix))
  await watcher.next('user:offline', ({ userId }) => userId === ME)
  const { body } = await rest(b, user(OTHER), 'GET', `/history?with=${ME}`)
  t.match(body.data, [{ data: { messageId: kept, message: 'of another user' } }])
  t.equal(body.data.length, 1)
  t.match((await rest(b, user(OTHER), 'GET', '/conversations')).body.data, [{ with: ME, unread: 0 }])
  t.strictSame((await rest(b, user(SILENT), 'GET', '/conversations')).body.data, [], 'nothing is left of a conversation in which only the user wrote')

  // A user who comes back begins again.
  const back = await connect(a, user(ME))
  await back.request('message:direct', { recipientId: SILENT, message: 'again', conversationId: 'c' })
  t.match((await rest(a, user(ME), 'GET', '/conversations')).body.data, [{ with: SILENT }])
  t.match((await rest(b, user(SILENT), 'GET', '/conversations')).body.data, [{ with: ME, unread: 1 }])
})

void t.test('the command erases a user from the database and from Redis', { buffered: true }, async (t) => {
  const { a, b, shared, clock, redis } = await twoNodes(t)
  const kept = await live(a, b)
  for (const { app } of [a, b]) await app.realtime.connections.closeUser(1, ME)
  await until('the connections are gone', async () => (await a.app.realtime.connections.of(1, ME)).length === 0)
  clock.advance(options.presenceGrace + 1000)
  await until('the user is offline', async () => (await internalsOf(a.app).roster.presence(1, [ME]))[0] === null)
  for (const { app } of [a, b]) for (const rows of internalsOf(app).database.behind) await rows.drain()
  t.match((await tracesInRedis(redis, String(shared.keyPrefix))).join(), /:invisible/)

  const { stdout } = await promisify(execFile)(process.execPath, [...CLI, 'erase', '--tenant', '1', '--user', MARK], {
    env: { ...process.env, DATABASE_URL: String(shared.database), REDIS_URL: process.env.REDIS_URL, KEY_PREFIX: String(shared.keyPrefix) }
  })
  const { total, rows } = JSON.parse(stdout) as { total: number, rows: Record<string, number> }
  t.equal(total, Object.values(rows).reduce((sum, count) => sum + count, 0))
  t.ok((rows.websocket_invisible ?? 0) === 1 && (rows.websocket_events ?? 0) > 5, stdout)
  t.strictSame(await tracesInDatabase(a), [])
  await isForgotten(redis, String(shared.keyPrefix))
  t.match((await rest(b, user(OTHER), 'GET', `/history?with=${ME}`)).body.data, [{ data: { messageId: kept } }])
})

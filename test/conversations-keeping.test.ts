import { join } from 'node:path'
import { sql } from 'kysely'
import t, { type Test } from 'tap'
import type { Database } from '../lib/database/dialect.js'
import { migrate } from '../lib/database/migrator.js'
import { Backfill } from '../lib/event-log/backfill.js'
import { Ids } from '../lib/ids.js'
import { internalsOf } from '../lib/internals.js'
import { Maintenance } from '../lib/upkeep/maintenance.js'
import { openDatabase } from '../plugins/index.js'
import { MovableClock, type PluginName } from '../plugins/testing.js'
import { temporaryFolder } from './exit-hooks.js'
import { buildHost, rest, startNode, until, user, type Host } from './helper.js'
import { createDatabase } from './servers.js'

const DAY = 24 * 3600_000
const silent = { info: () => {} }

// Messages from before the migration.

/** More than two steps of the backfill. */
const OLD = 2300

/** A database of an earlier version with messages, direct and in a channel, with a large hole between their ids. */
async function oldDatabase (t: Test, name: string): Promise<string> {
  const { url, drop } = name === 'MariaDB'
    ? await createDatabase(process.env.DATABASE_URL ?? '')
    : { url: `sqlite:${join(temporaryFolder('backfill'), 'old.db')}`, drop: async () => {} }
  const { db, close } = openDatabase(url)
  await migrate(db)
  for (let undone = ''; !undone.startsWith('006');) undone = (await migrate(db, 'down'))[0] ?? '006'
  const at = '2026-01-01 00:00:00.000'
  const rows = Array.from({ length: OLD }, (_, i) => {
    const [sender, recipient] = i % 2 === 0 ? [1, 2] : [2, 1]
    const [type, channel] = i % 3 === 0 ? ['message:group', 'group.old'] : i % 7 === 0 ? ['user:typing', 'group.old'] : ['message:direct', `private-user.${recipient}`]
    return { id: i < 1000 ? i + 1 : i + 50_000, tenant_id: 1, user_id: sender, event_type: type, channel, payload: `{"senderId":${sender},"message":"old ${i}","conversationId":"c","timestamp":"2026-01-01T00:00:00.000Z"}`,
      status: 'delivered' as const, durable: type === 'user:typing' ? 0 : 1, origin: 'old', created_at: at, updated_at: at, handed_at: at }
  })
  for (let from = 0; from < rows.length; from += 500) await db.insertInto('websocket_events').values(rows.slice(from, from + 500)).execute()
  await migrate(db)
  await close()
  t.teardown(drop)
  return url
}

/** The database fails with the statement after so many. */
function failing (db: Database, after: number): Database {
  let left = after
  return new Proxy(db, {
    get (target, name) {
      const value: unknown = Reflect.get(target, name)
      if (typeof value !== 'function') return value
      return (...args: unknown[]): unknown => {
        if (['executeQuery', 'updateTable', 'selectFrom', 'insertInto'].includes(String(name)) && left-- <= 0) throw new Error('the node was killed')
        return Reflect.apply(value, target, args)
      }
    }
  })
}

t.jobs = 2
for (const name of ['SQLite', 'MariaDB']) {
  void t.test(`messages from before the migration get their conversation, however often that is interrupted, on ${name}`, { buffered: true }, async (t) => {
    const url = await oldDatabase(t, name)
    const { db, dialect, close } = openDatabase(url)
    t.teardown(close)
    const ids = new Ids('integer')
    const clock = new MovableClock()
    let isDone = false
    let interrupted = 0
    for (let after = 0; !isDone; after++) {
      // Each run gets one statement further, and some get through several steps.
      isDone = await new Backfill({ db: failing(db, after), dialect, ids, clock }).run().catch(() => false)
      if (!isDone) interrupted++
      if (after > 100) throw new Error('it does not come to an end')
    }
    t.ok(interrupted > 5, `${interrupted} interruptions`)
    t.equal(await new Backfill({ db, dialect, ids, clock }).run(), true, 'done is done')
    const { rows: [left] } = await sql<{ wrong: number, right: number }>`select
      sum(case when event_type <> 'user:typing' and (conversation is null or conversation <> case when event_type = 'message:group' then 'group.old' else '1/2' end) then 1 else 0 end) as wrong,
      sum(case when conversation is not null then 1 else 0 end) as done from websocket_events where event_type <> 'user:typing' or conversation is not null`.execute(db)
    t.equal(Number(left?.wrong), 0)

    const host = await startNode(t, { backend: 'embedded', options: { authorize: () => true } }, { database: url, redis: undefined }, clock)
    for (const [userId, peer] of [[1, 2], [2, 1]] as const) {
      const { data } = (await rest(host, user(userId), 'GET', '/conversations')).body
      t.match(new Map(data.map((entry: { channel?: string, with?: number }) => [entry.channel ?? entry.with, entry])), new Map<unknown, unknown>([['group.old', { unread: 0 }], [peer, { unread: 0 }]]), 'as read')
    }
    const page = (await rest(host, user(1), 'GET', '/history?with=2&limit=200')).body
    t.equal(page.data.length, 200)
    t.match(page.data.at(-1), { event: 'message:direct', data: { message: /^old/, senderId: 2, recipientId: 1 } }, 'the recipient was not part of the payload then')
    await host.app.realtime.channels.direct({ tenantId: 1, userId: 2, recipientId: 1, message: 'new', conversationId: 'c' })
    t.match((await rest(host, user(1), 'GET', '/conversations')).body.data[0], { with: 2, unread: 1 }, 'what comes later is unread')
  })
}

void t.test('a host fills in messages from before the migration by itself', { buffered: true }, async (t) => {
  const url = await oldDatabase(t, 'SQLite')
  const host = await startNode(t, { backend: 'embedded', options: { authorize: () => true } }, { database: url, redis: undefined }, new MovableClock())
  await until('everything is filled in', async () => {
    const row = await internalsOf(host.app).database.db.selectFrom('websocket_meta').select('value').where('name', '=', 'conversations_left').executeTakeFirst()
    return Number(row?.value) === 0
  })
  t.equal((await rest(host, user(2), 'GET', '/conversations')).body.data.length, 2)
})

// How long messages are kept.

const plain = { authorize: () => true, retentionDays: 30 }

async function purge ({ app, clock }: Host, days: number): Promise<void> {
  clock.advance(days * DAY)
  const { db, dialect } = internalsOf(app).database
  await new Maintenance({ db, dialect, clock, log: silent, retentionDays: 30, aliveNodes: async () => null, purges: [] }).run()
}

/** What is left of messages, by their text. */
const texts = async ({ app }: Host): Promise<string[]> =>
  (await internalsOf(app).database.db.selectFrom('websocket_events').select('payload').orderBy('id').execute())
    .flatMap(({ payload }) => /"(?:message|title)":"([^"]*)"/.exec(typeof payload === 'string' ? payload : JSON.stringify(payload))?.[1] ?? [])

async function send ({ app: { realtime } }: Host): Promise<void> {
  const common = { tenantId: 1, userId: 1, conversationId: 'c' }
  await realtime.channels.direct({ ...common, recipientId: 2, message: 'direct' })
  await realtime.channels.group({ ...common, channel: 'support.1', message: 'support' })
  await realtime.channels.group({ ...common, channel: 'group.x', message: 'group' })
  await realtime.channels.notify({ tenantId: 1, userId: 1, recipientIds: [2], title: 'notification', body: 'b' })
  await realtime.channels.broadcast({ tenantId: 1, userId: 1, title: 'last', message: 'last', priority: 'low' } as never)
}

void t.test('messages are kept forever, unless the host’s retention decides otherwise', { buffered: true }, async (t) => {
  const asked: unknown[] = []
  const host = await buildHost(t, { backend: 'embedded', options: plain, channels: {
    retention: (tenantId, channel, event) => {
      asked.push([tenantId, channel, event])
      if (channel === 'group.x') throw new Error('a mistake of the host')
      return channel.startsWith('support.') ? 10 : event === 'notification:received' ? null : undefined
    }
  } })
  await send(host)
  t.match(asked.slice(0, 3), [[1, 'private-user.2', 'message:direct'], [1, 'support.1', 'message:group'], [1, 'group.x', 'message:group']])
  const all = ['direct', 'support', 'group', 'notification', 'last']
  await purge(host, 9)
  t.strictSame(await texts(host), all)
  await purge(host, 2)
  t.strictSame(await texts(host), all.filter((text) => text !== 'support'), 'after the days that the host said')
  t.match((await rest(host, user(1), 'GET', '/history?channel=support.1')).body, { data: [], more: false })
  await host.app.realtime.channels.group({ tenantId: 1, userId: 1, channel: 'group.x', message: 'newest', conversationId: 'c' })
  await purge(host, 400)
  t.strictSame(await texts(host), ['direct', 'group', 'notification', 'newest'], 'a broadcast for the default, the others for good')
})

void t.test('without the plugin, messages are purged like other events', { buffered: true }, async (t) => {
  const host = await buildHost(t, { backend: 'embedded', options: plain, plugins: ['connections', 'channels'] satisfies PluginName[] })
  await send(host)
  await purge(host, 29)
  t.equal((await texts(host)).length, 5)
  await purge(host, 12)
  t.strictSame(await texts(host), ['last'], 'the newest row stays')
})

void t.test('the mark of a deleted message in history is kept as long as the message would have been', { buffered: true }, async (t) => {
  const host = await buildHost(t, { backend: 'embedded', options: plain, channels: { retention: (_tenant, channel) => channel === 'support.1' ? 10 : undefined } })
  await send(host)
  for (const channel of ['support.1', 'group.x']) {
    const query = `channel=${channel}`
    const { body: { data: [frame] } } = await rest(host, user(1), 'GET', `/history?${query}`)
    t.equal((await rest(host, user(1), 'DELETE', `/messages/${frame.data.messageId}`)).status, 200, channel)
    t.match((await rest(host, user(1), 'GET', `/history?${query}`)).body.data, [{ data: { deleted: true } }])
  }
  await purge(host, 11)
  t.strictSame((await rest(host, user(1), 'GET', '/history?channel=support.1')).body.data, [])
  await purge(host, 400)
  t.match((await rest(host, user(1), 'GET', '/history?channel=group.x')).body.data, [{ data: { deleted: true } }])
})

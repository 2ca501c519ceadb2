import { randomUUID } from 'node:crypto'
import { join } from 'node:path'
import { performance } from 'node:perf_hooks'
import t, { type Test } from 'tap'
import { internalsOf } from '../lib/internals.js'
import { migrate, openDatabase, type Id } from '../plugins/index.js'
import { buildApp, connect } from '../plugins/testing.js'
import { bundleScript } from './bundle.js'
import { startChild } from './child-process.js'
import { dataFolder } from './exit-hooks.js'
import { ROOT } from './examples.js'
import { writeExample } from './run-snippet.js'
import { createDatabase } from './servers.js'

/** Events to move; `MOVED_EVENTS=100000` for a try on a larger number. */
const EVENTS = Number(process.env.MOVED_EVENTS ?? 2500)

const databases: Record<string, (t: Test) => Promise<string>> = {
  SQLite: async () => `sqlite:${join(dataFolder('move'), `${randomUUID()}.db`)}`,
  MariaDB: async (t) => {
    const { url, drop } = await createDatabase(process.env.DATABASE_URL ?? '')
    t.teardown(drop)
    return url
  }
}

const script = await bundleScript(writeExample(t, 'move-to-string-ids'))

async function move (from: string, to: string): Promise<string> {
  const child = await startChild(process.execPath, [script], { cwd: ROOT, env: { PATH: process.env.PATH, OLD_DATABASE_URL: from, DATABASE_URL: to } })
  const { code } = await child.exited
  if (code !== 0) throw new Error(child.output())
  return child.output()
}

for (const [name, create] of Object.entries(databases)) {
  void t.test(`On ${name}, after the move of the docs to string ids`, async (t) => {
    const [from, to] = [await create(t), await create(t)]
    const before = await buildApp({ core: { database: from, authorize: () => true } })
    const ann = await connect(before.app, { tenantId: 1, userId: 1 })
    const { epoch } = await ann.request('subscribe', { channel: 'group.x' })
    const { messageId: first } = await ann.request('message:group', { channel: 'group.x', message: 'first', conversationId: 'c' })
    await before.app.realtime.channels.direct({ tenantId: 1, recipientId: 2, message: 'for ben', conversationId: 'c' })
    const { db } = internalsOf(before.app).database
    const time = '2026-01-01 00:00:00.000'
    for (let at = 0; at < EVENTS; at += 1000) {
      await db.insertInto('websocket_events').values(Array.from({ length: Math.min(1000, EVENTS - at) }, (_, i) => ({
        tenant_id: 1, user_id: 1 + i % 50, event_type: 'message:group', channel: `group.${i % 20}`, payload: JSON.stringify({ userId: 1 + i % 50, channel: `group.${i % 20}`, message: `m${at + i}`, conversationId: 'c', timestamp: time }),
        status: 'delivered' as const, error_message: null, created_at: time, updated_at: time, durable: 1, dedupe_id: null, origin: 'test', due_at: null, handed_at: time
      }))).execute()
    }
    const { messageId: last } = await ann.request('message:group', { channel: 'group.x', message: 'last', conversationId: 'c' })
    await ann.end()
    await before.app.close()

    await migrate(to, 'up', { ids: 'string' })
    const began = performance.now()
    t.match(await move(from, to), /websocket_events: \d+ rows/)
    t.comment(`${EVENTS} events in ${((performance.now() - began) / 1000).toFixed(1)} s`)
    t.match(await move(from, to), /websocket_events: 0 rows/, 'started again it finds everything done')

    const id = (text: string): Id => text as unknown as Id
    const { app } = await buildApp({ core: { database: to, ids: 'string', authorize: () => true } })
    t.teardown(async () => { await app.close() })
    await t.test('a client resumes from the cursor it had', async (t) => {
      const client = await connect(app, { tenantId: id('tenant-1'), userId: id('user-1') })
      t.match(await client.request('subscribe', { channel: 'group.x', since: first, epoch }), { recovered: true, position: last })
      t.match(await client.next('message:group'), { messageId: last, userId: 'user-1', message: 'last' })
      t.ok((await client.request('message:group', { channel: 'group.x', message: 'new', conversationId: 'c' })).messageId > last)
      await client.end()
    })
    await t.test('events that waited for a user are sent to the same user', async (t) => {
      const ben = await connect(app, { tenantId: id('tenant-1'), userId: id('user-2') })
      t.match(await ben.next('message:direct'), { senderId: '', message: 'for ben' })
      await ben.end()
    })
    await t.test('every event is there under its id, and the old database is as it was', async (t) => {
      const durable = async (url: string): Promise<number[]> => {
        const database = openDatabase(url)
        const rows = await database.db.selectFrom('websocket_events').select('id').where('durable', '=', 1).where('id', '<=', last).orderBy('id').execute()
        await database.close()
        return rows.map((row) => Number(row.id))
      }
      const ids = await durable(from)
      t.equal(ids.length, EVENTS + 3)
      t.strictSame(await durable(to), ids)
    })
  })
}

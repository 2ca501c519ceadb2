import { copyFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { CompiledQuery } from 'kysely'
import t, { type Test } from 'tap'
import { EpochStore } from '../lib/event-log/epoch-store.js'
import { Ids } from '../lib/ids.js'
import { internalsOf } from '../lib/internals.js'
import { openDatabase } from '../plugins/index.js'
import { temporaryFolder } from './exit-hooks.js'
import { allowAll, buildCluster, buildHost, connect, overBackends, rest, tokenOf, until, user, type Client, type Host, isEmbedded } from './helper.js'

const send = async (host: Host, count: number, from = 1): Promise<number[]> => {
  const ids: number[] = []
  for (let i = 0; i < count; i++) {
    const { messageId } = await host.app.realtime.channels.publish({
      tenantId: 1, userId: 1, channel: 'group.x', event: 'message:group',
      data: { userId: 1, channel: 'group.x', message: `${from + i}`, conversationId: 'c' }
    })
    ids.push(messageId)
  }
  return ids
}

/** Takes group messages until all with these ids have come. */
async function received (reader: Client, ids: number[]): Promise<Array<{ messageId: number, message: string }>> {
  const found: Array<{ messageId: number, message: string }> = []
  while (!ids.every((id) => found.some(({ messageId }) => messageId === id))) found.push(await reader.next('message:group'))
  return found
}

const query = async ({ app }: Host, text: string): Promise<void> => {
  await internalsOf(app).database.db.executeQuery(CompiledQuery.raw(text))
}

/** What a backup was taken of, and puts back. */
const backup = async (host: Host): Promise<{ restore: () => Promise<void> }> => {
  await query(host, 'create table backup as select * from websocket_events')
  const { db } = internalsOf(host.app).database
  const meta = await db.selectFrom('websocket_meta').selectAll().execute()
  return {
    restore: async () => {
      await query(host, 'delete from websocket_events')
      await query(host, 'insert into websocket_events select * from backup')
      // A restored table counts on from what it has.
      await query(host, internalsOf(host.app).database.dialect === 'mysql'
        ? 'alter table websocket_events auto_increment = 1'
        : "update sqlite_sequence set seq = (select max(id) from websocket_events) where name = 'websocket_events'")
      for (const { name, value } of meta) await db.updateTable('websocket_meta').set({ value }).where('name', '=', name).execute()
    }
  }
}

const epochOf = (host: Host): string => internalsOf(host.app).eventLog.epoch.current

/** Waits for the next epoch of a host. */
const nextEpoch = async (host: Host, before: string): Promise<string> => {
  await until('a new epoch begins', () => epochOf(host) !== before)
  return epochOf(host)
}

overBackends((test, backend) => {
  test('every cursor carries the epoch, and a client with a cursor of another epoch must reload', async (t) => {
    const host = await buildHost(t, { backend, options: allowAll })
    const client = await connect(host, user(1))
    const { epoch } = await client.request('auth', { token: tokenOf(user(1)) })
    t.match(epoch, /^[A-Za-z0-9_-]{1,32}$/)
    const ids = await send(host, 3)
    t.match(await client.request('subscribe', { channel: 'group.x', since: ids[0], epoch }), { recovered: true, epoch })
    t.match(await client.request('subscribe', { channel: 'group.x', since: ids[0], epoch: 'another' }), { recovered: false, position: ids[2], epoch })
    t.match(await rest(host, user(1), 'GET', `/events?channel=group.x&since=${ids[0]}&epoch=${epoch}`), { status: 200, body: { recovered: true, epoch, data: [{}, {}] } })
    t.match(await rest(host, user(1), 'GET', `/events?channel=group.x&since=${ids[0]}&epoch=another`), { status: 200, body: { recovered: false, position: ids[2], data: [] } })
  })

  test('a client whose cursor is beyond the newest event must reload, also when the log has grown past it since', async (t) => {
    const host = await buildHost(t, { backend, options: allowAll })
    const client = await connect(host, user(1))
    const ids = await send(host, 2)
    const beyond = Number(ids[1]) + 1000
    t.match(await client.request('subscribe', { channel: 'group.x', since: beyond }), { recovered: false, position: ids[1] })
  })

  test('a log that was restored to an older state gets a new epoch, and clients with old cursors must reload', async (t) => {
    const host = await buildHost(t, { backend, options: allowAll })
    const reader = await connect(host, user(2))
    await reader.request('subscribe', { channel: 'group.x' })
    await send(host, 2)
    const { restore } = await backup(host)
    const lost = await send(host, 3, 3)
    const before = epochOf(host)
    await restore()
    const after = await nextEpoch(host, before)
    const [fresh = 0] = await send(host, 1, 6)
    t.ok(fresh > Number(lost.at(-1)) + 999_999, `${fresh} is far past ${lost.at(-1)}`)
    await reader.next('message:group', ({ messageId }) => messageId === fresh)
    t.match(await reader.request('subscribe', { channel: 'group.x', since: lost.at(-1), epoch: before }), { recovered: false, position: fresh, epoch: after })
    t.match(await reader.request('subscribe', { channel: 'group.x', since: lost.at(-1) }), { recovered: false }, 'also without its epoch')
  })

  test('a log that was emptied never gives an id out again', async (t) => {
    const host = await buildHost(t, { backend, options: allowAll })
    const ids = await send(host, 5)
    const before = epochOf(host)
    await query(host, isEmbedded(backend) ? 'delete from websocket_events' : 'truncate table websocket_events')
    if (isEmbedded(backend)) await query(host, "delete from sqlite_sequence where name = 'websocket_events'").catch(() => {})
    // At once: the next insert finds out by the id it gets.
    const [next = 0] = await send(host, 1)
    t.ok(next > Number(ids.at(-1)), `${next} after ${ids.at(-1)}`)
    await nextEpoch(host, before)
  })
})

t.test('Two nodes over MariaDB and Redis', async (t) => {
  t.test('events with ids that a lagging replica assigns again are stored again before they are acked, and reach every subscriber', async (t) => {
    const [a, b] = await buildCluster(t, 2, { options: allowAll }) as [Host, Host]
    const reader = await connect(b, user(2))
    await reader.request('subscribe', { channel: 'group.x' })
    const kept = await send(a, 2)
    const { restore } = await backup(a)
    const lost = await send(a, 20, 100)
    const emitted = await received(reader, [...kept, ...lost])
    // The promoted server has neither the rows nor their ids.
    await restore()
    const acked = (await Promise.all([send(a, 20, 200), send(b, 20, 300)])).flat()
    t.strictSame(acked.filter((id) => id <= Number(lost.at(-1))), [], 'no id is given out twice')
    emitted.push(...await received(reader, acked))
    const rows = await internalsOf(a.app).database.db.selectFrom('websocket_events').select('id').where('durable', '=', 1).execute()
    const stored = new Set(rows.map(({ id }) => Number(id)))
    t.strictSame(acked.filter((id) => !stored.has(id)), [], 'nothing acked is missing')
    await until('both follow one epoch', () => epochOf(a) === epochOf(b))
    t.equal(new Set(emitted.map(({ message }) => message)).size, emitted.length, 'nothing is delivered twice')
  })

  t.test('a database restored while no node ran is detected by the position in Redis', async (t) => {
    const [a] = await buildCluster(t, 1, { options: allowAll }) as [Host]
    await send(a, 2)
    const { restore } = await backup(a)
    const lost = await send(a, 5, 10)
    const before = epochOf(a)
    await until('Redis knows', async () => (await internalsOf(a.app).eventLog.epoch.look()).newest >= Number(lost.at(-1)))
    await new Promise((resolve) => setTimeout(resolve, 1500)) // the note is written once a second
    internalsOf(a.app).eventLog.epoch.stop()
    await restore()
    const b = await besideOf(t, a)
    t.not(epochOf(b), before)
    const [fresh = 0] = await send(b, 1, 20)
    t.ok(fresh > Number(lost.at(-1)) + 999_999)
  })
})

/** Another node on the same servers. */
async function besideOf (t: Test, { app }: Host): Promise<Host> {
  const { keyPrefix } = internalsOf(app).settings
  const { rows: [row] } = await internalsOf(app).database.db.executeQuery<{ name: string }>(CompiledQuery.raw('select database() as name'))
  const url = new URL(process.env.DATABASE_URL ?? '')
  url.pathname = `/${row?.name}`
  return await buildHost(t, { backend: 'embedded', options: { ...allowAll, database: url.href, redis: process.env.REDIS_URL, keyPrefix } })
}

t.test('After a restore without Redis, the restored command makes ids continue far past those of the backup', async (t) => {
  const file = join(temporaryFolder('restored'), 'a.db')
  const host = await buildHost(t, { backend: 'embedded', options: { ...allowAll, database: `sqlite:${file}` } })
  await send(host, 3)
  const before = epochOf(host)
  await query(host, 'pragma wal_checkpoint(truncate)').catch(() => {})
  await host.app.close()
  const copy = join(temporaryFolder('restored'), 'b.db')
  copyFileSync(file, copy)
  rmSync(file)
  const database = openDatabase(`sqlite:${copy}`)
  const { epoch, marker } = await new EpochStore(database.db, new Ids('integer'), 'cli').restored(0)
  await database.close()
  t.not(epoch, before)
  const again = await buildHost(t, { backend: 'embedded', options: { ...allowAll, database: `sqlite:${copy}` } })
  t.equal(epochOf(again), epoch)
  const [next = 0] = await send(again, 1)
  t.ok(next > marker)
})

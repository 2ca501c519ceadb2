import type { Test } from 'tap'
import type { LogPosition, PositionNote } from '../../lib/event-log/contract.js'
import { Maintenance } from '../../lib/maintenance.js'
import { backUp, resetIds } from '../restore.js'
import { log as silent } from '../suites.js'
import { group, type Node, type OpenNode, type Storage } from './world.js'

const STEP = 1_000_000
const DAY = 24 * 3600_000

const appendAll = async ({ log }: Node, count: number, text = 'm'): Promise<number[]> =>
  (await Promise.all(Array.from({ length: count }, async (_, i) => await log.append(group(`${text}${i}`))))).map(({ messageId }) => messageId)

/** Keeps the newest of all, as Redis does. */
const noteOf = (): PositionNote & { newest: LogPosition | null } => ({
  newest: null,
  async keep (mine) {
    if (this.newest === null || mine.id >= this.newest.id) this.newest = mine
    return this.newest
  }
})

const markers = async (node: Node): Promise<number[]> =>
  (await node.rows()).filter(({ event_type: type }) => type === 'realtime:epoch').map(({ id }) => Number(id))

/** A log that went back: nobody who resumes misses anything unseen, and nothing new is taken for something old. */
export function epochs (t: Test, open: OpenNode, { poison }: Storage): void {
  t.test('a cursor past the newest event of the log is not of this log, and must be told so', async (t) => {
    const node = await open(t)
    const { log } = node
    const ids = await appendAll(node, 3)
    const newest = ids[2] ?? 0
    const lost = { epoch: log.epoch, events: [], position: newest, recovered: false, more: false }
    for (const epoch of [undefined, log.epoch]) {
      t.strictSame(await log.recover(1, 'group.1', newest + 1, epoch), lost)
      t.strictSame(await log.read(1, 'group.1', newest + 1, 10, epoch), lost)
      t.match(await log.recover(1, 'group.1', newest, epoch), { recovered: true, position: newest, epoch: log.epoch })
    }
    const [other] = (await Promise.all([log.append(group('elsewhere', { channel: 'group.2' }))])).map(({ messageId }) => messageId)
    t.match(await log.recover(1, 'group.1', other ?? 0), { recovered: true }, 'the newest of the whole log counts')
  })

  t.test('a cursor of another epoch gets nothing but the head, to begin anew from', async (t) => {
    const node = await open(t)
    const { log } = node
    const ids = await appendAll(node, 3)
    for (const since of [0, ids[0] ?? 0, ids[2] ?? 0]) {
      const answer = { epoch: log.epoch, events: [], position: ids[2], recovered: false, more: false }
      t.strictSame(await log.recover(1, 'group.1', since, 'another'), answer)
      t.strictSame(await log.read(1, 'group.1', since, 10, 'another'), answer)
    }
    t.match(await log.recover(1, 'group.1', 0, log.epoch), { recovered: true, events: { length: 3 } })
  })

  t.test('after a restored backup the next event has an id that nobody had before, and reaches who is connected', async (t) => {
    const node = await open(t)
    const { log, listen, settle, rows, db } = node
    const reader = await listen('group.1')
    const kept = await appendAll(node, 5, 'kept')
    await settle()
    const backup = await backUp(db.db)
    const lost = await appendAll(node, 5, 'lost')
    await settle()
    const before = log.epoch
    await backup.restore()

    const { messageId } = await log.append(group('new'))
    await settle()
    t.ok(messageId > Math.max(...lost) + STEP, `${messageId}`)
    t.not(log.epoch, before)
    t.match(log.epoch, /^[A-Za-z0-9_-]{1,32}$/)
    t.strictSame(reader.messages().at(-1), 'new')
    const durable = (await rows()).filter((row) => Number(row.durable) === 1)
    t.strictSame(durable.map(({ id }) => Number(id)), [...kept, messageId], 'it stands there once, under the id that its sender was told')

    for (const since of [kept[2], lost[2]]) {
      t.match(await log.recover(1, 'group.1', since ?? 0, before), { recovered: false, events: [], position: messageId, epoch: log.epoch })
    }
    t.match(await log.recover(1, 'group.1', lost[2] ?? 0), { recovered: false }, 'also without an epoch: no event of this log has that id')
    const resumed = await log.recover(1, 'group.1', kept[4] ?? 0, log.epoch)
    t.match([resumed.recovered, resumed.events.map(({ id }) => id)], [true, [messageId]])
    t.match(await log.recover(1, 'group.1', kept[4] ?? 0), { recovered: true, events: [{ id: messageId }] })
    t.equal((await log.append(group('next'))).messageId > messageId, true)
    t.equal((await markers(node)).length, 1)
  })

  t.test('who resumes before anything new is stored is told of the restored backup too', async (t) => {
    const node = await open(t)
    const { log, db } = node
    const kept = await appendAll(node, 3)
    const backup = await backUp(db.db)
    await appendAll(node, 3)
    const before = log.epoch
    await backup.restore()
    t.match(await log.recover(1, 'group.1', kept[1] ?? 0, before), { recovered: false, position: kept[2] })
    t.not(log.epoch, before)
    t.match(await log.recover(1, 'group.1', kept[1] ?? 0, log.epoch), { recovered: true, events: [{ id: kept[2] }] })
  })

  t.test('what another node stores under old ids, before anyone noticed, is told to those who had the old ones', async (t) => {
    const a = await open(t)
    const reader = await a.listen('group.1')
    await appendAll(a, 5)
    const backup = await backUp(a.db.db)
    const lost = await appendAll(a, 10, 'lost')
    await a.settle()
    await backup.restore()
    // It has heard of no id, as it had nobody to tell.
    const b = await open.beside(t, a, { origin: 'node-b', alone: true })
    const { messageId } = await b.log.append(group('new'))
    await b.settle()
    await a.until(() => reader.messages().includes('new'))
    t.equal(messageId, lost[0], 'nobody could know')
    t.equal(reader.messages().filter((message) => message === 'new').length, 1)
    await b.log.epochs.look()
    t.equal(a.log.epoch, b.log.epoch)
    t.ok((await b.log.append(group('newer'))).messageId > (lost[9] ?? 0) + STEP)
  })

  t.test('a log that has grown past the cursor since then does not hide what is missing', async (t) => {
    const a = await open(t)
    const kept = await appendAll(a, 5)
    const backup = await backUp(a.db.db)
    const seen = await appendAll(a, 5, 'lost')
    const before = a.log.epoch
    await backup.restore()
    const b = await open.beside(t, a, { origin: 'node-b', alone: true })
    b.clock.advance(1000)
    const ids = await appendAll(b, 20, 'new')
    t.ok((ids.at(-1) ?? 0) > (seen.at(-1) ?? 0) && ids.includes(seen[4] ?? 0), 'ids were given out again')
    for (const epoch of [undefined, before]) t.match(await a.log.recover(1, 'group.1', seen[4] ?? 0, epoch), { recovered: false, position: ids.at(-1) })
    t.not(a.log.epoch, before)
    t.match(await a.log.recover(1, 'group.1', kept[4] ?? 0, a.log.epoch), { recovered: true, events: { length: 20 } })
  })

  t.test('a node whose last insert failed asks the others before it stores again', async (t) => {
    const a = await open(t)
    const backup = await backUp(a.db.db)
    const lost = await appendAll(a, 10, 'lost')
    await backup.restore()
    const b = await open.beside(t, a, { origin: 'node-b', alone: false })
    await t.rejects(b.log.append(group('poison', poison)))
    const { messageId } = await b.log.append(group('new'))
    t.ok(messageId > (lost.at(-1) ?? 0) + STEP, `${messageId}`)
    t.equal(a.log.epoch, b.log.epoch, 'and the others were told')
  })

  t.test('a truncated table begins a new epoch', async (t) => {
    const node = await open(t)
    const { log, db } = node
    const ids = await appendAll(node, 5)
    const before = log.epoch
    await db.db.deleteFrom('websocket_events').execute()
    await resetIds(db.db)
    await log.epochs.look()
    t.not(log.epoch, before)
    t.match(await log.recover(1, 'group.1', ids[2] ?? 0, before), { recovered: false, position: 0 })
    t.ok((await log.append(group('new'))).messageId > (ids[4] ?? 0) + STEP)
  })

  t.test('a server that forgot its counter gives no id out again', async (t) => {
    const node = await open(t)
    const { log, db, clock, settle, rows } = node
    const ids = await appendAll(node, 5)
    await settle()
    clock.advance(31 * DAY)
    const { events } = await new Maintenance({ ...db, clock, log: silent, retentionDays: 30, aliveNodes: async () => null }).run()
    t.equal(events, 4, 'the newest row stays, however old it is')
    await resetIds(db.db)
    const before = log.epoch
    t.equal((await log.append(group('new'))).messageId, (ids[4] ?? 0) + 1)
    t.equal(log.epoch, before)
    t.equal((await rows()).length, 2)
  })

  t.test('nodes that notice at once begin one epoch', async (t) => {
    const a = await open(t)
    const backup = await backUp(a.db.db)
    const b = await open.beside(t, a, { origin: 'node-b', db: open.database(t), alone: false })
    const c = await open.beside(t, a, { origin: 'node-c', db: open.database(t), alone: false })
    const nodes = [a, b, c]
    for (const node of nodes) await appendAll(node, 10)
    const before = a.log.epoch
    await backup.restore()
    const appended = await Promise.all(nodes.flatMap((node) => [appendAll(node, 10), node.log.epochs.look().then(() => [])]))
    await Promise.all(nodes.map(async ({ log }) => await log.epochs.look()))
    t.equal(new Set(nodes.map(({ log }) => log.epoch)).size, 1)
    t.not(a.log.epoch, before)
    const made = await markers(a)
    t.equal(made.length, 1)
    const ids = appended.flat()
    t.equal(new Set(ids).size, 30)
    t.ok(ids.every((id) => id > (made[0] ?? Infinity)), 'what was acked has ids past the marker')
    t.strictSame((await a.rows()).filter((row) => Number(row.durable) === 1).map(({ id }) => Number(id)), ids.toSorted((x, y) => x - y))
  })

  t.test('an epoch that was replaced and comes back with a backup is replaced again', async (t) => {
    const node = await open(t)
    const { log, db } = node
    const first = log.epoch
    const kept = await appendAll(node, 3)
    const backup = await backUp(db.db)
    await appendAll(node, 3)
    await backup.restore()
    await log.epochs.look()
    const second = log.epoch
    // As while a dump is loaded table by table: the events have the marker, and the epoch is the old one.
    await backup.restore(['websocket_meta'])
    await log.epochs.look()
    const third = log.epoch
    t.equal(new Set([first, second, third]).size, 3)
    t.match(await log.recover(1, 'group.1', (kept[2] ?? 0) + 1, first), { recovered: false })
    t.match(await log.recover(1, 'group.1', kept[1] ?? 0, second), { recovered: false })
    t.match(await log.recover(1, 'group.1', kept[1] ?? 0, third), { recovered: true })
    await backup.restore()
    await log.epochs.look()
    t.notOk([first, second, third].includes(log.epoch), 'whatever comes back')
  })

  t.test('a node that knows of a larger id than the epoch was begun past moves the ids again', async (t) => {
    const a = await open(t)
    const backup = await backUp(a.db.db)
    await appendAll(a, 3)
    await backup.restore()
    await a.log.epochs.look()
    const before = a.log.epoch
    const newest = a.log.epochs.newest + 5 * STEP
    a.log.epochs.hear({ epoch: before, id: newest, createdAt: null })
    await a.log.epochs.look()
    t.not(a.log.epoch, before)
    t.ok((await a.log.append(group('new'))).messageId > newest + STEP)
  })

  t.test('numbers that are no ids are not believed, wherever they come from', async (t) => {
    const node = await open(t)
    const { log } = node
    const [first = 0] = await appendAll(node, 1)
    const before = log.epoch
    for (const id of [2 ** 53, Number.MAX_SAFE_INTEGER, -1, 0.5, Number.NaN, '7', null]) log.epochs.hear({ epoch: before, id, createdAt: null })
    for (const rubbish of [null, 'x', 7, [], {}, { epoch: 'no epoch!', id: 1e9, createdAt: null }, { epoch: before, id: 1e9, createdAt: 'now' }]) log.epochs.hear(rubbish)
    node.hub.newest = Number.MAX_SAFE_INTEGER
    const { messageId } = await log.append(group('new'))
    t.equal(log.epoch, before)
    t.equal(messageId, first + 1)
  })

  t.test('a backup that was restored while no node ran is found at the start by what Redis noted', async (t) => {
    const note = noteOf()
    const node = await open(t, { note })
    const backup = await backUp(node.db.db)
    const lost = await appendAll(node, 5)
    await node.log.epochs.start()
    t.equal(note.newest?.id, lost[4])
    await node.log.close()
    await backup.restore()
    const next = await open.beside(t, node, { origin: 'node-b', note, alone: true })
    await next.log.epochs.start()
    t.not(next.log.epoch, node.log.epoch)
    t.ok((await next.log.append(group('new'))).messageId > (lost[4] ?? 0) + STEP)
  })

  t.test('a host that publishes in its transaction is told to try again, and the next time it succeeds', async (t) => {
    const node = await open(t)
    const { log, db, rows } = node
    const backup = await backUp(db.db)
    const lost = await appendAll(node, 5)
    await backup.restore()
    const publish = async () => await db.db.transaction().execute(async (transaction) => await log.appendWithin(transaction, group('within')))
    await t.rejects(publish(), { code: 'RT_STORAGE_UNAVAILABLE', retryAfter: 1 })
    await log.epochs.look()
    const { messageId } = await publish()
    t.ok(messageId > (lost[4] ?? 0) + STEP)
    t.strictSame((await rows()).filter((row) => Number(row.durable) === 1).map(({ id }) => Number(id)), [messageId])
  })

  t.test('rows for the record that fill up old ids are noticed too', async (t) => {
    const node = await open(t)
    const { log, db, until } = node
    const backup = await backUp(db.db)
    const seen = await appendAll(node, 5)
    const before = log.epoch
    await backup.restore()
    for (let i = 0; i < 10; i++) log.audit({ tenantId: 1, userId: 7, type: 'user:typing', channel: 'group.1', data: {} })
    await until(() => log.epoch !== before)
    t.match(await log.recover(1, 'group.1', seen[4] ?? 0, before), { recovered: false })
  })

  t.test('the marker of an epoch is in nothing that anybody reads', async (t) => {
    const node = await open(t)
    const { log, db, clock, failed, settle, listen } = node
    const reader = await listen('group.1')
    const backup = await backUp(db.db)
    await appendAll(node, 2)
    await settle()
    await backup.restore()
    await log.epochs.look()
    const [marker = 0] = await markers(node)
    t.ok(Number.isSafeInteger(marker))
    for (const tenantId of [0, 1]) {
      for (const channel of ['epoch', 'group.1']) {
        t.match(await log.read(tenantId, channel, 0, 10, log.epoch), { events: [], position: 0, recovered: true })
        t.equal(await log.position(tenantId, channel), 0)
      }
      t.strictSame(await log.counts(tenantId), { pending: 0, failed: 0 })
      t.strictSame(await log.missedInAll({ tenantId, channels: ['epoch', 'group.1'], since: 0, complete: 0, handedSince: 0, limit: 10 }), [])
    }
    clock.advance(DAY)
    await log.outbox.sweep()
    t.strictSame([await log.store.due(clock.now(), 10), await log.store.unhanded(10), failed, reader.messages().length], [[], [], [], 2])
    await appendAll(node, 1)
    clock.advance(40 * DAY)
    await new Maintenance({ ...db, clock, log: silent, retentionDays: 30, aliveNodes: async () => null }).run()
    const before = log.epoch
    await log.epochs.look()
    t.equal(log.epoch, before, 'it may be purged like any row')
  })

  t.test('an event of a log that only grows costs no look at it', async (t) => {
    const node = await open(t)
    const { log } = node
    await log.epochs.look()
    let looks = 0
    const verify = log.epochs.verify.bind(log.epochs)
    log.epochs.verify = async (doubt) => {
      looks++
      await verify(doubt)
    }
    for (let i = 0; i < 5; i++) await appendAll(node, 20)
    t.equal(looks, 0)
  })
}

import type { Test } from 'tap'
import { jsonText } from '../../lib/database/dialect.js'
import { MAX_REPLAY } from '../../lib/event-log/index.js'
import { Maintenance } from '../../lib/upkeep/maintenance.js'
import { log as silent } from '../suites.js'
import { direct, group, missed, positionOf, type Node, type OpenNode } from './world.js'

const DAY = 24 * 3600_000

const maintenance = ({ db, clock }: Node): Maintenance =>
  new Maintenance({ ...db, clock, log: silent, retentionDays: 30, aliveNodes: async () => null, purges: [] })

const appendAll = async ({ log }: Node, count: number, rest: object = {}): Promise<number[]> =>
  (await Promise.all(Array.from({ length: count }, async (_, i) => await log.append(group(String(i), rest))))).map(({ messageId }) => messageId)

/** What a subscriber missed, and how it is told where something is gone. */
export function recover (t: Test, open: OpenNode): void {
  const idsOf = (events: ReadonlyArray<{ id: number }>): number[] => events.map(({ id }) => id)

  t.test('all events after `since` are returned oldest first, of that channel and tenant alone', async (t) => {
    const node = await open(t)
    const { log } = node
    const ids = await appendAll(node, 5)
    await appendAll(node, 2, { channel: 'group.2' })
    await appendAll(node, 2, { tenantId: 2 })
    await appendAll(node, 2, { channel: 'group.1 '.trim().toUpperCase() })
    const all = await missed(log, 1, 'group.1', 0)
    t.match(all, { recovered: true, position: ids[4] })
    t.strictSame(all.ids, ids)
    t.match(all.frames[0], { event: 'message:group', data: { messageId: ids[0], userId: 7, message: '0', timestamp: String } })
    const some = await missed(log, 1, 'group.1', ids[2] ?? 0)
    t.strictSame([some.ids, some.position, some.recovered], [ids.slice(3), ids[4], true])
    t.strictSame(await missed(log, 1, 'group.1', ids[4] ?? 0), { ids: [], frames: [], position: ids[4], recovered: true })
    t.strictSame(await missed(log, 1, 'group.404', 0), { ids: [], frames: [], position: 0, recovered: true })
  })

  t.test('the position of a channel is its newest event, with local subscribers or without', async (t) => {
    const node = await open(t)
    const { log, listen, settle } = node
    t.equal(await positionOf(log, 1, 'group.1'), 0)
    const [first] = await appendAll(node, 1)
    t.equal(await positionOf(log, 1, 'group.1'), first)
    await listen('group.1')
    t.equal(await positionOf(log, 1, 'group.1'), first)
    const ids = await appendAll(node, 3)
    await settle()
    t.equal(await positionOf(log, 1, 'group.1'), ids[2])
    t.equal(await positionOf(log, 2, 'group.1'), 0)
  })

  t.test('a gap of a thousand events is replayed; a larger one is reported instead', async (t) => {
    const node = await open(t)
    const { log } = node
    const ids = await appendAll(node, MAX_REPLAY + 1)
    t.strictSame(await missed(log, 1, 'group.1', 0), { ids: [], frames: [], position: ids.at(-1), recovered: false })
    const found = await missed(log, 1, 'group.1', ids[0] ?? 0)
    t.match(found, { recovered: true, position: ids.at(-1) })
    t.strictSame(found.ids, ids.slice(1))
  })

  t.test('a page starts where the last one ended', async (t) => {
    const node = await open(t)
    const { log } = node
    const ids = await appendAll(node, 5)
    const pages: number[][] = []
    for (let since = 0, more = true; more;) {
      const page = await log.read(1, 'group.1', since, 2)
      pages.push(idsOf(page.events))
      t.ok(page.recovered)
      t.equal(page.position, page.events.at(-1)?.id)
      since = page.position
      more = page.more
    }
    t.strictSame(pages, [ids.slice(0, 2), ids.slice(2, 4), ids.slice(4)])
    t.match(await log.read(1, 'group.1', 0, 5), { more: false, position: ids[4] }, 'a page that just fits is the last')
  })

  t.test('a client that resumes from before a purge must reload, unless it saw everything that was purged', async (t) => {
    const node = await open(t)
    const { log, clock, settle, rows } = node
    const old = await appendAll(node, 1100)
    const kept = await appendAll(node, 1, { channel: 'group.2' })
    await settle()
    clock.advance(20 * DAY)
    const young = await appendAll(node, 3)
    await settle()
    t.match(await maintenance(node).run(), { events: 0 }, 'nothing is old enough')
    clock.advance(11 * DAY)
    t.match(await maintenance(node).run(), { events: 1101 })
    t.strictSame((await rows()).map(({ id }) => Number(id)), young)
    t.strictSame(await missed(log, 1, 'group.1', 0), { ids: [], frames: [], position: young[2], recovered: false })
    t.match(await missed(log, 1, 'group.1', old[1098] ?? 0), { recovered: false }, 'the last one is missing')
    const whole = await missed(log, 1, 'group.1', old[1099] ?? 0)
    t.strictSame([whole.recovered, whole.ids], [true, young])
    t.match(await log.read(1, 'group.1', 0, 10), { recovered: false })
    t.match([await missed(log, 1, 'group.2', 0), await missed(log, 1, 'group.2', kept[0] ?? 0)], [{ recovered: false }, { recovered: true }])
    t.match(await missed(log, 2, 'group.1', 0), { recovered: true }, 'another tenant’s channel of that name')
    clock.advance(20 * DAY)
    await maintenance(node).run()
    t.match(await missed(log, 1, 'group.1', old[1099] ?? 0), { recovered: false }, 'the floor rises')
  })

  t.test('a message that was not confirmed for a week has failed, and is purged like others', async (t) => {
    const node = await open(t)
    const { log, clock, settle, rows } = node
    await log.append(direct('old'))
    await settle()
    clock.advance(6 * DAY)
    t.match(await maintenance(node).run(), { failed: 0, events: 0 })
    clock.advance(2 * DAY)
    t.match(await maintenance(node).run(), { failed: 1, events: 0 })
    t.match(await rows(), [{ status: 'failed', error_message: /7 days/ }])
    await log.sweep()
    t.match([node.failed, await rows()], [[{ type: 'message:direct' }], [{ due_at: null }]], 'the host is told by a node')
    await log.sweep()
    t.equal(node.failed.length, 1, 'once')
    clock.advance(30 * DAY)
    t.match(await maintenance(node).run(), { events: 0 }, 'the newest row stays')
    await appendAll(node, 1, { channel: 'group.2' })
    t.match(await maintenance(node).run(), { events: 1 })
    t.match(await missed(log, 1, 'private-user.8', 0), { recovered: false })
  })

  t.test('rows of ephemeral events are a record alone: never recovered, never due, no gap when purged', async (t) => {
    const node = await open(t)
    const { log, clock, rows, listen } = node
    const reader = await listen('group.1')
    const [id] = await appendAll(node, 1)
    log.audit({ tenantId: 1, userId: 7, type: 'user:typing', channel: 'group.1', data: { isTyping: true, text: 'ž' } })
    await log.close()
    const audits = (await rows()).filter(({ event_type: type }) => type === 'user:typing')
    t.match(audits, [{ tenant_id: 1, user_id: 7, channel: 'group.1', status: 'delivered', due_at: null }])
    t.strictSame(JSON.parse(jsonText(audits[0]?.payload)), { isTyping: true, text: 'ž' })
    const fresh = await open.beside(t, node, { origin: 'node-b' })
    t.strictSame((await missed(fresh.log, 1, 'group.1', 0)).ids, [id])
    t.equal(await positionOf(fresh.log, 1, 'group.1'), id)
    t.strictSame(await fresh.log.counts(1), { pending: 0, failed: 0 })
    t.strictSame(reader.ids(), [id])
    await fresh.db.db.deleteFrom('websocket_events').where('durable', '=', 1).execute()
    await appendAll(fresh, 1, { channel: 'group.2' })
    clock.advance(31 * DAY)
    t.match(await maintenance(fresh).run(), { events: 1 })
    t.match(await missed(fresh.log, 1, 'group.1', 0), { recovered: true })
  })

  t.test('an event that was overtaken by another node’s newer one is replayed to clients that saw the newer one', async (t) => {
    const a = await open(t)
    const b = await open.beside(t, a, { origin: 'node-b' })
    // Committed by a first, but handed on after b's.
    a.backplane.healthy = false
    const [late] = await appendAll(a, 1)
    await appendAll(a, 1, { channel: 'group.2' })
    await appendAll(a, 1, { tenantId: 2 })
    await a.settle()
    const [newer] = await appendAll(b, 1)
    await b.settle()
    const found = await missed(b.log, 1, 'group.1', newer ?? 0)
    t.strictSame([found.ids, found.position, found.recovered], [[late], newer, true])
    a.backplane.healthy = true
    await a.log.outbox.catchUp()
    t.strictSame((await missed(b.log, 1, 'group.1', newer ?? 0)).ids, [late], 'handed on at the same time: one cannot know')
    t.strictSame(idsOf((await b.log.read(1, 'group.1', newer ?? 0, 10)).events), [late], 'also page by page')
    t.strictSame((await missed(b.log, 1, 'group.1', 0)).ids, [late, newer], 'and once from the start')
  })

  t.test('an event that was published well before is not, and events of one node never overtake each other', async (t) => {
    const a = await open(t)
    const b = await open.beside(t, a, { origin: 'node-b' })
    await appendAll(a, 1)
    await a.settle()
    a.clock.advance(5000)
    const [newer] = await appendAll(b, 1)
    await b.settle()
    t.strictSame((await missed(b.log, 1, 'group.1', newer ?? 0)).ids, [])
    b.backplane.healthy = false
    const [, last] = await appendAll(b, 2)
    t.strictSame((await missed(a.log, 1, 'group.1', last ?? 0)).ids, [])
  })
}

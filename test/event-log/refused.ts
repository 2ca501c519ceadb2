import type { Test } from 'tap'
import { jsonText } from '../../lib/database/dialect.js'
import type { Receipt } from '../../lib/event-log/index.js'
import { turn } from '../suites.js'
import { group, type OpenNode, type Storage } from './world.js'

/** What becomes of events that the database refuses, and of those beside them; and of more than there is room for. */
export function refused (t: Test, open: OpenNode, { poison, name }: Storage): void {
  t.test('one event that no row can hold is found by halving, among hundreds', async (t) => {
    const { log, listen, settle } = await open(t)
    const reader = await listen('group.1')
    let statements = 0
    const insert = log.store.insert.bind(log.store)
    log.store.insert = async (rows) => {
      statements++
      return await insert(rows)
    }
    const results = await Promise.allSettled(Array.from({ length: 400 }, async (_, i) => await log.append(group(String(i), i === 123 ? poison : {}))))
    await settle()
    t.strictSame(results.flatMap(({ status }, i) => status === 'rejected' ? [i] : []), [123])
    t.match(results[123], { reason: { code: 'RT_INTERNAL' } })
    t.strictSame(reader.messages(), Array.from({ length: 400 }, (_, i) => String(i)).filter((text) => text !== '123'))
    t.ok(statements <= 20, `${statements} statements`)
    t.ok(log.healthy)
  })

  t.test('an audit row that is refused takes no other with it', async (t) => {
    const { log, rows } = await open(t)
    for (let i = 0; i < 20; i++) log.audit({ tenantId: i, userId: 7, type: 'user:typing', channel: 'group.1', data: {}, ...(i === 11 ? poison : {}) })
    await log.close()
    t.strictSame((await rows()).map((row) => Number(row.tenant_id)), Array.from({ length: 20 }, (_, i) => i).filter((i) => i !== 11))
  })

  t.test('half a surrogate pair in what host code sends is replaced, and the event is stored and told', async (t) => {
    const { log, listen, settle, rows } = await open(t)
    const reader = await listen('group.1')
    const data = { text: 'a\ud83d', list: ['\udc00b', { '\ud83d': '🙂 \\ud83d' }] }
    await log.append(group('', { data }))
    log.audit({ tenantId: 1, userId: 7, type: 'user:presence', channel: 'group.2', data })
    await settle()
    const expected = { text: 'a\ufffd', list: ['\ufffdb', { '\ufffd': '🙂 \\ud83d' }] }
    t.match(reader.frames, [{ data: expected }])
    await log.close()
    t.match((await rows()).map(({ payload }) => JSON.parse(jsonText(payload)) as unknown), [expected, expected])
  })

  t.test('a key may have 98 characters of any kind, and those of notifications more', async (t) => {
    const { log } = await open(t)
    const keys = ['k'.repeat(98), 'k'.repeat(99), 'k'.repeat(500), 'k', 'k ', 'k  ', '🙂'.repeat(98), '\ud83d', 'é', 'e\u0301']
    const send = async (dedupeId: string): Promise<number> => (await log.append(group('x', { dedupeId }))).messageId
    const first: number[] = []
    for (const key of keys) first.push(await send(key))
    t.equal(new Set(first).size, keys.length)
    for (const [i, key] of keys.entries()) t.equal(await send(key), first[i])
  })

  t.test('host code may bring more than there is room for: all is stored, and clients are served in between', async (t) => {
    const { log, settle, rows } = await open(t, { maxQueued: 2000 })
    const many = log.appendAll(Array.from({ length: 6000 }, (_, i) => group(String(i))), { patient: true })
    const others = log.appendAll(Array.from({ length: 50 }, (_, i) => group(`other ${i}`)), { patient: true })
    let largest = 0
    let done = false
    const finished = Promise.all(many).then((receipts) => { done = true; return receipts })
    const asked: Array<Promise<Receipt>> = []
    let othersDoneFirst = false
    void Promise.all(others).then(() => { othersDoneFirst = !done })
    while (!done) {
      largest = Math.max(largest, log.queued)
      if (asked.length < 20) asked.push(log.append(group('from a client')))
      await turn()
    }
    const ids = (await finished).map(({ messageId }) => messageId)
    await Promise.all([...others, ...asked])
    await settle()
    t.strictSame(ids, ids.toSorted((a, b) => a - b), 'in the order given')
    t.equal((await rows()).length, 6000 + 50 + asked.length)
    t.ok(largest < 1500, `at most ${largest} waited`)
    t.ok(othersDoneFirst, 'a small call does not wait for a large one')
  })

  t.test('what a client brings at once is stored as a whole or not at all', async (t) => {
    const { log, rows } = await open(t, { maxQueued: 10 })
    const events = Array.from({ length: 6 }, (_, i) => group(String(i)))
    const results = await Promise.allSettled([...log.appendAll(events, { patient: false }), ...log.appendAll(events, { patient: false })])
    t.strictSame(results.map(({ status }) => status === 'fulfilled'), [...events.map(() => true), ...events.map(() => false)])
    t.match(results.at(-1), { reason: { code: 'RT_STORAGE_UNAVAILABLE', outcome: 'none' } })
    t.equal((await rows()).length, 6)
  })

  if (name === 'SQLite') return
  t.test('as many host transactions as the pool has connections may each begin with an event', async (t) => {
    const db = open.database(t)
    const { log, rows } = await open(t, { db })
    let begun = 0
    let all = (): void => {}
    const everybody = new Promise<void>((resolve) => { all = resolve })
    await Promise.all(Array.from({ length: 10 }, async (_, i) => {
      await db.db.transaction().execute(async (transaction) => {
        if (++begun === 10) all()
        await everybody
        await log.appendInTransaction(transaction, group(String(i)))
      })
    }))
    t.equal((await rows()).length, 10)
  })
}

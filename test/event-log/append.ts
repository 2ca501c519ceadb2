import type { Test } from 'tap'
import { toIso } from '../../lib/clock.js'
import { jsonText } from '../../lib/database/dialect.js'
import { DEDUPE_WINDOW_MS } from '../../lib/event-log/store.js'
import { turn } from '../suites.js'
import { direct, group, missed, positionOf, waitingFor, type OpenNode, type Storage } from './world.js'

/** What would end a text, a value, a row or a statement, or look like a mark, where it was not escaped. */
const HOSTILE = `'), (1, "x"); -- ' \\' \\\\' \\ ? ?? :a @b /* */ # \n\r\t\b\u001a %_\\`

/** What it takes for an event to be accepted, and who is told of it then. */
export function append (t: Test, open: OpenNode, { poison }: Storage): void {
  t.test('append returns id and time when the row is visible to other connections', async (t) => {
    const { log, clock } = await open(t)
    const elsewhere = open.database(t)
    for (const message of ['one', 'žluťoučký 日本語 👋 "\\ \u0000', HOSTILE]) {
      const dedupeId = message.replaceAll('\u0000', '').trimEnd()
      const { messageId, timestamp } = await log.append(group(message, { dedupeId }))
      t.equal(timestamp, toIso(clock.now()))
      const row = await elsewhere.db.selectFrom('websocket_events').selectAll().where('id', '=', messageId).executeTakeFirstOrThrow()
      t.equal(row.dedupe_id, `c:${dedupeId}`)
      t.match(row, { tenant_id: 1, user_id: 7, event_type: 'message:group', channel: 'group.1', origin: 'node-a', retry_count: 0, error_message: null })
      t.strictSame(JSON.parse(jsonText(row.payload)), { userId: 7, message, timestamp })
      t.equal(row.created_at, timestamp.replace('T', ' ').slice(0, 23))
      clock.advance(1234)
    }
  })

  t.test('a thousand events appended in one turn get ascending ids, and arrive in that order', async (t) => {
    const { log, listen, settle, rows } = await open(t)
    const readers = await Promise.all(['group.0', 'group.1', 'group.2'].map(async (channel) => await listen(channel)))
    const receipts = await Promise.all(Array.from({ length: 1000 }, async (_, i) =>
      await log.append(group(String(i), { channel: `group.${i % 3}` }))))
    await settle()
    const ids = receipts.map(({ messageId }) => messageId)
    t.strictSame(ids, ids.toSorted((a, b) => a - b))
    t.equal(new Set(ids).size, 1000)
    readers.forEach((reader, of3) => { t.strictSame(reader.ids(), ids.filter((_, i) => i % 3 === of3)) })
    t.strictSame((await rows()).map(({ id }) => Number(id)), ids)
  })

  t.test('events that are appended during a commit keep their order, too', async (t) => {
    const { log, listen, settle } = await open(t)
    const reader = await listen('group.1')
    const receipts: Array<ReturnType<typeof log.append>> = []
    for (let i = 0; i < 300; i++) {
      receipts.push(log.append(group(String(i))))
      if (i % 7 === 0) await turn()
    }
    const ids = (await Promise.all(receipts)).map(({ messageId }) => messageId)
    await settle()
    t.strictSame(reader.messages(), Array.from({ length: 300 }, (_, i) => String(i)))
    t.strictSame(reader.ids(), ids)
  })

  t.test('a frame with id, data and time reaches everyone except the connection that sent it', async (t) => {
    const { log, listen, settle } = await open(t)
    const [sender, other, elsewhere] = [await listen('group.1', 'sender'), await listen('group.1', 'other'), await listen('group.1', 'x', 2)]
    const { messageId, timestamp } = await log.append(group('hi', { excludeConnectionId: 'sender' }))
    await settle()
    t.strictSame(other.frames, [{ event: 'message:group', data: { messageId, userId: 7, message: 'hi', timestamp } }])
    t.strictSame([sender.frames, elsewhere.frames], [[], []])
  })

  t.test('an event that is copied to the sender reaches the sender’s other connections', async (t) => {
    const { log, listen, settle } = await open(t)
    const [recipient, sender, otherTab] = [await listen('private-user.8'), await listen('private-user.7', 'sender'), await listen('private-user.7', 'tab')]
    const { messageId } = await log.append(direct('hi', { excludeConnectionId: 'sender' }))
    await log.append(direct('to myself', { channel: 'private-user.7' }))
    await settle()
    t.strictSame([recipient.ids(), otherTab.messages(), sender.messages()], [[messageId], ['hi', 'to myself'], ['to myself']])
  })

  t.test('a repeated dedupe id returns the first result, in the same batch and later, and is published once', async (t) => {
    const { log, listen, settle, rows, clock } = await open(t)
    const reader = await listen('group.1')
    const once = async (message: string) => await log.append(group(message, { dedupeId: 'k' }))
    const [first, second] = await Promise.all([once('1'), once('2')])
    t.strictSame(second, first)
    clock.advance(DEDUPE_WINDOW_MS - 1)
    t.strictSame(await once('3'), first)
    const mixed = await Promise.all([log.append(group('before')), once('4'), log.append(group('after'))])
    t.strictSame(mixed[1], first)
    await settle()
    t.strictSame(reader.messages(), ['1', 'before', 'after'])
    t.equal((await rows()).length, 3)
  })

  t.test('a dedupe id belongs to the user, for five minutes', async (t) => {
    const { log, clock, rows } = await open(t)
    const keyed = async (rest: object = {}) => (await log.append(group('x', { dedupeId: 'k', ...rest }))).messageId
    const first = await keyed()
    const others = [await keyed({ userId: 8 }), await keyed({ tenantId: 2 }), await keyed({ dedupeId: 'K' })]
    t.equal(new Set([first, ...others]).size, 4)
    clock.advance(DEDUPE_WINDOW_MS)
    const second = await keyed()
    t.ok(second > Math.max(...others), 'then it is a new event')
    t.equal(await keyed(), second, 'whose key it is now')
    t.equal((await rows()).length, 5)
  })

  t.test('two nodes that append the same dedupe id at the same time store one event', async (t) => {
    const a = await open(t)
    const b = await open.beside(t, a, { origin: 'node-b', db: open.database(t) })
    const keys = Array.from({ length: 20 }, (_, i) => `k${i}`)
    const store = async ({ log }: typeof a, dedupeId: string) => (await log.append(group('x', { dedupeId }))).messageId
    for (const key of keys) {
      const [ofA, ofB] = await Promise.all([store(a, key), store(b, key)])
      t.equal(ofA, ofB)
    }
    const batches = await Promise.all([a, b].map(async (node) => await Promise.all(keys.map(async (key) => await store(node, `many.${key}`)))))
    t.strictSame(batches[0], batches[1])
    t.equal((await a.rows()).length, 2 * keys.length)
  })

  t.test('an event that cannot be stored fails alone, and the rest of its batch keeps its order', async (t) => {
    const { log, listen, settle } = await open(t)
    const reader = await listen('group.1')
    const appended = ['1', '2', 'poison', '3', '4'].map(async (message) =>
      await log.append(group(message, message === 'poison' ? poison : {})).catch((err: unknown) => err))
    const results = await Promise.all(appended)
    t.match(results[2], { code: 'RT_INTERNAL', statusCode: 500 })
    t.strictSame(results.map((result) => result instanceof Error), [false, false, true, false, false])
    await settle()
    t.strictSame(reader.messages(), ['1', '2', '3', '4'])
    t.ok(log.healthy, 'it is the event’s fault')
    t.ok((await log.append(group('5'))).messageId > 0)
  })

  t.test('a full queue refuses further events immediately, and accepts events again later', async (t) => {
    const { log, rows } = await open(t, { maxQueued: 5 })
    const results = await Promise.all(Array.from({ length: 8 }, async (_, i) =>
      await log.append(group(String(i))).catch((err: unknown) => err)))
    t.strictSame(results.map((result) => result instanceof Error), [false, false, false, false, false, true, true, true])
    for (const refused of results.slice(5)) t.match(refused, { code: 'RT_STORAGE_UNAVAILABLE', statusCode: 503, retryAfter: Number, outcome: 'none' })
    await log.append(group('later'))
    t.equal((await rows()).length, 6)
  })

  t.test('without a database every append and read is refused, immediately after the first', async (t) => {
    const db = open.database(t)
    const { log, listen } = await open(t, { db, timeout: 300 })
    await log.append(group('before'))
    const reader = await listen('group.1')
    await db.db.destroy()
    const refused = { code: 'RT_STORAGE_UNAVAILABLE', statusCode: 503, retryAfter: Number }
    const first = await Promise.all(['1', '2'].map(async (message) => await log.append(group(message)).catch((err: unknown) => err)))
    for (const err of first) t.match(err, refused)
    t.notOk(log.healthy)
    const since = performance.now()
    const asked = await Promise.allSettled([log.append(group('3')), log.read(1, 'group.1', 0, 10), missed(log, 1, 'group.1', 0), positionOf(log, 1, 'group.2'),
      log.confirm([{ tenantId: 1, userId: 8, id: 1 }]), waitingFor(log, 1, 8), log.counts(1)])
    for (const ask of asked) t.match(ask, { status: 'rejected', reason: refused })
    t.ok(performance.now() - since < 200, 'without asking the database')
    t.strictSame(reader.frames, [], 'and events that are not stored are not sent')
  })
}

import { sql } from 'kysely'
import { internalsOf } from '../lib/internals.js'
import { buildNodes, connect, overBackends, rest, rowsOf, until, user, type Host } from './helper.js'

const options = { authorize: () => true, presenceGrace: 0 }

interface Told { event: string, userId: number, senderId: number, messageId: number, type: string, data: Record<string, unknown>, reason?: string }

/** The events `waiting` and `failed` of all nodes. */
function listen (hosts: readonly Host[]): Told[] {
  const told: Told[] = []
  for (const { app: { realtime: { events } } } of new Set(hosts)) {
    for (const event of ['waiting', 'failed'] as const) events.on(event, (what) => { told.push({ event, ...what as unknown as Omit<Told, 'event'> }) })
  }
  return told
}

const send = async (host: Host, message: string, senderId = 2, recipientId = 1): Promise<number> =>
  (await rest(host, user(senderId), 'POST', '/messages/direct', { recipient_id: recipientId, message, conversation_id: 'c' })).body.data.message_id as number

/** Every message is published: from now on it waits to be confirmed. */
const published = async (host: Host, ids: number[]): Promise<unknown> => await until('published', async () => {
  const rows = await rowsOf(host, 'websocket_events')
  return ids.every((id) => rows.some((row) => Number(row.id) === id && row.handed_at !== null))
})

overBackends((test, backend) => {
  test('failed has the reason for which an event was given up', async (t) => {
    const hosts = await buildNodes(t, { backend, options, channels: { maxPending: 3 } })
    const [a, b] = hosts
    const told = listen(hosts)
    const failures = (): Told[] => told.filter(({ event }) => event === 'failed')

    // Nobody confirms: a reader who is connected.
    const reader = await connect(b, user(4))
    const unconfirmed = await send(a, 'unconfirmed', 2, 4)
    await reader.next('message:direct')
    const row = async (id: number): Promise<Record<string, unknown>> => (await rowsOf(a, 'websocket_events')).find((one) => Number(one.id) === id) as Record<string, unknown>
    const isSettled = async (ids: number[]): Promise<boolean> => (await Promise.all(ids.map(row))).every(({ status, due_at: due }) => status === 'failed' && due === null)
    await published(a, [unconfirmed])
    for (const [retries, delay] of [6000, 16_000, 61_000, 61_000, 61_000].entries()) {
      a.clock.advance(delay)
      await until('the next retry', async () => Number((await row(unconfirmed)).retry_count) > retries)
    }
    a.clock.advance(61_000)
    await until('it is given up', async () => await isSettled([unconfirmed]))
    t.match(failures(), [{ userId: 4, senderId: 2, messageId: unconfirmed, type: 'message:direct', reason: /5 retries/, data: { messageId: unconfirmed, message: 'unconfirmed', senderId: 2, recipientId: 4 } }])

    // Too many wait: the oldest of who sent most.
    const ids: number[] = []
    for (const message of ['1', '2', '3', '4', '5']) ids.push(await send(a, message))
    await published(a, ids)
    a.clock.advance(21_000)
    await until('what is too much is given up', async () => await isSettled(ids.slice(0, 2)))
    t.match(failures().slice(1).toSorted((x, y) => x.messageId - y.messageId), ids.slice(0, 2).map((messageId) => ({ userId: 1, messageId, reason: 'too many waiting' })))

    // Seven days.
    a.clock.advance(8 * 24 * 3600_000)
    await internalsOf(a.app).database.db.updateTable('websocket_events').set({ due_at: '2020-01-01 00:00:00.000' }).where('status', '=', 'pending').execute()
    await until('the rest is given up', async () => await isSettled(ids))
    t.match(failures().slice(3).toSorted((x, y) => x.messageId - y.messageId), ids.slice(2).map((messageId) => ({ messageId, reason: /7 days/ })))
    t.match((await rest(b, user(1), 'GET', '/conversations')).body.data, [{ with: 2, unread: 5 }], 'what was given up is still there, and unread')
    t.equal(new Set(failures().map(({ messageId }) => messageId)).size, 6, 'each once')
  })

  test('waitingAfter decides after which time an event is emitted as waiting', async (t) => {
    const hosts = await buildNodes(t, { backend, options, channels: { waitingAfter: 60_000 } })
    const [a] = hosts
    const told = listen(hosts)
    const id = await send(a, 'hi')
    await published(a, [id])
    a.clock.advance(58_000)
    for (const { app } of new Set(hosts)) await internalsOf(app).eventLog.sweep()
    t.strictSame(told, [])
    a.clock.advance(3000)
    await until('it waits', () => told.length > 0)
    t.match(told, [{ event: 'waiting', userId: 1, senderId: 2, messageId: id, type: 'message:direct', data: { messageId: id, message: 'hi' } }])
  })

  test('events of the host’s own transactions emit waiting and failed like others, and nothing if it rolls back', async (t) => {
    const hosts = await buildNodes(t, { backend, options })
    const [a] = hosts
    const told = listen(hosts)
    const { db } = internalsOf(a.app).database
    const direct = async (transaction: object, message: string): Promise<void> => {
      await a.app.realtime.channels.direct({ tenantId: 1, userId: 2, recipientId: 1, message, conversationId: 'c', transaction } as never)
    }
    await t.rejects(db.transaction().execute(async (transaction) => {
      await direct(transaction, 'rolled back')
      throw new Error('no stock')
    }), { message: 'no stock' })
    await db.transaction().execute(async (transaction) => { await direct(transaction, 'committed') })
    await until('it is published', async () => (await rowsOf(a, 'websocket_events')).some(({ handed_at: at }) => at !== null))
    a.clock.advance(11_000)
    await until('it waits', () => told.length === 1)
    a.clock.advance(8 * 24 * 3600_000)
    await db.updateTable('websocket_events').set({ due_at: '2020-01-01 00:00:00.000' }).where('status', '=', 'pending').execute()
    await until('it failed', () => told.length === 2)
    t.match(told, [{ event: 'waiting', userId: 1, senderId: 2, data: { message: 'committed' } }, { event: 'failed', userId: 1, reason: /7 days/, data: { message: 'committed' } }])
  })

  test('a deleted event is neither retried nor emitted as waiting, and an edited one is emitted with its current content', async (t) => {
    const hosts = await buildNodes(t, { backend, options })
    const [a, b] = hosts
    const told = listen(hosts)
    const reader = await connect(b, user(4))
    const [deleted, edited, shown] = [await send(a, 'deleted text'), await send(a, 'text before'), await send(a, 'shown text', 2, 4)]
    await reader.next('message:direct')
    await published(a, [deleted, edited, shown])
    for (const id of [deleted, shown]) t.equal((await rest(a, user(2), 'DELETE', `/messages/${id}`)).status, 200)
    t.equal((await rest(a, user(2), 'PATCH', `/messages/${edited}`, { message: 'text after' })).status, 200)
    await reader.next('message:deleted')
    a.clock.advance(11_000)
    await until('the other one waits', () => told.length > 0)
    a.clock.advance(70_000)
    await until('and is settled', async () => (await rowsOf(a, 'websocket_events')).every(({ due_at: due }) => due === null))
    t.match(told, [{ event: 'waiting', messageId: edited, data: { message: 'text after' } }])
    t.strictSame(await reader.soFar('message:direct'), [], 'not sent again')
    const back = await connect(b, user(1))
    t.match(await back.next('message:direct'), { messageId: edited, message: 'text after' })
    await back.soFar('message:direct')
    t.notMatch(JSON.stringify([back.frames, reader.frames]), /deleted text|text before|shown text/)
    const { rows } = await sql`select * from websocket_events`.execute(internalsOf(a.app).database.db)
    t.notMatch(JSON.stringify(rows), /deleted text|text before|shown text/)
  })

  test('POST /messages/delivered confirms 1 to 500 of the caller’s own messages', async (t) => {
    const [a, b] = await buildNodes(t, { backend, options })
    const confirm = async (ids: unknown, userId = 1): Promise<{ status: number, body: { data: { delivered: number[] } } }> =>
      await rest(b, user(userId), 'POST', '/messages/delivered', { message_ids: ids })
    const sender = await connect(a, user(2))
    const [one, two, other] = [await send(a, 'one'), await send(a, 'two'), await send(a, 'for another user', 2, 3)]
    const { body: { data: { message_ids: [notification] } } } = await rest(a, user(2), 'POST', '/notifications', { recipient_ids: [1], title: 't', body: 'b' })
    for (const ids of [[], undefined, 'x', [0], [-1], [1.5], ['x'], Array.from({ length: 501 }, (_, i) => i + 1)]) t.equal((await confirm(ids)).status, 400, JSON.stringify(ids)?.slice(0, 40))
    t.equal((await rest(b, null, 'POST', '/messages/delivered', { message_ids: [one] })).status, 401)
    t.strictSame((await confirm([one, other, 999_999])).body.data.delivered, [one], 'only the own ones')
    t.match(await sender.next('message:delivered'), { messageId: one, userId: 1 })
    t.strictSame((await confirm([one, two, notification])).body.data.delivered.toSorted((x, y) => x - y), [one, two, notification], 'again is no error')
    t.strictSame((await confirm(Array.from({ length: 500 }, (_, i) => other + 1000 + i))).body.data.delivered, [])
    t.strictSame((await confirm([other], 3)).body.data.delivered, [other])
    await until('nothing waits', async () => (await rowsOf(a, 'websocket_events')).every(({ status }) => status === 'delivered'))
    t.match((await sender.soFar('message:delivered')).map(({ messageId }) => messageId as number).filter((id) => id === one), [], 'sent once')
  })
})

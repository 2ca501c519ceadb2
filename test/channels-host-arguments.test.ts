import { internalsOf } from '../lib/internals.js'
import type { HostTransaction, RealtimeParts } from '../plugins/index.js'
import { allowAll, buildHost, buildNodes, connect, overBackends, rest, rowsOf, until, user } from './helper.js'

type Channels = RealtimeParts['channels']
/** As a JavaScript host may call it. */
type Untyped = Record<keyof Channels, (...args: unknown[]) => unknown>

const group = { tenantId: 1, channel: 'group.x' }
const words = { message: 'hello', conversationId: 'c' }

overBackends((test, backend) => {
  test('built-in events that host code publishes are complete frames', async (t) => {
    const [a, b] = await buildNodes(t, { backend, options: allowAll })
    const { channels } = a.app.realtime
    const [one, two] = [await connect(b, user(1)), await connect(b, user(2))]
    for (const client of [one, two]) await client.request('subscribe', { channel: 'group.x' })
    const published = await channels.publish({ ...group, userId: 7, event: 'message:group', data: words })
    const sent = await channels.group({ ...group, ...words })
    for (const client of [one, two]) {
      t.strictSame(await client.next('message:group'), { messageId: published.messageId, userId: 7, channel: 'group.x', ...words, timestamp: published.timestamp })
      t.strictSame(await client.next('message:group'), { messageId: sent.messageId, userId: 0, channel: 'group.x', ...words, timestamp: sent.timestamp })
    }
    await channels.publish({ tenantId: 1, userId: 2, channel: 'private-user.1', event: 'message:direct', data: words })
    await channels.direct({ tenantId: 1, userId: 2, recipientId: 1, ...words })
    for (let i = 0; i < 2; i++) t.match(await one.next('message:direct'), { senderId: 2, ...words })
    await channels.publish({ tenantId: 1, channel: 'private-user.1', event: 'notification:received', data: { title: 'New', body: 'mail' } })
    t.match(await one.next('notification:received'), { title: 'New', body: 'mail', icon: null, tag: null })
    await channels.publish({ tenantId: 1, channel: 'broadcast', event: 'broadcast:message', data: { message: 'closed' } })
    t.match(await two.next('broadcast:message'), { message: 'closed', messageType: 'info', senderId: 0 })
    channels.emit({ ...group, userId: 9, event: 'user:typing', data: { isTyping: true, conversationId: 'c', conversationType: 'group' } })
    t.match(await one.next('user:typing'), { userId: 9, isTyping: true, conversationId: 'c', conversationType: 'group', timestamp: String })
    const { body } = await rest(b, user(1), 'GET', '/events?channel=group.x')
    t.match(body.data, [{ event: 'message:group', data: { userId: 7, channel: 'group.x' } }, { event: 'message:group', data: { userId: 0 } }])
  })

  test('invalid arguments of host code are refused with the name of the argument, and nothing is stored', async (t) => {
    const host = await buildHost(t, { backend, options: allowAll })
    const channels = host.app.realtime.channels as unknown as Untyped
    await (await connect(host, user(1))).request('subscribe', { channel: 'group.x' })
    const event = { ...group, event: 'order:paid', data: { order: 1 } }
    const own = { ...group, event: 'message:group', data: words }
    const notification = { tenantId: 1, recipientIds: [1], title: 't', body: 'b' }
    const wrong: Array<[call: keyof Channels, argument: object, message: RegExp]> = [
      ['publish', { ...event, tenantId: undefined }, /^tenantId: is missing/],
      ['publish', { ...event, tenantId: NaN }, /^tenantId: is not an id/],
      ['publish', { ...event, tenantId: true }, /^tenantId: /],
      ['publish', { ...event, userId: -1 }, /^userId: /],
      ['publish', { ...event, channel: undefined }, /^channel: is missing/],
      ['publish', { ...event, channel: 'group x' }, /^channel: /],
      ['publish', { ...event, channel: '' }, /^channel: /],
      ['publish', { ...event, channel: 'user:me' }, /^channel: .*private-user/],
      ['publish', { ...event, channel: 'private-user.a:nn' }, /^channel: .*not the channel of a user/],
      ['publish', { ...event, channel: 'private-user.:0' }, /^channel: .*not the channel of a user/],
      ['publish', { ...event, event: '' }, /^event: /],
      ['publish', { ...event, event: 'x'.repeat(51) }, /^event: /],
      ['publish', { ...event, data: 'text' }, /^data: /],
      ['publish', { ...event, data: [1] }, /^data: /],
      ['publish', { ...event, data: null }, /^data: /],
      ['publish', { ...event, data: { n: 1n } }, /^data: cannot be written as JSON/],
      ['publish', { ...event, dedupeId: 'x'.repeat(99) }, /^dedupeId: /],
      ['publish', { ...event, dedupeId: '' }, /^dedupeId: /],
      ['publish', { ...event, transaction: {} }, /^transaction: /],
      ['publish', { ...event, transaction: internalsOf(host.app).database.db }, /^transaction: /],
      ['publish', { ...own, data: { message: 'x' } }, /^data.conversationId: /],
      ['publish', { ...own, data: { ...words, mesage: 'x' } }, /^data.mesage: is not a field of message:group/],
      ['publish', { ...own, data: { ...words, message: 'x'.repeat(5001) } }, /^data.message: /],
      ['publish', { ...own, data: { ...words, userId: 4 } }, /^data.userId: /],
      ['publish', { ...own, event: 'message:direct' }, /^channel: .*private-user/],
      ['publish', { ...group, event: 'broadcast:message', data: { message: 'x' } }, /^channel: .*broadcast/],
      ['publish', { ...group, event: 'user:typing', data: {} }, /^event: .*emit/],
      ['publish', { ...group, event: 'subscribed', data: { channel: 'group.x', position: 0 } }, /^event: .*one connection/],
      ['publish', { ...group, event: 'notification:send', data: {} }, /^event: .*clients/],
      ['emit', own, /^event: .*publish/],
      ['emit', { ...event, channel: 'a/b' }, /^channel: /],
      ['emit', { ...event, data: undefined }, /^data: /],
      ['emit', { ...event, data: { n: 1n } }, /^data: cannot be written as JSON/],
      ['emit', { ...group, event: 'user:typing', data: { isTyping: true, conversationId: 'c', conversationType: 'group' } }, /^data.userId: /],
      ['emit', { ...group, event: 'error', data: { code: 'RT_INTERNAL', message: 'x' } }, /^event: /],
      ['direct', { tenantId: 1, recipientId: 0, ...words }, /^recipientId: /],
      ['direct', { tenantId: 1, recipientId: [2], ...words }, /^recipientId: /],
      ['direct', { tenantId: 1, recipientId: 2, message: '', conversationId: 'c' }, /^data.message: /],
      ['group', { ...group, message: 'x' }, /^data.conversationId: /],
      ['notify', { ...notification, recipientIds: [1, 2.5] }, /^recipientIds.1: /],
      ['notify', { ...notification, recipientIds: 1 }, /^recipientIds: /],
      ['notify', { ...notification, title: undefined }, /^data.title: /],
      ['broadcast', { tenantId: 1, message: 5 }, /^data.message: /]
    ]
    for (const [call, argument, message] of wrong) {
      const what = `${call} ${message.source}`
      await t.rejects((async () => await channels[call](argument))(), { code: 'RT_INVALID_DATA', message }, what)
    }
    t.strictSame((await rowsOf(host, 'websocket_events')).filter(({ durable }) => Number(durable) === 1), [])
  })

  test('arguments of connections that cannot be right are refused with their name', async (t) => {
    const host = await buildHost(t, { backend, options: allowAll })
    const { connections } = host.app.realtime
    await t.rejects(connections.closeUser(1, NaN), { code: 'RT_INVALID_DATA', message: /^userId: / })
    await t.rejects(connections.closeUser(true as unknown as number, 1), { message: /^tenantId: / })
    await t.rejects(connections.close(1, ''), { message: /^connectionId: / })
    await t.rejects(connections.close(1, 'tab', 99 as never), { message: /^code: / })
    await t.rejects(connections.closeUser(1, 1, 4000, 'x'.repeat(124)), { message: /^reason: / })
    t.equal(await connections.closeUser(1, 1), 0)
  })

  test('an event of the host’s own transaction is published right after the commit', async (t) => {
    const [a, b] = await buildNodes(t, { backend, options: allowAll })
    const client = await connect(b, user(1))
    await client.request('subscribe', { channel: 'group.x' })
    const { realtime } = a.app
    const received: number[] = []
    realtime.events.on('message', ({ messageId }) => { received.push(messageId) })
    const delays: number[] = []
    const ids: number[] = []
    for (let i = 0; i < 20; i++) {
      const { messageId } = await internalsOf(a.app).database.db.transaction().execute(async (transaction) => {
        const receipt = await realtime.channels.publish({ ...group, event: 'order:paid', data: { i }, transaction })
        await new Promise((resolve) => setTimeout(resolve, i * 20))
        return receipt
      })
      const committed = performance.now()
      t.match(await client.next('order:paid'), { messageId, i })
      delays.push(performance.now() - committed)
      ids.push(messageId)
    }
    const median = delays.sort((x, y) => x - y)[10] ?? Infinity
    t.ok(median < 50, `${median.toFixed(1)} ms in the median`)
    t.strictSame(await client.soFar('order:paid'), [], 'once')
    await until('host code receives each', () => received.length >= ids.length)
    t.strictSame(received, ids, 'once')
  })

  test('a direct message within a transaction is sent once, and again only if it is not confirmed', async (t) => {
    const [a, b] = await buildNodes(t, { backend, options: allowAll })
    const { realtime } = a.app
    const client = await connect(b, user(1))
    const { messageId } = await internalsOf(a.app).database.db.transaction().execute(async (transaction) =>
      await realtime.channels.direct({ tenantId: 1, recipientId: 1, ...words, transaction }))
    t.match(await client.next('message:direct'), { messageId })
    await until('it is tried again later', async () => (await rowsOf(a, 'websocket_events')).some(({ id, due_at: due, handed_at: handed }) =>
      id === messageId && handed !== null && Date.parse(`${due}Z`) - Date.parse(`${handed}Z`) > 3000))
    await new Promise((resolve) => setTimeout(resolve, 1200)) // two beats of the sweeper
    t.strictSame(await client.soFar('message:direct'), [])
    a.clock.advance(6000)
    t.match(await client.next('message:direct'), { messageId })
  })

  test('events undone by a savepoint or a rollback are not published, and the others are', async (t) => {
    const host = await buildHost(t, { backend, options: allowAll })
    const client = await connect(host, user(1))
    await client.request('subscribe', { channel: 'group.x' })
    const { channels } = host.app.realtime
    const { database: { db } } = internalsOf(host.app)
    const publish = async (name: string, transaction: HostTransaction): Promise<unknown> => await channels.publish({ ...group, event: 'order:paid', data: { name }, transaction })
    const transaction = await db.startTransaction().execute()
    await publish('kept', transaction)
    const saved = await transaction.savepoint('before').execute()
    await publish('taken back', saved)
    await saved.rollbackToSavepoint('before').execute()
    await publish('kept too', saved)
    await transaction.commit().execute()
    const rolledBack = await db.startTransaction().execute()
    await publish('rolled back', rolledBack)
    await rolledBack.rollback().execute()
    const again = await db.startTransaction().execute()
    await publish('the last', again)
    await again.commit().execute()
    await client.next('order:paid', ({ name }) => name === 'the last')
    t.match(await client.soFar('order:paid'), [{ name: 'kept' }, { name: 'kept too' }])
  })
})


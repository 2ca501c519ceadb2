import { internalsOf } from '../lib/internals.js'
import { allowAll, buildHost, buildNodes, connect, overBackends, rest, rowsOf, until, user } from './helper.js'

overBackends((test, backend) => {
  test('host code publishes any event on any channel: it is stored, sent, and recovered', async (t) => {
    const [a, b] = await buildNodes(t, { backend, options: allowAll })
    const client = await connect(b, user(1))
    await client.request('subscribe', { channel: 'group.x' })
    const first = await a.app.realtime.channels.publish({ tenantId: 1, channel: 'group.x', event: 'order:paid', data: { order: 7 } })
    t.strictSame(await client.next('order:paid'), { messageId: first.messageId, order: 7, timestamp: first.timestamp })
    const second = await b.app.realtime.channels.publish({ tenantId: 1, userId: 5, channel: 'group.x', event: 'order:sent', data: { order: 7 } })
    t.match(await client.next('order:sent'), { messageId: second.messageId })
    await a.app.realtime.channels.publish({ tenantId: 2, channel: 'group.x', event: 'order:paid', data: { order: 8 } })
    t.match(await rest(a, user(1), 'GET', '/events?channel=group.x'), {
      status: 200,
      body: { data: [{ event: 'order:paid', data: { messageId: first.messageId, order: 7 } }, { event: 'order:sent' }], position: second.messageId, recovered: true, more: false }
    })
    t.match(await client.request('subscribe', { channel: 'group.x', since: first.messageId }), { recovered: true, position: second.messageId })
    t.match(await client.next('order:sent'), { messageId: second.messageId })
    t.strictSame(await client.soFar('order:paid'), [], 'nothing of another tenant')
    t.match(await rowsOf(a, 'websocket_events').then((rows) => rows.filter(({ durable }) => Number(durable) === 1)), [
      { tenant_id: 1, user_id: 0, event_type: 'order:paid', channel: 'group.x', payload: { order: 7 } },
      { tenant_id: 1, user_id: 5, event_type: 'order:sent' },
      { tenant_id: 2 }
    ])
  })

  test('an event emitted by host code is sent and not stored', async (t) => {
    const [a, b] = await buildNodes(t, { backend, options: allowAll })
    const client = await connect(b, user(1))
    await client.request('subscribe', { channel: 'group.x' })
    a.app.realtime.channels.tell({ tenantId: 2, channel: 'group.x', event: 'cursor', data: { x: 0 } })
    a.app.realtime.channels.tell({ tenantId: 1, channel: 'group.x', event: 'cursor', data: { x: 1 } })
    t.strictSame(await client.next('cursor'), { x: 1 })
    t.match((await rest(a, user(1), 'GET', '/events?channel=group.x')).body, { data: [], position: 0 })
  })

  test('host code sends messages, notifications and broadcasts as clients do, without being asked for a right', async (t) => {
    const [a, b] = await buildNodes(t, { backend, options: { authorize: () => false } })
    const { channels } = a.app.realtime
    const [one, two] = [await connect(b, user(1)), await connect(a, user(2))]
    const stranger = await connect(b, user(1, { tenantId: 2 }))
    const message = await channels.message({ tenantId: 1, recipientId: 1, message: 'welcome', conversationId: 'c' })
    t.strictSame(await one.next('message:direct'), { messageId: message.messageId, senderId: 0, recipientId: 1, message: 'welcome', conversationId: 'c', timestamp: message.timestamp })
    const named = await channels.message({ tenantId: 1, userId: 2, recipientId: 1, message: 'from two', conversationId: 'c' })
    for (const client of [one, two]) t.match(await client.next('message:direct'), { messageId: named.messageId, senderId: 2 })
    const receipts = await channels.notify({ tenantId: 1, recipientIds: [2, 1], title: 'New', body: 'mail' })
    for (const [i, client] of [two, one].entries()) {
      t.strictSame(await client.next('notification:received'),
        { messageId: receipts[i]?.messageId, title: 'New', body: 'mail', icon: null, tag: null, timestamp: receipts[i]?.timestamp })
    }
    const { messageId, timestamp } = await channels.broadcast({ tenantId: 1, message: 'closed today', messageType: 'warning' })
    for (const client of [one, two]) {
      t.strictSame(await client.next('broadcast:message'), { messageId, message: 'closed today', messageType: 'warning', senderId: 0, timestamp })
    }
    for (const event of ['message:direct', 'notification:received', 'broadcast:message']) t.strictSame(await stranger.soFar(event), [], event)
  })

  test('repeating a key as the same user returns the original result for 5 minutes', async (t) => {
    const host = await buildHost(t, { backend, options: allowAll })
    const client = await connect(host, user(1))
    const { channels } = host.app.realtime
    const event = { tenantId: 1, channel: 'group.x', event: 'order:paid', data: {}, dedupeId: 'order-7' }
    const receipts = await Promise.all([channels.publish(event), channels.publish(event), channels.publish({ ...event, tenantId: 2 }), channels.publish({ ...event, userId: 2 })])
    t.strictSame(receipts[0], receipts[1])
    t.equal(new Set(receipts.map(({ messageId }) => messageId)).size, 3, 'another tenant’s and another user’s keys are their own')
    const message = { channel: 'group.x', message: 'x', conversationId: 'c', dedupeId: 'mine' }
    const sent = await client.request('message:group', message)
    t.strictSame(await client.request('message:group', message), sent)
    t.strictSame((await rest(host, user(1), 'POST', '/messages/group', { channel: 'group.x', message: 'x', conversation_id: 'c', dedupe_id: 'mine' })).body,
      { data: { message_id: sent.messageId, timestamp: sent.timestamp } })
    const notification = { recipientIds: [2, 3], title: 't', body: 'b', dedupeId: 'note' }
    const notified = await client.request('notification:send', notification)
    t.strictSame(await client.request('notification:send', notification), notified)
    host.clock.advance(5 * 60_000 + 1)
    t.not((await client.request('message:group', message)).messageId, sent.messageId)
  })

  test('an event in the host’s own transaction is sent after the commit, and never after a rollback', async (t) => {
    const [a, b] = await buildNodes(t, { backend, options: allowAll })
    const client = await connect(b, user(1))
    await client.request('subscribe', { channel: 'group.x' })
    const { channels } = a.app.realtime
    const { database: { db } } = internalsOf(a.app)
    const publish = async (name: string, fail: boolean) => await db.transaction().execute(async (transaction) => {
      const receipt = await channels.publish({ tenantId: 1, channel: 'group.x', event: 'order:paid', data: { name }, transaction })
      t.strictSame(client.frames.filter(({ event }) => event === 'order:paid'), [])
      if (fail) throw new Error('no')
      return receipt
    })
    await t.rejects(publish('rolled back', true), { message: 'no' })
    const { messageId } = await publish('committed', false)
    t.match(await client.next('order:paid'), { messageId, name: 'committed' })
    t.strictSame((await rest(a, user(1), 'GET', '/events?channel=group.x')).body.data.length, 1)
    await until('it is marked as handed on', async () => (await rowsOf(a, 'websocket_events')).some(({ id, status }) => id === messageId && status === 'delivered'))
    t.strictSame(await client.soFar('order:paid'), [], 'once')
  })

  test('message is emitted for every durable event that was committed, from clients and host code alike', async (t) => {
    const host = await buildHost(t, { backend, options: allowAll })
    const received: unknown[] = []
    host.app.realtime.events.on('message', ({ tenantId, userId, messageId, type, channel }) => { received.push([tenantId, userId, messageId, type, channel]) })
    const client = await connect(host, user(1))
    const sent = [
      await client.request('message:group', { channel: 'group.x', message: 'x', conversationId: 'c' }),
      await client.request('message:direct', { recipientId: 2, message: 'x', conversationId: 'c' }),
      { messageId: (await rest(host, user(3), 'POST', '/broadcast', { message: 'x' })).body.data.message_id },
      await host.app.realtime.channels.publish({ tenantId: 2, channel: 'group.y', event: 'news', data: {} })
    ].map(({ messageId }) => messageId)
    t.strictSame(received, [
      [1, 1, sent[0], 'message:group', 'group.x'],
      [1, 1, sent[1], 'message:direct', 'private-user.2'],
      [1, 3, sent[2], 'broadcast:message', 'broadcast'],
      [2, 0, sent[3], 'news', 'group.y']
    ])
  })

  test('a listener of the host that throws or rejects affects no other', async (t) => {
    const host = await buildHost(t, { backend, options: allowAll })
    const { events } = host.app.realtime
    for (const event of ['connected', 'online', 'message', 'disconnected'] as const) {
      events.on(event, () => { throw new Error('a bug of the host') })
      events.on(event, async () => { throw new Error('another') })
    }
    let received = 0
    const listener = (): void => { received++ }
    events.on('message', listener)
    const client = await connect(host, user(1))
    t.ok(await client.request('message:group', { channel: 'group.x', message: 'x', conversationId: 'c' }))
    events.off('message', listener)
    t.ok(await client.request('message:group', { channel: 'group.x', message: 'y', conversationId: 'c' }))
    t.equal(received, 1)
    t.equal(await client.end(), 1005)
    await until('it is let go', () => host.app.realtime.connections.size === 0)
  })
})

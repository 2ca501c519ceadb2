import { setTimeout as sleep } from 'node:timers/promises'
import { internalsOf } from '../lib/internals.js'
import { allowAll, buildHost, buildNodes, connect, leave, overBackends, rest, rowsOf, until, user } from './helper.js'

const group = { channel: 'group.x', message: 'hello', conversationId: 'c' }

overBackends((test, backend) => {
  test('without authorize direct messages and own channels are allowed, and nothing else', async (t) => {
    const host = await buildHost(t, { backend })
    const [client, other] = [await connect(host, user(1), { connectionId: 'tab' }), await connect(host, user(2))]
    t.ok(await client.request('message:direct', { recipientId: 2, message: 'hello', conversationId: 'c' }))
    t.match(await other.next('message:direct'), { senderId: 1, message: 'hello' })
    t.strictSame(await Promise.all(['user:me', 'private-user.1', 'presence', 'broadcast'].map(async (channel) =>
      (await client.request('subscribe', { channel })).channel)), ['private-user.1', 'private-user.1', 'presence', 'broadcast'])
    const refused: Array<[string, object, string, object]> = [
      ['subscribe', { channel: 'group.x' }, '/subscribe', { connection_id: 'tab', channel: 'group.x' }],
      ['subscribe', { channel: 'private-user.2' }, '/subscribe', { connection_id: 'tab', channel: 'private-user.2' }],
      ['message:group', group, '/messages/group', { channel: 'group.x', message: 'hello', conversation_id: 'c' }],
      ['notification:send', { recipientIds: [2], title: 't', body: 'b' }, '/notifications', { recipient_ids: [2], title: 't', body: 'b' }],
      ['broadcast:message', { message: 'hello' }, '/broadcast', { message: 'hello' }]
    ]
    for (const [event, data, path, body] of refused) {
      await t.rejects(client.request(event, data), { code: 'RT_FORBIDDEN' }, event)
      t.match(await rest(host, user(1), 'POST', path, body), { status: 403, body: { statusCode: 403, code: 'RT_FORBIDDEN' } }, path)
    }
    t.match(await rest(host, user(1), 'GET', '/events?channel=group.x'), { status: 403 })
    t.equal((await rowsOf(host, 'websocket_events')).filter(({ durable }) => Number(durable) === 1).length, 1, 'and nothing of it is stored')
  })

  test('if authorize throws, the client may try again; if it is slow, the client waits', async (t) => {
    const host = await buildHost(t, {
      backend,
      options: {
        authorize: async ({ channel }) => {
          await sleep(20)
          if (channel === 'group.broken') throw new Error('the host’s database is away')
          return channel === 'group.x'
        }
      }
    })
    const client = await connect(host, user(1))
    await t.rejects(client.request('subscribe', { channel: 'group.broken' }), { code: 'RT_UNAVAILABLE', message: /^((?!database).)*$/ })
    await t.rejects(client.request('message:group', { ...group, channel: 'group.broken' }), { code: 'RT_UNAVAILABLE' })
    t.match(await rest(host, user(1), 'GET', '/events?channel=group.broken'), { status: 503, body: { code: 'RT_UNAVAILABLE' } })
    t.ok(await client.request('subscribe', { channel: 'group.x' }))
    t.ok(await client.request('ping'))
  })

  test('authorize is called with the identity, the action and the channel', async (t) => {
    const asked: unknown[] = []
    const host = await buildHost(t, {
      backend,
      options: {
        authorize: ({ identity, action, channel }) => {
          asked.push([identity.userId, identity.claims, action, channel])
          return true
        }
      }
    })
    const client = await connect(host, user(1, { claims: { role: 'coach' } }))
    await client.request('subscribe', { channel: 'group.x' })
    await client.request('message:group', group)
    await client.request('message:direct', { recipientId: 2, message: 'x', conversationId: 'c' })
    await client.request('notification:send', { recipientIds: [2, 3], title: 't', body: 'b' })
    await client.request('broadcast:message', { message: 'x' })
    t.strictSame(asked, ['subscribe group.x', 'publish group.x', 'direct private-user.2', 'notify private-user.1', 'broadcast broadcast']
      .map((text) => [1, { role: 'coach' }, ...text.split(' ')]))
  })

  test('the number of channels is the host’s to choose, before the socket opens too', async (t) => {
    const [a, b] = await buildNodes(t, { backend, options: allowAll, channels: { maxChannelsPerConnection: 2 } })
    await rest(a, user(1), 'POST', '/connect', { connection_id: 'tab' })
    const subscribe = async (channel: string) => await rest(b, user(1), 'POST', '/subscribe', { connection_id: 'tab', channel })
    for (const channel of ['group.1', 'group.2', 'group.1']) t.equal((await subscribe(channel)).status, 200)
    t.match(await subscribe('group.3'), { status: 409, body: { code: 'RT_LIMIT_EXCEEDED' } })
    const client = await connect(a, user(1), { connectionId: 'tab' })
    await t.rejects(client.request('subscribe', { channel: 'group.3' }), { code: 'RT_LIMIT_EXCEEDED' })
    t.match(await subscribe('group.3'), { status: 409, body: { code: 'RT_LIMIT_EXCEEDED' } })
    await client.request('unsubscribe', { channel: 'group.1' })
    t.equal((await subscribe('group.3')).status, 200)
  })

  test('after crossing subscribes and unsubscribes the last one counts, and nothing is left behind', async (t) => {
    const host = await buildHost(t, { backend, options: allowAll, connections: { framesPerSecond: 0 } })
    const { channels } = host.app.realtime
    const { hub } = internalsOf(host.app)
    const idle = hub.size
    const client = await connect(host, user(1), { connectionId: 'tab' })
    for (let round = 0; round < 20; round++) {
      const [on, off] = [`group.on${round}`, `group.off${round}`]
      for (let i = 0; i < 5; i++) {
        for (const channel of [on, off]) {
          client.send('unsubscribe', { channel })
          client.send('subscribe', { channel })
        }
      }
      void rest(host, user(1), 'POST', '/subscribe', { connection_id: 'tab', channel: on })
      await client.request('unsubscribe', { channel: off })
      await client.request('subscribe', { channel: on })
      for (const channel of [off, on]) await channels.publish({ tenantId: 1, channel, event: 'news', data: { channel } })
    }
    for (let round = 0; round < 20; round++) t.strictSame((await client.next('news')).channel, `group.on${round}`)
    t.strictSame(await client.soFar('news'), [], 'nothing twice, nothing of what was left')
    // One that is gone before its subscriptions are through.
    const hasty = await connect(host, user(2))
    for (let i = 0; i < 50; i++) hasty.send('subscribe', { channel: `group.hasty${i}` })
    hasty.socket.terminate()
    await leave(host, client)
    await until('nobody is subscribed to anything', () => hub.size === idle)
  })

  test('a channel with subscribers on one node receives events of other nodes', async (t) => {
    const [a, b] = await buildNodes(t, { backend, options: allowAll })
    const [here, there] = [await connect(a, user(1)), await connect(b, user(2))]
    for (const client of [here, there]) await client.request('subscribe', { channel: 'group.x' })
    for (const client of [here, there]) {
      const other = client === here ? there : here
      const { messageId } = await client.request('message:group', group)
      t.match(await other.next('message:group'), { messageId, channel: 'group.x', message: 'hello', conversationId: 'c' })
      t.strictSame(await client.soFar('message:group'), [], 'not to the connection that sent it')
    }
  })

  test('a direct message reaches every connection of both, but the one that sent it', async (t) => {
    const [a, b] = await buildNodes(t, { backend })
    const [sender, ownTab] = [await connect(a, user(1)), await connect(b, user(1))]
    const recipients = [await connect(a, user(2)), await connect(b, user(2))]
    const stranger = await connect(b, user(2, { tenantId: 2 }))
    const { messageId, timestamp } = await sender.request('message:direct', { recipientId: 2, message: 'hello', conversationId: 'c' })
    for (const client of [ownTab, ...recipients]) {
      t.strictSame(await client.next('message:direct'), { messageId, senderId: 1, recipientId: 2, message: 'hello', conversationId: 'c', timestamp })
    }
    for (const client of [sender, stranger]) t.strictSame(await client.soFar('message:direct'), [])
  })

  test('an unconfirmed direct message is sent again after 5, 15 and 60 s, and is failed in the end', async (t) => {
    const host = await buildHost(t, { backend })
    const failed: number[] = []
    host.app.realtime.events.on('failed', ({ messageId }) => { failed.push(messageId) })
    const [sender, silent] = [await connect(host, user(1)), await connect(host, user(2))]
    const { messageId } = await sender.request('message:direct', { recipientId: 2, message: 'hello', conversationId: 'c' })
    t.match(await silent.next('message:direct'), { messageId })
    t.match(await host.app.realtime.stats.get(1), { pendingEvents: 1, failedEvents: 0 })
    const row = async () => (await rowsOf(host, 'websocket_events')).find(({ id }) => id === messageId)
    await until('it is known as handed on', async () => (await row()).handed_at !== null)
    for (const [i, delay] of [5000, 15_000, 60_000, 60_000, 60_000].entries()) {
      host.clock.advance(delay)
      t.match(await silent.next('message:direct'), { messageId, message: 'hello' })
      await until('it is counted', async () => (await row()).retry_count === i + 1)
    }
    host.clock.advance(60_000)
    await until('it is given up', async () => (await row()).status === 'failed')
    t.match(await row(), { error_message: /confirm/, retry_count: 5 })
    // `failed` is emitted after the row is committed, so a read of the row can be quicker.
    await until('failed is emitted', () => failed.length > 0)
    t.strictSame(failed, [messageId])
    t.match(await host.app.realtime.stats.of(1), { pending_events: 0, failed_events: 1 })
    t.strictSame([await silent.soFar('message:direct'), await sender.soFar('message:direct')], [[], []], 'to the recipient alone')
    t.match(await silent.request('message:delivered', { messageId, senderId: 1 }), { messageId }, 'better late than never')
    t.match(await sender.next('message:delivered'), { messageId, userId: 2 })
    t.match(await host.app.realtime.stats.of(1), { pending_events: 0, failed_events: 0 })
  })

  test('events that waited for a user are sent when they connect, on any node, until they confirm', async (t) => {
    const [a, b] = await buildNodes(t, { backend, options: allowAll })
    const delivered: unknown[] = []
    for (const { app } of new Set([a, b])) {
      app.realtime.events.on('delivered', ({ userId, messageId, senderId }) => { delivered.push([userId, messageId, senderId]) })
    }
    const sender = await connect(a, user(1))
    const direct = await sender.request('message:direct', { recipientId: 2, message: 'while you were away', conversationId: 'c' })
    const { messageIds } = await sender.request('notification:send', { recipientIds: [2, 3], title: 'New', body: 'mail', icon: '/i.png', tag: 'mail' })
    t.equal(new Set(messageIds).size, 2)
    const visit = await connect(b, user(2))
    t.match(await visit.next('message:direct'), { messageId: direct.messageId, message: 'while you were away' })
    t.match(await visit.next('notification:received'), { messageId: messageIds[0], title: 'New', body: 'mail', icon: '/i.png', tag: 'mail' })
    await visit.request('message:delivered', { messageId: messageIds[0] })
    await leave(b, visit)
    const again = await connect(a, user(2))
    t.match(await again.next('message:direct'), { messageId: direct.messageId })
    await again.request('message:delivered', { messageId: direct.messageId })
    t.strictSame(await again.soFar('notification:received'), [], 'confirmed before')
    await again.request('message:delivered', { messageId: direct.messageId })
    await t.rejects(again.request('message:delivered', { messageId: messageIds[1] }), { code: 'RT_NOT_FOUND' }, 'another’s')
    t.strictSame(delivered, [[2, messageIds[0], 1], [2, direct.messageId, 1]], 'sent once')
    t.match((await sender.soFar('message:delivered')).map(({ messageId }) => messageId), [messageIds[0], direct.messageId])
  })

  test('all events that waited for a user arrive on connect, in order, before newer ones, however many they are', async (t) => {
    const [a, b] = await buildNodes(t, { backend, options: allowAll })
    const { channels } = a.app.realtime
    const COUNT = 701
    const message = { recipientId: 2, message: 'x', conversationId: 'c' }
    const waiting = await Promise.all(Array.from({ length: COUNT }, async () => await channels.direct({ tenantId: 1, userId: 1, ...message })))
    const sender = await connect(a, user(1))
    const [reader, meanwhile] = await Promise.all([connect(b, user(2)), sender.request('message:direct', message) as Promise<{ messageId: number }>])
    const ids = (): number[] => reader.frames.filter(({ event }) => event === 'message:direct').map(({ data }) => data.messageId as number)
    await until('the last one comes', () => ids().includes(meanwhile.messageId))
    t.strictSame(ids(), [...waiting.map(({ messageId }) => messageId).sort((x, y) => x - y), meanwhile.messageId])
  })
})

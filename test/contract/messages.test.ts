import { type Client, connect, newClub, rest, tokenFor } from './client.js'
import { overTopologies } from './topologies.js'

overTopologies({}, (test, { at }) => {
  test('a direct message reaches every connection of the recipient and the sender’s other ones', async (t) => {
    const club = newClub()
    const sender = await connect(at(0), tokenFor(1, club))
    const senderToo = await connect(at(1), tokenFor(1, club))
    const phone = await connect(at(0), tokenFor(2, club))
    const desk = await connect(at(1), tokenFor(2, club))
    const ack = await sender.request('message:direct', { recipientId: 2, message: 'Hello!', conversationId: 'conv_1' })
    t.match(ack, { messageId: Number, timestamp: /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/ })
    const expected = { messageId: ack.messageId, senderId: 1, recipientId: 2, message: 'Hello!', conversationId: 'conv_1', timestamp: ack.timestamp }
    for (const client of [senderToo, phone, desk]) t.strictSame(await client.next('message:direct'), expected)
    t.strictSame(await sender.soFar('message:direct'), [], 'not to the connection that sent it')
  })

  test('a group message reaches the channel except the connection that sent it', async (t) => {
    const club = newClub()
    const [one, two, other] = await Promise.all([1, 2, 3].map(async (id) => await connect(at(id), tokenFor(id, club)))) as [Client, Client, Client]
    await one.request('subscribe', { channel: 'group.events' })
    await two.request('subscribe', { channel: 'group.events' })
    const ack = await one.request('message:group', { channel: 'group.events', message: 'Hi', conversationId: 'g', extra: 'ignored' })
    t.strictSame(await two.next('message:group'),
      { messageId: ack.messageId, userId: 1, channel: 'group.events', message: 'Hi', conversationId: 'g', timestamp: ack.timestamp })
    t.strictSame(await one.soFar('message:group'), [])
    t.strictSame(await other.soFar('message:group'), [], 'not to who is not subscribed')
  })

  test('one sender’s messages arrive in the order sent, and their acks too', async (t) => {
    const club = newClub()
    const sender = await connect(at(0), tokenFor(1, club))
    const reader = await connect(at(1), tokenFor(2, club))
    await reader.request('subscribe', { channel: 'group.order' })
    for (let i = 0; i < 50; i++) sender.send('message:group', { channel: 'group.order', message: `${i}`, conversationId: 'g' }, `m${i}`)
    const got: string[] = []
    const acked: unknown[] = []
    for (let i = 0; i < 50; i++) got.push((await reader.next('message:group')).message)
    for (let i = 0; i < 50; i++) acked.push((await sender.take(({ event }) => event === 'ack')).id)
    t.strictSame(got, Array.from({ length: 50 }, (_, i) => `${i}`))
    t.strictSame(acked, Array.from({ length: 50 }, (_, i) => `m${i}`))
  })

  test('a broadcast is for admins and reaches everyone in the club', async (t) => {
    const club = newClub()
    const admin = await connect(at(0), tokenFor(1, club, { admin: true }))
    const member = await connect(at(1), tokenFor(2, club))
    await t.rejects(member.request('broadcast:message', { message: 'me too' }), { code: 'RT_FORBIDDEN' })
    const ack = await admin.request('broadcast:message', { message: 'Club announcement' })
    const expected = { messageId: ack.messageId, message: 'Club announcement', messageType: 'info', senderId: 1, timestamp: ack.timestamp }
    t.strictSame(await member.next('broadcast:message'), expected)
  })

  test('a notification is one event per recipient, each with its own id', async (t) => {
    const club = newClub()
    const sender = await connect(at(0), tokenFor(1, club))
    const readers = await Promise.all([2, 3].map(async (id) => await connect(at(id), tokenFor(id, club))))
    const ack = await sender.request('notification:send', { recipientIds: [2, 3], title: 'Alert', body: 'Now', icon: '/i.png', tag: 'x' })
    t.equal(new Set(ack.messageIds).size, 2)
    for (const [i, reader] of readers.entries()) {
      t.strictSame(await reader.next('notification:received'),
        { messageId: ack.messageIds[i], title: 'Alert', body: 'Now', icon: '/i.png', tag: 'x', timestamp: ack.timestamp })
    }
  })

  test('messages for an offline user are sent on connect until they are confirmed, and the sender gets message:delivered', async (t) => {
    const club = newClub()
    const sender = await connect(at(0), tokenFor(1, club))
    const { messageId } = await sender.request('message:direct', { recipientId: 2, message: 'later', conversationId: 'c' })
    t.match((await rest(at(0), tokenFor(1, club), 'GET', '/stats')).body.data, { pending_events: 1, failed_events: 0 })
    const first = await connect(at(1), tokenFor(2, club))
    t.equal((await first.next('message:direct')).messageId, messageId)
    await first.end()
    const second = await connect(at(0), tokenFor(2, club))
    t.equal((await second.next('message:direct')).messageId, messageId, 'sent again: nobody confirmed it')
    t.strictSame(await second.request('message:delivered', { messageId, senderId: 1 }), { messageId })
    t.match(await sender.next('message:delivered'), { messageId, userId: 2, timestamp: String })
    t.match((await rest(at(1), tokenFor(1, club), 'GET', '/stats')).body.data, { pending_events: 0 })
    const third = await connect(at(1), tokenFor(2, club))
    t.strictSame(await third.soFar('message:direct'), [])
    await t.rejects(sender.request('message:delivered', { messageId }), { code: 'RT_NOT_FOUND' }, 'only its recipient confirms it')
  })

  test('the same messages go out by REST, with 202', async (t) => {
    const club = newClub()
    const token = tokenFor(1, club, { admin: true })
    const reader = await connect(at(1), tokenFor(2, club))
    await reader.request('subscribe', { channel: 'group.rest' })
    const direct = await rest(at(0), token, 'POST', '/messages/direct', { recipient_id: 2, message: 'd', conversation_id: 'c' })
    const group = await rest(at(0), token, 'POST', '/messages/group', { channel: 'group.rest', message: 'g', conversation_id: 'c' })
    const broadcast = await rest(at(0), token, 'POST', '/broadcast', { message: 'b', message_type: 'warning' })
    const notifications = await rest(at(0), token, 'POST', '/notifications', { recipient_ids: [2], title: 't', body: 'n' })
    t.strictSame([direct, group, broadcast, notifications].map(({ status }) => status), [202, 202, 202, 202])
    t.match(await reader.next('message:direct'), { messageId: direct.body.data.message_id, message: 'd', senderId: 1 })
    t.match(await reader.next('message:group'), { messageId: group.body.data.message_id, message: 'g', userId: 1 })
    t.match(await reader.next('broadcast:message'), { messageId: broadcast.body.data.message_id, messageType: 'warning' })
    t.match(await reader.next('notification:received'), { messageId: notifications.body.data.message_ids[0], icon: null, tag: null })
  })

  test('repeating a dedupeId returns the original result', async (t) => {
    const sender = await connect(at(0), tokenFor(1, newClub()))
    const data = { channel: 'group.once', message: 'once', conversationId: 'c', dedupeId: 'key-1' }
    t.strictSame(await sender.request('message:group', data), await sender.request('message:group', data))
  })

  test('two clubs with the same users and channels never meet', async (t) => {
    const [here, there] = [newClub(), newClub()]
    const sender = await connect(at(0), tokenFor(1, here, { admin: true }))
    const stranger = await connect(at(1), tokenFor(2, there))
    await stranger.request('subscribe', { channel: 'group.same' })
    await sender.request('message:group', { channel: 'group.same', message: 'secret', conversationId: 'c' })
    const { messageId } = await sender.request('message:direct', { recipientId: 2, message: 'secret', conversationId: 'c' })
    await sender.request('broadcast:message', { message: 'secret' })
    await t.rejects(stranger.request('message:delivered', { messageId }), { code: 'RT_NOT_FOUND' })
    t.notOk(stranger.frames.some((frame) => JSON.stringify(frame).includes('secret')))
    const events = await rest(at(1), tokenFor(2, there), 'GET', '/events?channel=group.same')
    t.match(events.body, { data: [], position: 0, recovered: true, more: false })
  })
})

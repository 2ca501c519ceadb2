import { sql } from 'kysely'
import { internalsOf } from '../lib/internals.js'
import { buildHost, buildNodes, connect, overBackends, rest, rowsOf, until, user, userOn, type Client, type Host } from './helper.js'

interface Sent { messageId: number, timestamp: string }

const direct = async (client: Client, recipientId: number, message: string, more: object = {}): Promise<Sent> =>
  await client.request('message:direct', { recipientId, message, conversationId: 'c', ...more }) as Sent
const group = async (client: Client, message: string, channel = 'group.x', more: object = {}): Promise<Sent> =>
  await client.request('message:group', { channel, message, conversationId: 'c', ...more }) as Sent
/** Members may use `group.*`. */
const options = { authorize: ({ channel, action }: { channel: string, action: string }) => action === 'direct' || action === 'notify' || channel.startsWith('group.') || channel.startsWith('private-user.') }

interface Listed { channel?: string, with?: number, name: string | null, last: { event: string, data: Record<string, unknown> } | null, last_at: string | null, unread: number, read_up_to: number }
const list = async (host: Host, userId: number, query = ''): Promise<Listed[]> => (await rest(host, user(userId), 'GET', `/conversations${query}`)).body.data as Listed[]
const history = async (host: Host, userId: number, query: string): Promise<Array<{ event: string, data: Record<string, unknown> }>> =>
  (await rest(host, user(userId), 'GET', `/history?${query}`)).body.data as Array<{ event: string, data: Record<string, unknown> }>

overBackends((test, backend) => {
  test('a direct message reaches the recipient and the sender’s other devices, live and on resume', async (t) => {
    const [a, b] = await buildNodes(t, { backend, options })
    const [phone, laptop, peer] = [await connect(a, user(1)), await connect(b, user(1)), await connect(b, user(2))]
    const { messageId, timestamp } = await direct(phone, 2, 'hi', { data: { bold: [0, 2] } })
    const frame = { messageId, senderId: 1, recipientId: 2, message: 'hi', conversationId: 'c', data: { bold: [0, 2] }, timestamp }
    t.strictSame([await laptop.next('message:direct'), await peer.next('message:direct')], [frame, frame])
    const reply = await direct(peer, 1, 'yes')
    for (const host of [a, b]) {
      for (const [userId, other] of [[1, 2], [2, 1]] as const) {
        const events = (await rest(host, user(userId), 'GET', '/events?channel=user:me&since=0')).body as { data: Array<{ data: Sent }>, recovered: boolean }
        t.strictSame(events.data.map(({ data }) => data.messageId), [messageId, reply.messageId], `GET /events of ${userId}, whose peer is ${other}`)
        const back = await connect(host, user(userId))
        t.match(await back.request('subscribe', { channel: 'user:me', since: 0 }), { recovered: true })
        const seen = new Set<number>()
        while (seen.size < 2) seen.add((await back.next('message:direct') as Sent).messageId)
        const again = await back.request('subscribe', { channel: 'user:me', since: messageId })
        t.match(again, { recovered: true, position: reply.messageId })
        t.match(await back.next('message:direct'), { messageId: reply.messageId })
      }
    }
    // On a slow machine what nobody confirmed is sent again.
    const received = (await phone.soFar('message:direct') as Sent[]).map((frame) => frame.messageId)
    t.strictSame([...new Set(received)], [reply.messageId], 'the device that sent has its ack')
    await t.rejects(direct(phone, 2, 'large', { data: { text: 'x'.repeat(4096) } }), { code: 'RT_INVALID_DATA', message: /data/ })
    await t.rejects(a.app.realtime.channels.direct({ tenantId: 1, recipientId: 2, message: 'x', conversationId: 'c', data: { text: 'x'.repeat(4096) } }), { code: 'RT_INVALID_DATA' })
    const delivered = await rest(a, user(2), 'POST', '/messages/delivered', { message_ids: [messageId, reply.messageId, 999_999] })
    t.match(delivered, { status: 200, body: { data: { delivered: [messageId] } } })
    t.strictSame(delivered.body.data.delivered, [messageId])
  })

  test('a search for a rare label continues where it stopped', async (t) => {
    const host = await buildHost(t, { backend, options })
    const { db } = internalsOf(host.app).database
    const one = await connect(host, user(1))
    const { messageId } = await direct(one, 2, 'found', { conversationId: 'rare' })
    const last = await direct(one, 2, 'not found')
    // More than one search looks through.
    const digits = sql.raw('(select 0 as n union all select 1 union all select 2 union all select 3 union all select 4 union all select 5 union all select 6 union all select 7 union all select 8 union all select 9)')
    const columns = sql.raw('tenant_id, user_id, event_type, channel, conversation, payload, status, durable, origin, created_at, updated_at, handed_at')
    for (let thousands = 0; thousands < 51; thousands += 3) {
      await sql`insert into websocket_events (${columns}) select ${columns} from websocket_events
        cross join ${digits} as a cross join ${digits} as b cross join ${digits} as c cross join (select 0 as n union all select 1 union all select 2) as d
        where websocket_events.id = ${last.messageId}`.execute(db)
    }
    const first = (await rest(host, user(1), 'GET', '/history?with=2&conversation_id=rare')).body as { data: unknown[], more: boolean, before: number }
    t.match(first, { data: [], more: true, before: Number })
    t.ok(first.before > last.messageId)
    const next = (await rest(host, user(1), 'GET', `/history?with=2&conversation_id=rare&before=${first.before}`)).body
    t.match(next, { data: [{ data: { messageId, message: 'found' } }], more: false })
  })

  test('history has the newest messages first in line, for those who may read them', async (t) => {
    const [a, b] = await buildNodes(t, { backend, options })
    const [one, two] = [await connect(a, user(1)), await connect(b, user(2))]
    const ids: number[] = []
    for (let i = 0; i < 5; i++) ids.push((await direct(i % 2 === 0 ? one : two, i % 2 === 0 ? 2 : 1, `m${i}`, { conversationId: i < 4 ? 'a' : 'b' })).messageId)
    await direct(one, 3, 'to another')
    const idsOf = (frames: Array<{ data: Record<string, unknown> }>): unknown[] => frames.map(({ data }) => data.messageId)
    t.strictSame(idsOf(await history(b, 1, 'with=2')), ids)
    t.strictSame(idsOf(await history(a, 2, 'with=1')), ids)
    t.strictSame(await history(a, 3, 'with=2'), [])
    t.match((await rest(a, user(1), 'GET', '/history?with=2&limit=2')).body, { data: [{ event: 'message:direct', data: { messageId: ids[3], message: 'm3', recipientId: 1 } }, {}], more: true })
    t.match((await rest(a, user(1), 'GET', `/history?with=2&limit=2&before=${ids[2]}`)).body, { data: [{ data: { messageId: ids[0] } }, {}], more: false })
    t.strictSame(idsOf(await history(a, 1, 'with=2&conversation_id=b')), [ids[4]])
    t.match(await one.request('history', { with: 2, limit: 1, conversationId: 'a' }), { data: [{ data: { messageId: ids[3] } }], more: true })
    await t.rejects(one.request('history', { channel: 'secret.x' }), { code: 'RT_FORBIDDEN' })
    await t.rejects(one.request('history', {}), { code: 'RT_INVALID_DATA' })
    await t.rejects(one.request('history', { channel: 'group.x', with: 2 }), { code: 'RT_INVALID_DATA' })
    for (const query of ['channel=group.x&limit=201', '', 'channel=group.x&with=2']) t.equal((await rest(a, user(1), 'GET', `/history?${query}`)).status, 400, query)
    t.equal((await rest(a, user(1), 'GET', '/history?channel=secret.x')).status, 403)
  })

  test('the list has unread counts, marks and last messages, latest activity first', async (t) => {
    const [a, b] = await buildNodes(t, { backend, options: { ...options, resolveUsers: async (_tenant, ids) => new Map(ids.map((id) => [id, { name: `User ${id === userOn(backend, 2).userId ? 2 : 'x'}` }])) } })
    const [one, two] = [await connect(a, user(1)), await connect(b, user(2))]
    t.strictSame(await list(a, 1), [])
    await a.app.realtime.conversations.add(1, [1, 3], { channel: 'group.x' })
    t.match(await list(b, 1), [{ channel: 'group.x', name: null, last: null, last_at: null, unread: 0, read_up_to: 0 }])
    const first = await direct(one, 2, 'first')
    t.match(await list(b, 1), [{ with: 2, unread: 0, read_up_to: first.messageId, last: { event: 'message:direct', data: { message: 'first' } }, last_at: first.timestamp }, { channel: 'group.x' }])
    t.match(await list(a, 2), [{ with: 1, unread: 1, read_up_to: 0 }])
    const reply = await direct(two, 1, 'second')
    const third = await direct(two, 1, 'third')
    t.match((await list(a, 1))[0], { unread: 2, read_up_to: first.messageId })
    t.match((await list(b, 2))[0], { unread: 0, read_up_to: third.messageId }, 'sending moves the own mark')
    const said = await group(two, 'in the group')
    t.strictSame((await list(a, 1)).map((entry) => entry.channel ?? entry.with), ['group.x', 2])
    t.strictSame((await list(a, 2)).map((entry) => entry.channel ?? entry.with), ['group.x', 1])
    t.strictSame((await list(a, 3)).map(({ channel, unread }) => [channel, unread]), [['group.x', 1]])
    // Marks never move back, and never into the future.
    t.match(await one.request('conversation:read', { with: 2, messageId: reply.messageId }), { unread: 1, readUpTo: reply.messageId })
    t.match(await one.request('conversation:read', { with: 2, messageId: first.messageId }), { unread: 1, readUpTo: reply.messageId })
    t.match((await rest(b, user(1), 'POST', '/conversations/read', { with: 2, message_id: 1e9 })).body, { data: { unread: 0 } }, 'not into the future')
    const fourth = await direct(two, 1, 'fourth')
    t.match((await list(a, 1))[0], { with: 2, unread: 1 })
    t.ok(((await list(a, 1))[0]?.read_up_to ?? Infinity) < fourth.messageId)
    // Pages.
    const { data, next_cursor: cursor } = (await rest(a, user(1), 'GET', '/conversations?limit=1')).body as { data: Listed[], next_cursor: string }
    t.match(data, [{ with: 2 }])
    t.match((await rest(b, user(1), 'GET', `/conversations?limit=1&cursor=${cursor}`)).body, { data: [{ channel: 'group.x' }], next_cursor: null })
    t.equal((await rest(b, user(1), 'GET', '/conversations?cursor=eHh4')).status, 400)
    // Who reads is a participant, until the host says otherwise.
    t.strictSame((await list(a, 4)), [])
    t.equal((await rest(a, user(4), 'POST', '/conversations/read', { channel: 'secret.x', message_id: 1 })).status, 403)
    t.match((await rest(a, user(4), 'POST', '/conversations/read', { channel: 'group.x', message_id: said.messageId })).body, { data: { unread: 0 } })
    t.match(await list(b, 4), [{ channel: 'group.x', unread: 0 }])
    await b.app.realtime.conversations.remove(1, [4], { channel: 'group.x' })
    t.strictSame(await list(a, 4), [])
    await t.rejects(b.app.realtime.conversations.add(1, [0], { channel: 'group.x' }), { code: 'RT_INVALID_DATA' })
  })

  test('a conversation that the host takes off a list stays off, until the user sends there again', async (t) => {
    const [a, b] = await buildNodes(t, { backend, options })
    const one = await connect(a, user(1))
    await group(one, 'before', 'group.left')
    await b.app.realtime.conversations.remove(1, [1], { channel: 'group.left' })
    const later = await direct(one, 2, 'later')
    const isMarked = async (id: number): Promise<boolean> => (await internalsOf(a.app).database.db.selectFrom('websocket_conversations').select('read_up_to').execute()).some(({ read_up_to: mark }) => Number(mark) === id)
    await until('the marks of what was sent are written', async () => await isMarked(later.messageId))
    t.strictSame((await list(b, 1)).map((entry) => entry.channel ?? entry.with), [2])
    await group(one, 'after', 'group.left')
    t.strictSame((await list(b, 1)).map((entry) => entry.channel ?? entry.with), ['group.left', 2], 'at once')
  })

  test('messages that the host sends without a user are a conversation like others', async (t) => {
    const [a, b] = await buildNodes(t, { backend, options })
    const one = await connect(a, user(1))
    await b.app.realtime.channels.direct({ tenantId: 1, recipientId: 1, message: 'welcome', conversationId: 'c' })
    const { messageId } = await one.next('message:direct') as unknown as Sent
    t.match(await list(b, 1), [{ with: 0, name: null, unread: 1, last: { data: { message: 'welcome' } } }])
    t.match(await one.request('history', { with: 0 }), { data: [{ data: { messageId, senderId: 0, recipientId: 1 } }], more: false })
    t.match(await history(b, 1, `with=${backend.endsWith('string ids') ? '' : 0}`), [{ data: { messageId } }])
    t.match((await rest(a, user(1), 'POST', '/conversations/read', { with: 0, message_id: messageId })).body, { data: { unread: 0, read_up_to: messageId } })
    t.match(await list(a, 1), [{ with: 0, unread: 0 }])
    t.equal((await rest(a, user(1), 'POST', '/messages/direct', { recipient_id: 0, message: 'x', conversation_id: 'c' })).status, 400, 'it has no inbox')
  })

  test('unread is exact to 99, and 100 means more', async (t) => {
    const host = await buildHost(t, { backend, options })
    const { channels } = host.app.realtime
    const send = async (count: number): Promise<void> => { await Promise.all(Array.from({ length: count }, async (_, i) => await channels.direct({ tenantId: 1, userId: 2, recipientId: 1, message: `m${i}`, conversationId: 'c' }))) }
    await send(99)
    t.equal((await list(host, 1))[0]?.unread, 99)
    await send(1)
    t.equal((await list(host, 1))[0]?.unread, 100)
    await send(60)
    t.equal((await list(host, 1))[0]?.unread, 100)
    await channels.direct({ tenantId: 1, userId: 1, recipientId: 2, message: 'answer', conversationId: 'c' })
    t.equal((await list(host, 1))[0]?.unread, 0)
    t.equal((await list(host, 2))[0]?.unread, 1)
  })

  test('read marks are sent to the reader’s other devices, the peer, and small channels', async (t) => {
    const [a, b] = await buildNodes(t, { backend, options, conversations: { receiptsUpTo: 2 } })
    const [phone, laptop, tablet, peer] = [await connect(a, user(1)), await connect(b, user(1)), await connect(b, user(1)), await connect(b, user(2))]
    const { messageId } = await direct(peer, 1, 'hi')
    await phone.request('conversation:read', { with: 2, messageId })
    for (const client of [laptop, tablet, peer]) t.match(await client.next('conversation:read'), { userId: 1, senderId: 1, recipientId: 2, readUpTo: messageId })
    await phone.request('conversation:read', { with: 2, messageId })
    // Whoever comes later finds it with the history.
    const marks = async (client: Client, where: object): Promise<object[] | undefined> => {
      const { reads } = await client.request('history', where) as { reads?: Array<{ event: string, data: { userId: unknown } }> }
      // Senders have marks too, which are written a moment later.
      return reads?.filter(({ data: { userId } }) => userId === user(1).userId)
    }
    t.match(await marks(peer, { with: 1 }), [{ event: 'conversation:read', data: { userId: 1, senderId: 1, recipientId: 2, readUpTo: messageId, timestamp: /Z$/ } }])
    t.match(await marks(tablet, { with: 2 }), [{ data: { userId: 1, readUpTo: messageId } }], 'the reader, too')
    t.equal(await marks(peer, { with: 1, before: messageId }), undefined, 'not with older pages')
    t.match((await rest(b, user(2), 'GET', '/history?with=1')).body.reads, [{ event: 'conversation:read' }])
    t.strictSame((await rest(b, user(3), 'GET', '/history?with=1')).body.reads, [], 'nor with other conversations')
    const said = await group(peer, 'x')
    // The tablet hears it without a subscription.
    for (const client of [laptop, peer]) await client.request('subscribe', { channel: 'group.x' })
    await phone.request('conversation:read', { channel: 'group.x', messageId: said.messageId })
    for (const client of [laptop, tablet, peer]) t.match(await client.next('conversation:read'), { userId: 1, channel: 'group.x', readUpTo: said.messageId })
    const more = await group(peer, 'y')
    await phone.request('conversation:read', { channel: 'group.x', messageId: more.messageId })
    for (const client of [laptop, tablet, peer]) t.match(await client.next('conversation:read'), { channel: 'group.x', readUpTo: more.messageId })
    t.match(await marks(peer, { channel: 'group.x' }), [{ event: 'conversation:read', data: { userId: 1, channel: 'group.x', readUpTo: more.messageId } }])
    // A third participant is one too many.
    await a.app.realtime.conversations.add(1, [3], { channel: 'group.x' })
    const last = await group(peer, 'z')
    await phone.request('conversation:read', { channel: 'group.x', messageId: last.messageId })
    for (const client of [laptop, tablet]) t.match(await client.next('conversation:read'), { channel: 'group.x', readUpTo: last.messageId })
    t.strictSame(await marks(peer, { channel: 'group.x' }), [])
    t.strictSame([await phone.soFar('conversation:read'), await peer.soFar('conversation:read'), await laptop.soFar('conversation:read'), await tablet.soFar('conversation:read')], [[], [], [], []])
  })

  test('participants receive the activity of a channel without a subscription, at most once a second', async (t) => {
    const [a, b] = await buildNodes(t, { backend, options, conversations: { activityUpTo: 2 } })
    await a.app.realtime.conversations.add(1, [1, 2], { channel: 'group.x' })
    const [one, two, three] = [await connect(a, user(1)), await connect(b, user(2)), await connect(b, user(3))]
    let newest = 0
    const began = Date.now()
    for (let i = 0; i < 5; i++) newest = (await group(two, `m${i}`)).messageId
    const seen: number[] = []
    while (seen.at(-1) !== newest) {
      const activity = await one.next('conversation:activity') as { channel: string, messageId: number }
      t.equal(activity.channel, 'group.x')
      seen.push(activity.messageId)
    }
    t.ok(seen.length <= 2 + (Date.now() - began) / 1000, `${seen.length} for five messages`)
    t.strictSame(await three.soFar('conversation:activity'), [])
    await a.app.realtime.conversations.add(1, [3], { channel: 'group.y' })
  })

  test('edits and deletes are sent to everyone and recovered, and deleted content is gone', async (t) => {
    const [a, b] = await buildNodes(t, { backend, options })
    const [phone, laptop, peer] = [await connect(a, user(1)), await connect(b, user(1)), await connect(b, user(2))]
    const sent = await direct(phone, 2, 'secret one', { data: { n: 1 } })
    const heard: object[] = []
    for (const { app } of new Set([a, b])) app.realtime.events.on('message', (message) => { if (message.type === 'message:edited') heard.push(message) })
    await peer.next('message:direct')
    await laptop.next('message:direct')
    const edited = await phone.request('message:edit', { messageId: sent.messageId, message: 'secret two' }) as { messageId: number, targetId: number, editedAt: string }
    t.match(edited, { targetId: sent.messageId })
    const frame = { messageId: edited.messageId, targetId: sent.messageId, message: 'secret two', data: { n: 1 }, editedAt: edited.editedAt, userId: 1, senderId: 1, recipientId: 2, timestamp: edited.editedAt }
    for (const client of [laptop, peer]) t.strictSame(await client.next('message:edited'), frame)
    t.strictSame(await history(b, 2, 'with=1'), [{ event: 'message:direct', data: {
      messageId: sent.messageId, senderId: 1, recipientId: 2, message: 'secret two', conversationId: 'c', timestamp: sent.timestamp, data: { n: 1 }, editedAt: edited.editedAt
    } }])
    t.match(await list(a, 2), [{ unread: 1, last: { data: { message: 'secret two' } } }])
    t.match(heard, [{ userId: 1, messageId: edited.messageId, data: { targetId: sent.messageId, message: 'secret two', data: { n: 1 }, editedAt: edited.editedAt } }], 'the host hears what is stored')
    const patched = await rest(b, user(1), 'PATCH', `/messages/${sent.messageId}`, { message: 'secret three', data: null })
    t.match(patched, { status: 200, body: { data: { target_id: sent.messageId, edited_at: String } } })
    for (const client of [laptop, peer, phone]) t.match(await client.next('message:edited'), { message: 'secret three', data: null })
    const deleted = await rest(a, user(1), 'DELETE', `/messages/${sent.messageId}`)
    t.match(deleted, { status: 200, body: { data: { message_id: Number, target_id: sent.messageId } } })
    for (const client of [laptop, peer, phone]) {
      const { messageId, timestamp: _time, ...told } = await client.next('message:deleted') as Record<string, unknown>
      t.strictSame([messageId, told], [deleted.body.data.message_id, { targetId: sent.messageId, userId: 1, senderId: 1, recipientId: 2 }])
    }
    t.strictSame(await history(b, 2, 'with=1'), [{ event: 'message:direct', data: {
      messageId: sent.messageId, senderId: 1, recipientId: 2, conversationId: 'c', timestamp: sent.timestamp, deleted: true
    } }])
    t.match(await list(a, 2), [{ with: 1, unread: 0, last: null }])
    for (const table of ['websocket_events', 'websocket_deleted_messages', 'websocket_conversations']) {
      const { rows } = await sql`select * from ${sql.table(table)}`.execute(internalsOf(a.app).database.db)
      t.notMatch(JSON.stringify(rows), /secret/, table)
    }
    const [row] = (await rowsOf(a, 'websocket_events')).filter(({ id }) => Number(id) === sent.messageId)
    t.match(row, { conversation: null, payload: {}, durable: 0 })
    const events = (await rest(a, user(2), 'GET', '/events?channel=user:me&since=0')).body as { data: object[], recovered: boolean }
    t.match(events, { data: [{ event: 'message:deleted', data: { targetId: sent.messageId } }], recovered: true })
    t.equal(events.data.length, 1)
    const back = await connect(b, user(2))
    await back.request('subscribe', { channel: 'user:me', since: 0 })
    t.match(await back.next('message:deleted'), { targetId: sent.messageId })
    t.notMatch(JSON.stringify(back.frames), /secret/)
    for (const [event, data] of [['message:edit', { messageId: sent.messageId, message: 'again' }], ['message:delete', { messageId: sent.messageId }]] as const) {
      await t.rejects(phone.request(event, data), { code: 'RT_NOT_FOUND' }, event)
    }
  })

  test('only the sender changes a message, within editWindow, and moderators', async (t) => {
    const [a, b] = await buildNodes(t, {
      backend, options, channels: { beforePublish: ({ event, data }) => event !== 'message:edit' ? undefined : data.message === 'no' ? { reject: 'not that' } : { ...data, message: `${String(data.message)}!` } },
      conversations: { editWindow: 60_000, moderate: ({ identity }) => identity.userId === 9 }
    })
    const [one, two, three] = [await connect(a, user(1)), await connect(b, user(2)), await connect(b, user(3))]
    const mine = await group(one, 'mine')
    const private1 = await direct(one, 2, 'private')
    const edit = async (client: Client, messageId: number, message = 'changed'): Promise<unknown> => await client.request('message:edit', { messageId, message })
    await t.rejects(edit(two, mine.messageId), { code: 'RT_FORBIDDEN' })
    await t.rejects(edit(two, private1.messageId), { code: 'RT_FORBIDDEN' })
    await t.rejects(edit(three, private1.messageId), { code: 'RT_NOT_FOUND' })
    await t.rejects(edit(one, 987_654), { code: 'RT_NOT_FOUND' })
    await t.rejects(edit(await connect(a, user(1, { tenantId: 2 })), mine.messageId), { code: 'RT_NOT_FOUND' })
    t.match(await rest(a, user(1), 'PATCH', `/messages/${mine.messageId}`, { message: 'no' }), { status: 422, body: { code: 'RT_REJECTED', message: 'not that' } })
    await edit(one, mine.messageId)
    t.match(await history(a, 1, 'channel=group.x'), [{ data: { message: 'changed!' } }], 'beforePublish is asked')
    a.clock.advance(61_000)
    await t.rejects(edit(one, mine.messageId), { code: 'RT_FORBIDDEN' }, 'too late')
    await t.rejects(one.request('message:delete', { messageId: mine.messageId }), { code: 'RT_FORBIDDEN' })
    const moderator = await connect(b, user(9))
    await one.request('subscribe', { channel: 'group.x' })
    const removed = await moderator.request('message:delete', { messageId: mine.messageId })
    t.match(await one.next('message:deleted'), { targetId: mine.messageId, userId: 9, channel: 'group.x' })
    t.match(removed, { targetId: mine.messageId })
    const repeated = await group(one, 'twice')
    const first = await one.request('message:edit', { messageId: repeated.messageId, message: 'once', dedupeId: 'k' })
    t.strictSame(await one.request('message:edit', { messageId: repeated.messageId, message: 'once', dedupeId: 'k' }), first, 'the same key is one edit')
  })

  test('erase removes everything that a user wrote from every table, and nothing else', async (t) => {
    const host = await buildHost(t, { backend, options: { ...options, presenceGrace: 0 }, conversations: { moderate: () => true } })
    const [one, two] = [await connect(host, user(1)), await connect(host, user(2))]
    const mine = await direct(one, 2, 'my words')
    await group(one, 'my words too')
    await two.request('message:edit', { messageId: mine.messageId, message: 'my words, moderated' })
    await one.request('user:typing', { conversationId: 'c', isTyping: true, recipientId: 2 })
    await one.request('user:presence', { status: 'busy', lastMessage: 'my words' })
    const theirs = await direct(two, 1, 'their words')
    const closed = one.closed
    const { total, rows } = await host.app.realtime.conversations.erase(1, 1)
    t.equal(await closed, 4000)
    t.ok(total >= 4 && (rows.websocket_events ?? 0) >= 3, JSON.stringify(rows))
    for (const table of ['websocket_events', 'websocket_deleted_messages', 'websocket_conversations', 'websocket_presence', 'websocket_connections', 'websocket_typing_indicators']) {
      const left = (await sql<Record<string, unknown>>`select * from ${sql.table(table)} where tenant_id = ${userOn(backend, 1).tenantId}`.execute(internalsOf(host.app).database.db)).rows
      t.notMatch(JSON.stringify(left), /my words/, table)
      if (table !== 'websocket_events') t.strictSame(left.filter((row) => String(row.user_id) === String(userOn(backend, 1).userId)), [], table)
    }
    t.match(await history(host, 2, 'with=1'), [{ data: { messageId: theirs.messageId, message: 'their words' } }])
  })

  test('waiting, failed and message are emitted once, also for events in the host’s own transactions', async (t) => {
    const [a, b] = await buildNodes(t, { backend, options: { ...options, presenceGrace: 0 } })
    const told: Array<[string, number, number | null]> = []
    const transactional: number[] = []
    for (const host of new Set([a, b])) {
      host.app.realtime.events.on('waiting', ({ userId, senderId, messageId, type, data }) => {
        t.match([senderId, type, data.messageId], [2, /^message:direct$|^notification:received$/, messageId])
        told.push(['waiting', messageId, userId])
      })
      host.app.realtime.events.on('failed', ({ userId, senderId, messageId, reason, data }) => {
        t.match([senderId, reason, data.messageId], [2, /7 days/, messageId])
        told.push(['failed', messageId, userId])
      })
      host.app.realtime.events.on('message', ({ messageId, data }) => { if (data.message === 'in a transaction') transactional.push(messageId) })
    }
    const sender = await connect(a, user(2))
    const away = await direct(sender, 1, 'are you there?')
    const { messageIds: [notified = 0] } = await sender.request('notification:send', { recipientIds: [1], title: 't', body: 'b' }) as { messageIds: number[] }
    await until('published', async () => (await rowsOf(a, 'websocket_events')).filter(({ due_at: due, handed_at: at }) => due !== null && at === null).length === 0)
    a.clock.advance(6000)
    a.clock.advance(5000)
    await until('both are told', () => told.length === 2)
    t.strictSame(told.toSorted(), [['waiting', away.messageId, 1], ['waiting', notified, 1]].toSorted())
    // Present: nothing is told, until the last connection ends.
    const [phone, laptop] = [await connect(b, user(3)), await connect(a, user(3))]
    const seen = await direct(sender, 3, 'unconfirmed')
    await phone.next('message:direct')
    await until('published', async () => (await rowsOf(a, 'websocket_events')).some(({ id, handed_at: at }) => Number(id) === seen.messageId && at !== null))
    a.clock.advance(11_000)
    await phone.end()
    await until('sent again', async () => (await rowsOf(a, 'websocket_events')).some(({ id, retry_count: count }) => Number(id) === seen.messageId && Number(count) > 0))
    t.equal(told.length, 2)
    await laptop.end()
    await until('the third is told', () => told.length === 3)
    t.strictSame(told[2], ['waiting', seen.messageId, 3])
    // Within the host's own transaction.
    const { db } = internalsOf(a.app).database
    await db.transaction().execute(async (transaction) => {
      await a.app.realtime.channels.direct({ tenantId: 1, userId: 2, recipientId: 1, message: 'in a transaction', conversationId: 'c', transaction })
    })
    await until('its message is told', () => transactional.length === 1)
    t.match(await list(b, 1), [{ with: 2, unread: 2 }])
    a.clock.advance(8 * 24 * 3600_000)
    for (const host of new Set([a, b])) await internalsOf(host.app).eventLog.sweep().catch(() => {})
    await internalsOf(a.app).database.db.updateTable('websocket_events').set({ due_at: '2020-01-01 00:00:00.000' }).where('status', '=', 'pending').execute()
    await until('they failed', () => told.filter(([event]) => event === 'failed').length >= 3)
    t.equal(new Set(told.map(String)).size, told.length, 'each once')
    t.equal(transactional.length, 1)
    t.match(await list(b, 1), [{ with: 2, unread: 2 }], 'what was given up is still unread')
  })
})

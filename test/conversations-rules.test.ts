import { internalsOf } from '../lib/internals.js'
import { buildHost, buildNodes, connect, overBackends, rest, rowsOf, until, user, type Client, type Host } from './helper.js'

const options = { authorize: () => true, presenceGrace: 0 }

const send = async (client: Client, event: string, data: object): Promise<number> =>
  (await client.request(event, { message: 'hi', conversationId: 'c', ...data }) as { messageId: number }).messageId

/** An object whose JSON has this number of bytes. */
const ofBytes = (bytes: number): { text: string } => ({ text: `é${'x'.repeat(bytes - JSON.stringify({ text: 'é' }).length - 1)}` })

const marks = async (host: Host): Promise<unknown[]> =>
  await internalsOf(host.app).database.db.selectFrom('websocket_conversations').selectAll().orderBy('user_id').execute()

overBackends((test, backend) => {
  test('a change that is repeated under its key returns the original result, although the message cannot be changed again', async (t) => {
    const [a, b] = await buildNodes(t, { backend, options, conversations: { editWindow: 60_000 } })
    const [one, two] = [await connect(a, user(1)), await connect(b, user(2))]
    const messageId = await send(one, 'message:direct', { recipientId: 2 })
    const other = await send(one, 'message:direct', { recipientId: 2 })
    const answer = async (host: Host, userId: number, method: 'PATCH' | 'DELETE', path: string, sent?: object): Promise<{ status: number, body: { code?: string, data: { message_id: number } } }> => {
      const { status, body } = await rest(host, user(userId), method, path, sent)
      return { status, body }
    }
    const edit = async (host: Host, id: number, key: string, userId = 1): ReturnType<typeof answer> =>
      await answer(host, userId, 'PATCH', `/messages/${id}`, { message: 'edited', dedupe_id: key })
    const remove = async (host: Host, id: number, key: string, userId = 1): ReturnType<typeof answer> =>
      await answer(host, userId, 'DELETE', `/messages/${id}?dedupe_id=${key}`)

    const edited = await edit(a, messageId, 'edit')
    a.clock.advance(61_000)
    t.strictSame(await edit(b, messageId, 'edit'), edited, 'too late for another edit')
    t.match(await edit(b, messageId, 'another'), { status: 403, body: { code: 'RT_FORBIDDEN' } })
    t.match(await edit(b, messageId, 'edit', 2), { status: 403 }, 'the key of another user')

    const again = await send(one, 'message:direct', { recipientId: 2 })
    await edit(a, again, 'edit 2')
    const deleted = await Promise.all([remove(a, again, 'delete'), remove(b, again, 'delete')])
    t.equal(deleted[0].status, 200)
    t.strictSame(deleted[1], deleted[0], 'at the same moment')
    t.strictSame(await remove(b, again, 'delete'), deleted[0])
    t.strictSame(await one.request('message:delete', { messageId: again, dedupeId: 'delete' }), { messageId: deleted[0].body.data.message_id, targetId: again })
    t.match(await edit(b, again, 'edit 2'), { status: 200, body: { data: { target_id: again } } }, 'an edit that was deleted since')
    for (const [id, key] of [[again, 'another'], [other + 1000, 'delete'], [again, 'edit 2']] as const) t.match(await remove(a, id, key), { status: 404, body: { code: 'RT_NOT_FOUND' } }, `${id} ${key}`)
    t.match(await remove(b, again, 'delete', 2), { status: 404 })
    await two.next('message:deleted')
    t.strictSame(await two.soFar('message:deleted'), [], 'deleted once')
    a.clock.advance(5 * 60_000)
    t.match(await remove(b, again, 'delete'), { status: 404 }, 'keys are kept for 5 minutes')
  })

  test('direct and group messages and edits have data of at most 4096 bytes, an object', async (t) => {
    const [a, b] = await buildNodes(t, { backend, options })
    const [one, reader] = [await connect(a, user(1)), await connect(b, user(2))]
    await reader.request('subscribe', { channel: 'group.x' })
    for (const [event, where] of [['message:direct', { recipientId: 2 }], ['message:group', { channel: 'group.x' }]] as const) {
      const data = ofBytes(4096)
      const messageId = await send(one, event, { ...where, data })
      t.match(await reader.next(event), { messageId, data })
      for (const wrong of [ofBytes(4097), [], 'x', null]) await t.rejects(send(one, event, { ...where, data: wrong }), { code: 'RT_INVALID_DATA', message: /data/ }, event)
      await one.request('message:edit', { messageId, message: 'edited', data: { n: 1 } })
      t.match(await reader.next('message:edited'), { data: { n: 1 } })
      await t.rejects(one.request('message:edit', { messageId, message: 'x', data: ofBytes(4097) }), { code: 'RT_INVALID_DATA' })
    }
  })

  test('labels do not split a conversation, and messages in it write nothing for its participants', async (t) => {
    const host = await buildHost(t, { backend, options })
    await host.app.realtime.conversations.add(1, [2, 3, 4], { channel: 'group.x' })
    const one = await connect(host, user(1))
    const first = await send(one, 'message:group', { channel: 'group.x', conversationId: 'a' })
    const isMarked = async (id: number): Promise<boolean> => (await marks(host)).some((row) => Number((row as { read_up_to: number }).read_up_to) === id)
    await until('the sender’s mark is written', async () => await isMarked(first))
    const before = (await marks(host)).slice(1)
    const last = await send(one, 'message:group', { channel: 'group.x', conversationId: 'b' })
    await until('the sender’s mark is written', async () => await isMarked(last))
    t.strictSame((await marks(host)).slice(1), before)
    t.match((await rest(host, user(2), 'GET', '/conversations')).body.data, [{ channel: 'group.x', unread: 2, last: { data: { messageId: last } } }])
    t.equal((await rest(host, user(2), 'GET', '/conversations')).body.data.length, 1)
    t.match((await rest(host, user(2), 'GET', '/history?channel=group.x')).body.data, [{ data: { conversationId: 'a' } }, { data: { conversationId: 'b' } }])
  })

  test('what a user sent moved the own mark, although it is deleted at once', async (t) => {
    const [a, b] = await buildNodes(t, { backend, options })
    const [one, two] = [await connect(a, user(1)), await connect(b, user(2))]
    for (const [event, mine, theirs] of [['message:direct', { recipientId: 2 }, { recipientId: 1 }], ['message:group', { channel: 'group.x' }, { channel: 'group.x' }]] as const) {
      await send(one, event, mine)
      await send(two, event, theirs)
      const answer = await send(one, event, mine)
      await one.request('message:delete', { messageId: answer })
      t.match((await rest(b, user(1), 'GET', '/conversations')).body.data[0], { unread: 0, read_up_to: answer }, event)
    }
    // A conversation that was taken off the list stays off it.
    const last = await send(one, 'message:group', { channel: 'group.x' })
    await b.app.realtime.conversations.remove(1, [1], { channel: 'group.x' })
    await one.request('message:delete', { messageId: last })
    t.match((await rest(a, user(1), 'GET', '/conversations')).body.data.map(({ channel }: { channel?: string }) => channel), [undefined])
  })

  test('with receiptsUpTo 0 no one in a channel sees read marks, and with more than activityUpTo participants no one is told of activity', async (t) => {
    const [a, b] = await buildNodes(t, { backend, options, conversations: { receiptsUpTo: 0, activityUpTo: 2 } })
    const [one, two, laptop] = [await connect(a, user(1)), await connect(b, user(2)), await connect(b, user(2))]
    for (const client of [one, two]) await client.request('subscribe', { channel: 'group.x' })
    await a.app.realtime.conversations.add(1, [1, 2, 3], { channel: 'group.x' })
    const messageId = await send(one, 'message:group', { channel: 'group.x' })
    await two.request('conversation:read', { channel: 'group.x', messageId })
    t.match(await laptop.next('conversation:read'), { userId: 2, channel: 'group.x', readUpTo: messageId }, 'the reader’s other connections are')
    // What is announced for the smaller one comes after whatever were announced for the larger one.
    await a.app.realtime.conversations.add(1, [1, 2], { channel: 'group.y' })
    await send(one, 'message:group', { channel: 'group.y' })
    t.match(await laptop.next('conversation:activity'), { channel: 'group.y' })
    t.strictSame([await one.soFar('conversation:read'), await laptop.soFar('conversation:activity')], [[], []])
  })

  test('edits and deletes of others ask moderate for the channel and the event, and need no confirmation', async (t) => {
    const asked: unknown[] = []
    const [a] = await buildNodes(t, { backend, options, conversations: { moderate: ({ identity, channel, event }) => asked.push([String(identity.userId), channel, event]) > 0 } })
    const one = await connect(a, user(1))
    const messageId = await send(one, 'message:group', { channel: 'group.x' })
    const waiting = await send(one, 'message:direct', { recipientId: 2 })
    await one.request('message:edit', { messageId: waiting, message: 'edited' })
    t.strictSame(asked, [], 'the sender needs no moderator')
    t.equal((await rest(a, user(3), 'PATCH', `/messages/${messageId}`, { message: 'moderated' })).status, 200)
    t.equal((await rest(a, user(3), 'DELETE', `/messages/${messageId}`)).status, 200)
    t.match(asked, [[/3$/, 'group.x', 'message:edit'], [/3$/, 'group.x', 'message:delete']])
    await until('everything is published', async () => (await rowsOf(a, 'websocket_events')).every(({ durable, handed_at: at }) => Number(durable) === 0 || at !== null))
    t.strictSame((await rowsOf(a, 'websocket_events')).filter(({ status }) => status === 'pending').map(({ id }) => Number(id)), [waiting])
  })
})

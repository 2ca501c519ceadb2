import type { Test } from 'tap'
import { buildNodes, connect, overBackends, rest, user, type Host } from './helper.js'

/** Users may write to each other, and use the group that ends with their number. */
const options = { authorize: ({ identity, channel, action }: { identity: { userId: unknown }, channel: string, action: string }) =>
  action === 'direct' || channel === `group.${String(identity.userId)}` }

async function told (t: Test, host: Host): Promise<{ direct: number, group: number }> {
  const [one, two] = [await connect(host, user(1)), await connect(host, user(2))]
  const { messageId: direct } = await one.request('message:direct', { recipientId: 2, message: 'secret', conversationId: 'c' }) as { messageId: number }
  const { messageId: group } = await two.request('message:direct', { recipientId: 1, message: 'secret', conversationId: 'c' }) as { messageId: number }
  t.ok(group > direct)
  return { direct, group }
}

overBackends((test, backend) => {
  test('no user reads, edits or deletes messages between others, or in another tenant', async (t) => {
    const [a, b] = await buildNodes(t, { backend, options, conversations: { moderate: () => true } })
    const { direct } = await told(t, a)
    const elsewhere = user(1, { tenantId: 2 })
    for (const [who, what] of [[user(3), 'another user'], [elsewhere, 'the same user of another tenant']] as const) {
      for (const query of ['with=1', 'with=2', 'with=3']) t.match(await rest(b, who, 'GET', `/history?${query}`), { status: 200, body: { data: [], more: false } }, `${what}: ${query}`)
      t.match((await rest(b, who, 'GET', '/conversations')).body, { data: [], next_cursor: null }, what)
      for (const channel of ['private-user.1', 'private-user.2']) t.equal((await rest(b, who, 'GET', `/history?channel=${channel}`)).status, channel === 'private-user.1' && who === elsewhere ? 200 : 403, `${what}: ${channel}`)
      t.match(await rest(b, who, 'PATCH', `/messages/${direct}`, { message: 'x' }), { status: 404, body: { code: 'RT_NOT_FOUND' } }, `${what}, although moderators may`)
      t.match(await rest(b, who, 'DELETE', `/messages/${direct}`), { status: 404 }, what)
      t.match(await rest(b, who, 'POST', '/conversations/read', { with: 2, message_id: direct }), { status: 200, body: { data: { unread: 0 } } }, what)
    }
    for (const who of [user(3), elsewhere]) t.match((await rest(b, who, 'GET', '/conversations')).body, { data: [] }, 'a conversation without messages is not in a list')
    t.strictSame((await rest(a, user(1), 'GET', '/history?channel=private-user.1')).body.data, [], 'direct messages are no messages of the own channel')
    t.match((await rest(a, user(2), 'GET', '/history?with=1')).body.data, [{ data: { message: 'secret' } }, { data: { message: 'secret' } }], 'unchanged')
    t.match((await rest(a, user(2), 'GET', '/conversations')).body.data, [{ with: 1 }], 'nobody gets into the list of others')
  })

  test('whatever a client makes up is refused with a reason, and changes nothing', async (t) => {
    const [a] = await buildNodes(t, { backend, options })
    const { direct } = await told(t, a)
    const one = await connect(a, user(1))
    const before = (await rest(a, user(1), 'GET', '/conversations')).body
    const cursorOf = (text: string): string => Buffer.from(text).toString('base64url')
    const bad: Array<['GET' | 'POST' | 'PATCH' | 'DELETE', string, object?]> = [
      ...['0', '-1', '1.5', '1e3', '0x10', '9007199254740992', 'x', ''].map((before): ['GET', string] => ['GET', `/history?with=2&before=${before}`]),
      ...['0', '201', '-1', '1.5', 'x', ''].flatMap((limit): Array<['GET', string]> => [['GET', `/history?with=2&limit=${limit}`], ['GET', `/conversations?limit=${limit}`]]),
      ...backend.endsWith('string ids') ? [] : [['GET', '/history?with='] as ['GET', string]], ['GET', '/history?with=a%2Fb'], ['GET', '/history?with=2&with=3'], ['GET', '/history?channel='], ['GET', '/history?channel=1%2F2'],
      ['GET', '/history?channel=~user.2'], ['GET', '/history?channel=%231'], ['GET', `/history?channel=${'x'.repeat(256)}`], ['GET', '/history?channel=group.%00'],
      ['GET', '/history?with=2&channel=group.1'], ['GET', '/history'], ['GET', `/history?with=2&conversation_id=${'x'.repeat(256)}`],
      ...['x', '1', '!', cursorOf('x'), cursorOf('1'), cursorOf('-1,group.x'), cursorOf('99999999999999999,x'), cursorOf(','), 'a'.repeat(501)].map((cursor): ['GET', string] => ['GET', `/conversations?cursor=${cursor}`]),
      ...[0, -1, 1.5, 'x', null, 2 ** 53].map((message_id): ['POST', string, object] => ['POST', '/conversations/read', { with: 2, message_id }]),
      ['POST', '/conversations/read', { message_id: 1 }], ['POST', '/conversations/read', { with: 2, channel: 'group.1', message_id: 1 }],
      ['POST', '/conversations/read', { channel: '1/2', message_id: 1 }], ['POST', '/conversations/read', { with: { $gt: 0 }, message_id: 1 }],
      ...['0', '-1', '1.5', 'x', '1e3', '99999999999999999', '%27'].map((id): ['PATCH', string, object] => ['PATCH', `/messages/${id}`, { message: 'x' }]),
      ...[{}, { message: '' }, { message: 1 }, { message: 'x'.repeat(5001) }, { message: 'x', data: [] }, { message: 'x', data: { text: 'x'.repeat(4096) } }, { message: 'x', dedupe_id: '' }, { message: '\u0000' }, { message: '\ud800' }]
        .map((body): ['PATCH', string, object] => ['PATCH', `/messages/${direct}`, body]),
      ...['', 'x'.repeat(99)].map((key): ['DELETE', string] => ['DELETE', `/messages/${direct}?dedupe_id=${key}`])
    ]
    for (const [method, path, body] of bad) {
      t.equal((await rest(a, user(1), method, path, body)).status, 400, `${method} ${path} ${JSON.stringify(body ?? {}).slice(0, 80)}`)
    }
    const frames: Array<[string, unknown]> = [
      ['history', { with: 2, before: '5' }], ['history', { with: 2, limit: 201 }], ['history', { with: [2] }], ['history', { channel: '1/2' }], ['history', {}],
      ['conversation:read', { with: 2, messageId: '5' }], ['conversation:read', { with: 2 }], ['conversation:read', { channel: '~user.2', messageId: 1 }],
      ['message:edit', { messageId: String(direct), message: 'x' }], ['message:edit', { messageId: direct }], ['message:edit', { messageId: direct, message: 'x', data: 'x' }],
      ['message:delete', { messageId: -1 }], ['message:delete', { messageId: [direct] }], ['message:delete', {}]
    ]
    for (const [event, data] of frames) await t.rejects(one.request(event, data), { code: 'RT_INVALID_DATA' }, `${event} ${JSON.stringify(data)}`)
    const { data } = (await rest(a, user(1), 'GET', '/history?with=2')).body
    t.match(data, [{ data: { message: 'secret' } }, { data: { message: 'secret' } }])
    t.notOk(data.some(({ data }: { data: object }) => 'editedAt' in data))
    t.strictSame((await rest(a, user(1), 'GET', '/conversations')).body, before)
    // A cursor of somebody else, or of a conversation that is none, is a place in the own list and nothing else.
    for (const cursor of ['9007199254740991,zzz', '0,1/2', `${direct},group.9' or '1'='1`]) {
      const { status, body } = await rest(a, user(1), 'GET', `/conversations?cursor=${cursorOf(cursor)}`)
      t.equal(status, 200, cursor)
      t.ok(body.data.length <= 1, cursor)
    }
  })

  test('a mark cannot be moved where there is nothing, back, or in a channel that one may not read', async (t) => {
    const [a, b] = await buildNodes(t, { backend, options })
    const { direct, group } = await told(t, a)
    const read = async (messageId: number): Promise<unknown> => (await rest(b, user(2), 'POST', '/conversations/read', { with: 1, message_id: messageId })).body.data
    t.match(await read(Number.MAX_SAFE_INTEGER), { unread: 0 })
    const { read_up_to: mark } = (await rest(b, user(2), 'GET', '/conversations')).body.data[0] as { read_up_to: number }
    t.ok(mark >= group && mark < 1000, 'at most the newest event of all')
    t.match(await read(direct), { unread: 0, read_up_to: mark })
    await a.app.realtime.channels.direct({ tenantId: 1, userId: 1, recipientId: 2, message: 'new', conversationId: 'c' })
    t.match((await rest(a, user(2), 'GET', '/conversations')).body.data[0], { unread: 1 }, 'a mark in the future would hide it')
    t.equal((await rest(b, user(2), 'POST', '/conversations/read', { channel: 'group.1', message_id: 1 })).status, 403)
    t.equal((await rest(b, user(2), 'GET', '/history?channel=group.1')).status, 403)
    t.match(await rest(b, user(2), 'GET', '/history?channel=user:me'), { status: 200, body: { data: [] } })
  })

  test('a user who searches on and on for a label is refused, and others are not', async (t) => {
    const [a, b] = await buildNodes(t, { backend, options: { ...options, requestsPerMinute: 0 } })
    await told(t, a)
    // A minute of the limit, whole.
    a.clock.advance(60_000 - a.clock.now() % 60_000)
    const search = async (host: Host, userId: number): Promise<number> => (await rest(host, user(userId), 'GET', `/history?with=${3 - userId}&conversation_id=none`)).status
    let searches = 0
    while (await search(a, 1) === 200) if (++searches > 300) break
    t.ok(searches > 100 && searches <= 300, `${searches}`)
    t.equal(await search(a, 2), 200)
    t.equal((await rest(b, user(1), 'GET', '/history?with=2')).status, 200, 'without a label an index finds it')
    a.clock.advance(60_000)
    t.equal(await search(a, 1), 200)
  })
})

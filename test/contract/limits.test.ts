import { type Client, connect, newClub, rest, tokenFor } from './client.js'
import { overTopologies } from './topologies.js'

overTopologies({}, (test, { at }) => {
  const member = async (): Promise<Client> => await connect(at(0), tokenFor(1, newClub()))

  test('a malformed frame gets an error and is counted, and only the twentieth closes the socket', async (t) => {
    const client = await member()
    const bad = ['not json', '[]', '"text"', '{"data":{}}', '{"event":5}', '{"event":"nope"}', '{"event":"subscribe","data":[]}']
    for (const text of bad) {
      client.socket.send(text)
      t.match(await client.next('error'), { code: 'RT_INVALID_FRAME', message: String })
    }
    client.socket.send('{"event":"nope","id":"mine"}')
    t.match(await client.take(({ id }) => id === 'mine'), { event: 'error', data: { code: 'RT_INVALID_FRAME' } })
    t.match(await client.request('ping'), { timestamp: String }, 'the socket stays')
    for (let i = bad.length + 1; i < 20; i++) client.socket.send('{')
    t.equal(await client.closed, 4400)
  })

  test('bad data name the field', async (t) => {
    const client = await member()
    const cases: Array<[event: string, data: unknown, field: RegExp]> = [
      ['subscribe', {}, /channel/],
      ['subscribe', { channel: '-x' }, /channel/],
      ['message:direct', { recipientId: 'number two', message: 'x', conversationId: 'c' }, /recipientId/],
      ['message:direct', { recipientId: 2, message: 'x'.repeat(5001), conversationId: 'c' }, /message/],
      ['message:group', { channel: 'group.x', message: '', conversationId: 'c' }, /message/],
      ['notification:send', { recipientIds: [], title: 't', body: 'b' }, /recipientIds/],
      ['user:typing', { isTyping: true }, /conversationId/],
      ['message:delivered', { messageId: -1 }, /messageId/]
    ]
    for (const [event, data, message] of cases) await t.rejects(client.request(event, data), { code: 'RT_INVALID_DATA', message }, event)
    t.match(await client.request('message:direct', { recipientId: 2, message: 'x'.repeat(5000), conversationId: 'c' }), { messageId: Number })
  })

  test('without an id success is silent and failure is an error frame without one', async (t) => {
    const client = await member()
    client.send('message:group', { channel: 'group.x', message: 'x', conversationId: 'c' })
    client.send('message:group', { channel: 'forbidden', message: 'x', conversationId: 'c' })
    client.send('subscribe', { channel: 'group.x' })
    client.send('unsubscribe', { channel: 'group.x' })
    const error = await client.take(({ event }) => event === 'error')
    t.match(error, { data: { code: 'RT_FORBIDDEN' } })
    t.equal(error.id, undefined)
    t.match(await client.next('subscribed'), { channel: 'group.x', position: Number })
    t.strictSame(await client.next('unsubscribed'), { channel: 'group.x' })
    t.notOk(client.frames.some(({ event }) => event === 'ack'))
  })

  test('a connection may subscribe to at most 100 channels', async (t) => {
    const client = await member()
    for (let i = 0; i < 100; i++) {
      if (i % 40 === 39) await new Promise((resolve) => setTimeout(resolve, 1000)) // within the frame rate
      await client.request('subscribe', { channel: `group.${i}` })
    }
    await t.rejects(client.request('subscribe', { channel: 'group.over' }), { code: 'RT_LIMIT_EXCEEDED' })
    await client.request('subscribe', { channel: 'group.1' })
    await client.request('unsubscribe', { channel: 'group.1' })
    await client.request('subscribe', { channel: 'group.over' })
  })

  test('a frame above 64 KiB closes with 1009', async (t) => {
    const client = await member()
    client.send('ping', { padding: 'x'.repeat(64 * 1024) })
    t.equal(await client.closed, 1009)
  })

  test('frames beyond the rate are refused with retryAfter, and a client that continues is closed with 4429', async (t) => {
    const client = await member()
    for (let i = 0; i < 150; i++) client.send('ping', {}, i)
    const refused = await client.take(({ event }) => event === 'error')
    t.match(refused.data, { code: 'RT_RATE_LIMITED', retryAfter: Number })
    await new Promise((resolve) => setTimeout(resolve, refused.data.retryAfter * 1000))
    t.match(await client.request('ping'), { timestamp: String }, 'it is not closed for that')
    for (let i = 0; i < 1000; i++) client.send('ping')
    t.equal(await client.closed, 4429)
  })

  test('clients may not publish to reserved channels', async (t) => {
    const client = await connect(at(0), tokenFor(1, newClub(), { admin: true }))
    for (const channel of ['presence', 'broadcast', 'private-user.2', 'user:me']) {
      await t.rejects(client.request('message:group', { channel, message: 'x', conversationId: 'c' }), { code: 'RT_FORBIDDEN' }, channel)
    }
    await t.rejects(client.request('subscribe', { channel: 'private-user.2' }), { code: 'RT_FORBIDDEN' })
    await t.rejects(client.request('subscribe', { channel: 'elsewhere' }), { code: 'RT_FORBIDDEN' })
  })

  test('bad requests get Fastify’s validation answer', async (t) => {
    const token = tokenFor(1, newClub())
    const cases: Array<[method: string, path: string, body?: unknown]> = [
      ['GET', '/presence/no:one'], ['GET', '/presence?user_ids=1,x:y'], ['GET', '/online-users?limit=501'], ['GET', '/events'],
      ['POST', '/typing', { conversation_id: '' }], ['POST', '/messages/group', { channel: 'group.x', message: '', conversation_id: 'c' }],
      ['POST', '/notifications', { recipient_ids: [], title: 't', body: 'b' }], ['POST', '/subscribe', { connection_id: 'x', channel: '/' }]
    ]
    for (const [method, path, body] of cases) {
      t.match(await rest(at(0), token, method, path, body), { status: 400, body: { statusCode: 400, code: 'FST_ERR_VALIDATION', error: 'Bad Request' } }, path)
    }
  })
})

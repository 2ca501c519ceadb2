import type { Test } from 'tap'
import {
  allowAll, buildHost, buildNodes, connect, leave, overBackends, rest, rowsOf, until, user, type Backend, type Client, type Host, type HostSettings
} from './helper.js'

const typersOf = async (host: Host, conversation = 'c'): Promise<number[]> =>
  (await rest(host, user(9), 'GET', `/typing/${conversation}`)).body.data.map(({ user_id: id }: { user_id: number }) => id)

/** A typist and a reader who listens to group.x, on a node each. */
async function talkers (t: Test, backend: Backend, settings: Partial<HostSettings> = {}): Promise<{ a: Host, b: Host, typist: Client, reader: Client }> {
  const [a, b] = await buildNodes(t, { backend, ...settings, options: { ...allowAll, ...settings.options } })
  const [typist, reader] = [await connect(a, user(1), { connectionId: 'typist' }), await connect(b, user(2))]
  await reader.request('subscribe', { channel: 'group.x' })
  return { a, b, typist, reader }
}

const sign = { channel: 'group.x', conversationId: 'c', isTyping: true }

/** The typing events that the reader received, up to a marker sent after them. */
async function received (from: Host, reader: Client): Promise<string[]> {
  from.app.realtime.channels.tell({ tenantId: 1, channel: 'group.x', event: 'marker', data: {} })
  await reader.next('marker')
  return (await reader.soFar('user:typing')).map(({ conversationId, isTyping }) => `${isTyping ? 'starts' : 'stops'} ${conversationId}`)
}

overBackends((test, backend) => {
  test('typing expires 30 s after the last update, and the stop is sent once', async (t) => {
    const { a, b, typist, reader } = await talkers(t, backend)
    const { expiresAt } = await typist.request('user:typing', sign)
    t.ok(Math.abs(Date.parse(expiresAt) - a.clock.now() - 30_000) < 1000)
    t.match(await reader.next('user:typing'), { userId: 1, isTyping: true, conversationId: 'c', conversationType: 'group', timestamp: /\.\d{3}Z$/ })
    for (let i = 0; i < 3; i++) {
      a.clock.advance(25_000)
      await typist.request('user:typing', sign)
    }
    t.strictSame(await typersOf(b), [1], 'kept up by further signs')
    t.strictSame(await received(a, reader), [], 'which are not sent')
    a.clock.advance(30_000)
    t.strictSame(await typersOf(b), [], 'not for a moment longer')
    t.match(await reader.next('user:typing'), { userId: 1, isTyping: false, conversationId: 'c', conversationType: 'group' })
    await typist.request('user:typing', { ...sign, conversationId: 'later' })
    a.clock.advance(30_000)
    await reader.next('user:typing', ({ conversationId, isTyping }) => conversationId === 'later' && !isTyping)
    t.strictSame(await received(a, reader), ['starts later'], 'the stop was sent once')
    t.strictSame(await typist.soFar('user:typing'), [], 'and never to the connection that typed')
  })

  test('the expiry is the host’s to choose', async (t) => {
    const { a, typist, reader } = await talkers(t, backend, { typing: { expiry: 5000 } })
    const { expiresAt } = await typist.request('user:typing', sign)
    t.ok(Date.parse(expiresAt) - a.clock.now() <= 5000)
    a.clock.advance(5000)
    await reader.next('user:typing', ({ isTyping }) => !isTyping)
  })

  test('typing ends with a message, with a word, and with the connection that typed', async (t) => {
    const { a, b, typist, reader } = await talkers(t, backend)
    const ends: Array<[string, () => Promise<unknown>]> = [
      ['a group message', async () => { await typist.request('message:group', { channel: 'group.x', message: 'x', conversationId: 'c' }) }],
      ['a direct message', async () => { await typist.request('message:direct', { recipientId: 2, message: 'x', conversationId: 'c' }) }],
      ['a message by REST', async () => { await rest(b, user(1), 'POST', '/messages/direct', { recipient_id: 2, message: 'x', conversation_id: 'c' }) }],
      ['a frame', async () => { await typist.request('user:typing', { conversationId: 'c', isTyping: false }) }],
      ['REST', async () => { await rest(b, user(1), 'POST', '/typing', { conversation_id: 'c', is_typing: false }) }]
    ]
    for (const [what, end] of ends) {
      await typist.request('user:typing', sign)
      await reader.next('user:typing', ({ isTyping }) => isTyping)
      await end()
      t.match(await reader.next('user:typing'), { isTyping: false, conversationId: 'c' }, what)
      t.strictSame(await typersOf(a), [])
    }
    await typist.request('user:typing', { conversationId: 'c', isTyping: false })
    t.strictSame(await received(a, reader), [], 'an end without a start is not sent')
    const tab = await connect(a, user(1))
    await tab.request('user:typing', { ...sign, conversationId: 'tab' })
    await typist.request('user:typing', sign)
    await leave(a, tab)
    await reader.next('user:typing', ({ conversationId, isTyping }) => conversationId === 'tab' && !isTyping)
    t.strictSame(await typersOf(b), [1], 'the other tab continues')
    await leave(a, typist)
    await reader.next('user:typing', ({ conversationId, isTyping }) => conversationId === 'c' && !isTyping)
  })

  test('typing is sent to the channel, else to the recipient, else to the participants that the host names', async (t) => {
    const asked: unknown[] = []
    const { b, typist, reader } = await talkers(t, backend, {
      typing: {
        participants: async (conversation) => {
          asked.push(conversation)
          return conversation.conversationId === 'three' ? [1, 2, 3] : null
        }
      }
    })
    const third = await connect(b, user(3))
    const ofAnotherTenant = await connect(b, user(3, { tenantId: 2 }))
    await typist.request('user:typing', { conversationId: 'by channel', channel: 'group.x', recipientId: 3, isTyping: true })
    t.match(await reader.next('user:typing'), { conversationId: 'by channel' })
    await typist.request('user:typing', { conversationId: 'by recipient', recipientId: 3, isTyping: true })
    t.match(await third.next('user:typing'), { conversationId: 'by recipient', conversationType: 'direct' })
    await typist.request('user:typing', { conversationId: 'three', conversationType: 'group', isTyping: true })
    for (const client of [reader, third]) t.match(await client.next('user:typing'), { conversationId: 'three', conversationType: 'group', isTyping: true })
    t.strictSame(asked.at(-1), { tenantId: 1, conversationId: 'three', conversationType: 'group' })
    await typist.request('user:typing', { conversationId: 'three', isTyping: false })
    for (const client of [reader, third]) t.match(await client.next('user:typing'), { conversationId: 'three', isTyping: false })
    for (const client of [typist, reader, third, ofAnotherTenant]) t.strictSame(await client.soFar('user:typing'), [])
  })

  test('without participants typing is sent to the subscribers of the conversation', async (t) => {
    const { b, typist, reader } = await talkers(t, backend)
    await reader.request('subscribe', { channel: 'conversation.c1' })
    await typist.request('user:typing', { conversationId: 'c1', isTyping: true })
    t.match(await reader.next('user:typing'), { conversationId: 'c1', isTyping: true })
    t.match(await rest(b, user(1), 'POST', '/typing', { conversation_id: 'no channel’s name', is_typing: true }), { status: 200 })
    t.strictSame(await typersOf(b, encodeURIComponent('no channel’s name')), [1])
  })

  test('typing to a channel or a recipient needs the right to publish', async (t) => {
    const { typist, b } = await talkers(t, backend, { options: { authorize: ({ action, channel }) => action !== 'publish' && channel !== 'private-user.3' } })
    const refused = [{ channel: 'group.x' }, { channel: 'presence' }, { channel: 'private-user.2' }, { recipientId: 3 }]
    for (const whom of refused) {
      await t.rejects(typist.request('user:typing', { ...whom, conversationId: 'c', isTyping: true }), { code: 'RT_FORBIDDEN' }, JSON.stringify(whom))
    }
    t.match(await rest(b, user(1), 'POST', '/typing', { channel: 'group.x', conversation_id: 'c', is_typing: true }), { status: 403, body: { code: 'RT_FORBIDDEN' } })
    t.strictSame(await typersOf(b), [])
    await typist.request('user:typing', { recipientId: 2, conversationId: 'c', isTyping: true })
    t.strictSame(await typersOf(b), [1])
  })

  test('signs are counted over REST, frames and nodes together, at the host’s rate', async (t) => {
    const { a, b, typist } = await talkers(t, backend, { typing: { signsPerMinute: 4 } })
    for (let i = 0; i < 2; i++) {
      await typist.request('user:typing', sign)
      t.equal((await rest(b, user(1), 'POST', '/typing', { conversation_id: 'c', is_typing: true })).status, 200)
    }
    await t.rejects(typist.request('user:typing', sign), { code: 'RT_RATE_LIMITED', retryAfter: Number })
    const refused = await rest(a, user(1), 'POST', '/typing', { conversation_id: 'c', is_typing: false })
    t.match(refused, { status: 429, body: { code: 'RT_RATE_LIMITED' } })
    t.ok(Number(refused.headers['retry-after']) > 0 && Number(refused.headers['retry-after']) <= 60)
    t.equal((await rest(b, user(2), 'POST', '/typing', { conversation_id: 'c', is_typing: true })).status, 200)
  })

  test('host code and REST list who types, with names, in their own tenant', async (t) => {
    const { a, b, typist, reader } = await talkers(t, backend, {
      options: { resolveUsers: (_, ids) => new Map(ids.map((id) => [id, { name: `User ${id}` }])) }
    })
    const emitted: Array<[number, boolean]> = []
    a.app.realtime.events.on('typing', ({ userId, isTyping }) => { emitted.push([userId, isTyping]) })
    await typist.request('user:typing', sign)
    a.clock.advance(1000)
    await reader.request('user:typing', sign)
    const data = [{ user_id: 1, user_name: 'User 1', started_at: /\.\d{3}Z$/ }, { user_id: 2, user_name: 'User 2', started_at: /\.\d{3}Z$/ }]
    t.match(await b.app.realtime.typing.list(1, 'c'), [{ userId: 1, userName: 'User 1', startedAt: /Z$/ }, { userId: 2, userName: 'User 2', startedAt: /Z$/ }])
    t.match(await b.app.realtime.typing.in(1, 'c'), data)
    t.match((await rest(b, user(9), 'GET', '/typing/c')).body, { data, count: 2 })
    t.strictSame(await a.app.realtime.typing.in(2, 'c'), [])
    t.strictSame((await rest(a, user(9, { tenantId: 2 }), 'GET', '/typing/c')).body, { data: [], count: 0 })
    await typist.request('user:typing', { ...sign, isTyping: false })
    t.strictSame(emitted.filter(([id]) => id === 1), [[1, true], [1, false]])
  })

  test('a typist has one row in a conversation, and none is written per sign', async (t) => {
    const { a, typist } = await talkers(t, backend)
    const row = async (isTyping: number) => await until(`a row that says ${isTyping}`, async () => {
      const rows = await rowsOf(a, 'websocket_typing_indicators')
      t.ok(rows.length <= 1)
      return Number(rows[0]?.is_typing) === isTyping && rows[0]
    })
    const { expiresAt } = await typist.request('user:typing', sign)
    const started = await row(1)
    t.match(started, {
      tenant_id: 1, user_id: 1, conversation_id: 'c', conversation_type: 'group', expires_at: expiresAt.replace('T', ' ').slice(0, 23)
    })
    for (let i = 0; i < 20; i++) await typist.request('user:typing', sign)
    await typist.request('user:typing', { ...sign, isTyping: false })
    const stopped = await row(0)
    t.match(stopped, { id: started.id, started_at: started.started_at })
    const audit = await until('both edges are recorded', async () => {
      const rows = (await rowsOf(a, 'websocket_events')).filter(({ event_type: type }) => type === 'user:typing')
      return rows.length >= 2 && rows
    })
    t.match(audit.map(({ channel, status, payload }) => [channel, status, payload.isTyping]), [['group.x', 'delivered', true], ['group.x', 'delivered', false]])
    t.equal(audit.length, 2)
  })

  test('a message ends typing only where it was sent to', async (t) => {
    const host = await buildHost(t, { backend, options: allowAll })
    const typist = await connect(host, user(1))
    for (const conversationId of ['c', 'd']) await typist.request('user:typing', { channel: 'group.x', conversationId, isTyping: true })
    await typist.request('message:group', { channel: 'group.x', message: 'x', conversationId: 'c' })
    await until('the one is ended', async () => (await typersOf(host, 'c')).length === 0)
    t.strictSame(await typersOf(host, 'd'), [1])
  })
})

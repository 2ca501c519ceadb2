import t from 'tap'
import { buildApp, connect } from '../plugins/testing.js'

t.test('an app in memory, its clients, and a clock to move', async (t) => {
  const { app, clock } = await buildApp({ core: { authorize: () => true } })
  t.teardown(async () => { await app.close() })
  const [ann, ben] = [await connect(app, { tenantId: 1, userId: 1 }), await connect(app, { tenantId: 1, userId: 2 }, { connectionId: 'tab' })]
  for (const client of [ann, ben]) await client.request('subscribe', { channel: 'group.x' })
  const { messageId } = await ann.request('message:group', { channel: 'group.x', message: 'hello', conversationId: 'c' })
  t.match(await ben.next('message:group'), { messageId, message: 'hello' })
  await ann.request('user:typing', { channel: 'group.x', conversationId: 'c', isTyping: true })
  t.match(await ben.next('user:typing'), { userId: 1, isTyping: true })
  clock.advance(30_000)
  t.match(await ben.next('user:typing'), { userId: 1, isTyping: false })
  await t.rejects(ben.request('message:direct', { recipientId: 0 }), { code: 'RT_INVALID_DATA' })
  t.equal(await ann.end(), 1005)
})

t.test('a host’s own authentication works as before', async (t) => {
  const { app } = await buildApp({
    core: { authenticate: ({ request }) => request.headers.cookie === 'sid=ann' ? { tenantId: 1, userId: 7 } : null }, plugins: ['connections']
  })
  t.teardown(async () => { await app.close() })
  const client = await connect(app, null, { headers: { cookie: 'sid=ann' } })
  t.match(await client.request('ping'), { timestamp: String })
  t.equal(app.realtime.connections.size, 1)
})

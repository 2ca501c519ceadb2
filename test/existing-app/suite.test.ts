import t from 'tap'
import { ask, connect, logIn, startDesk, upgradeStatus } from './desk.js'

const API = '/api/websocket'

t.test('our routes in the product answer in their own shapes, and the product’s hooks in theirs', async (t) => {
  const desk = await startDesk(t, 'with fastify-realtime')
  const ann = await logIn(desk, 'Ann')
  t.match(await ask(desk, ann, 'POST', `${API}/connect`, { connection_id: 'tab' }), { status: 201, body: { data: { connection_id: 'tab', status: 'connected' } } })
  t.match(await ask(desk, ann, 'GET', `${API}/stats`), { status: 200, body: { data: { total_connections: 1 } } })
  t.match(await ask(desk, ann, 'POST', `${API}/connect`, {}), {
    status: 400, body: { statusCode: 400, code: 'FST_ERR_VALIDATION', error: 'Bad Request', message: /connection_id/ }
  })
  t.match(await ask(desk, ann, 'POST', `${API}/connect`, '{'), { status: 400, body: { code: 'FST_ERR_CTP_INVALID_JSON_BODY' } })
  t.strictSame((await ask(desk, ann, 'POST', `${API}/broadcast`, { message: 'x' })).body,
    { statusCode: 403, code: 'RT_FORBIDDEN', error: 'Forbidden', message: 'Not allowed' })
  t.match(await ask(desk, ann, 'POST', `${API}/disconnect`, { connection_id: 'none' }), { status: 404, body: { code: 'RT_NOT_FOUND' } })
  t.strictSame((await ask(desk, null, 'GET', `${API}/stats`)).body, { ok: false, problem: { status: 401, text: 'Log in first' } })
})

t.test('two users of the product talk over their session cookies', async (t) => {
  const desk = await startDesk(t, 'with fastify-realtime')
  const [ann, ben] = [await connect(desk, await logIn(desk, 'Ann')), await connect(desk, await logIn(desk, 'Ben'))]
  for (const client of [ann, ben]) await client.request('subscribe', { channel: 'group.desk' })
  const { messageId } = await ann.request('message:group', { channel: 'group.desk', message: 'hello', conversationId: 'c' })
  t.match(await ben.next('message:group'), { messageId, message: 'hello' })
  t.match((await ask(desk, await logIn(desk, 'Ann'), 'GET', `${API}/online-users`)).body, { data: [{ name: 'Ann' }, { name: 'Ben' }], total: 2 })
})

t.test('a page that reconnects does not use up the product’s limit', async (t) => {
  const desk = await startDesk(t, 'with fastify-realtime', { requestsPerMinute: 20 })
  const cookie = await logIn(desk, 'Ann')
  const statuses = new Set<number>()
  for (let i = 0; i < 60; i++) statuses.add(await upgradeStatus(desk, `${API}/ws`, { cookie }))
  t.strictSame([...statuses], [101])
  for (let i = 0; i < 30; i++) statuses.add((await ask(desk, cookie, 'GET', `${API}/stats`)).status)
  t.strictSame([...statuses], [101, 200])
  t.equal((await ask(desk, cookie, 'GET', '/orders')).status, 200)
})

t.test('our routes are complete in the product’s OpenAPI document', async (t) => {
  const { body } = await ask(await startDesk(t, 'with fastify-realtime'), null, 'GET', '/openapi.json')
  t.match(body, { paths: { [`${API}/connect`]: { post: {
    requestBody: { content: { 'application/json': { schema: { required: ['connection_id'] } } } }, responses: { 201: {}, 409: {} }
  } } } })
})

t.test('upgrades that the product refuses leave no socket behind', async (t) => {
  const desk = await startDesk(t, 'with fastify-realtime')
  for (const path of [`${API}/ws`, '/live', '/orders', '/nothing']) t.equal(await upgradeStatus(desk, path), 401, path)
  const began = Date.now()
  await desk.app.close()
  t.ok(Date.now() - began < 5000)
})

import { once } from 'node:events'
import t from 'tap'
import { ask, logIn, socketTo, startDesk, type Variant } from './desk.js'

/** The product's own tests: they are the same whether fastify-realtime is registered or not. */
for (const variant of ['alone', 'with fastify-realtime'] satisfies Variant[]) {
  t.test(`the product ${variant}`, { buffered: true }, async (t) => {
    await t.test('keeps its answers, its errors and its validation', async (t) => {
      const desk = await startDesk(t, variant)
      const ann = await logIn(desk, 'Ann')
      t.match(await ask(desk, ann, 'POST', '/orders', { item: 'a chair' }), { status: 200, body: { ok: true, result: { id: 1 } } })
      t.strictSame((await ask(desk, ann, 'GET', '/orders')).body, { ok: true, result: [{ id: 1, item: 'a chair' }] })
      t.match(await ask(desk, ann, 'POST', '/orders', { item: '' }), { status: 422, body: { ok: false, problem: { status: 422 } } })
      t.match(await ask(desk, ann, 'POST', '/orders', { item: 'the moon' }), { status: 409, body: { ok: false, problem: { status: 409, text: 'Sold out' } } })
      t.strictSame((await ask(desk, ann, 'GET', '/crash')).body, { ok: false, problem: { status: 500, text: 'Something went wrong' } })
      t.match(await ask(desk, null, 'GET', '/orders'), { status: 401, body: { ok: false, problem: { text: 'Log in first' } } })
      t.match(await ask(desk, null, 'POST', '/webhooks/payment', '{"raw":  true}'), { body: { ok: true, result: { bytes: 14 } } }, 'its raw bodies')
      t.match(await ask(desk, null, 'GET', '/health'), { body: { result: { redis: 'PONG' } } })
      t.equal((await ask(desk, ann, 'GET', '/nothing')).status, 404)
      t.ok((await ask(desk, ann, 'GET', '/orders')).headers.get('content-security-policy'))
    })

    await t.test('keeps its limit for each address', async (t) => {
      const desk = await startDesk(t, variant, { requestsPerMinute: 5 })
      const ann = await logIn(desk, 'Ann')
      const answers = []
      for (let i = 0; i < 5; i++) answers.push(await ask(desk, ann, 'GET', '/orders'))
      t.strictSame(answers.map(({ status }) => status), [200, 200, 200, 200, 429])
      t.match(answers.at(-1)?.body, { ok: false, problem: { status: 429 } })
    })

    await t.test('keeps its sockets', async (t) => {
      const desk = await startDesk(t, variant)
      const socket = socketTo(desk, '/live', { cookie: await logIn(desk, 'Ann') })
      await once(socket, 'open')
      socket.send('hello')
      const [data] = await once(socket, 'message') as [Buffer]
      t.equal(data.toString(), 'live: hello')
      const closed = once(socket, 'close')
      await desk.app.close()
      await closed
    })

    await t.test('keeps its OpenAPI document', async (t) => {
      const { status, body } = await ask(await startDesk(t, variant), null, 'GET', '/openapi.json')
      t.equal(status, 200)
      t.match(body, { paths: { '/orders': { post: { requestBody: { content: { 'application/json': { schema: { properties: { item: { maxLength: 100 } } } } } } } } } })
    })
  })
}

import helmet from '@fastify/helmet'
import rateLimit from '@fastify/rate-limit'
import sensible from '@fastify/sensible'
import underPressure from '@fastify/under-pressure'
import type { FastifyError, FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'
import { internalsOf } from '../lib/internals.js'
import { PREFIX, rest, tokenOf, user } from './helper.js'
import { otherHost } from './other-hosts.js'

t.jobs = 3
const me = user(1)
const test = (sentence: string, body: (t: Test) => Promise<void>): void => { void t.test(sentence, { buffered: true }, body) }
const raw = async (app: FastifyInstance, path: string, payload: string | Buffer, type = 'application/json') => {
  const response = await app.inject({ method: 'POST', url: PREFIX + path, headers: { authorization: `Bearer ${tokenOf(me)}`, 'content-type': type }, payload })
  return { status: response.statusCode, body: response.json<Record<string, unknown>>() }
}

test('a host’s error handler handles the host’s errors, and not those of fastify-realtime', async (t) => {
  const host = await otherHost(t, {
    core: { requestsPerMinute: 12 },
    before: (app) => {
      app.setErrorHandler(async (_error, _request, reply) => await reply.code(500).send({ mine: true }))
      app.get('/own', async () => { throw new Error('own') })
    }
  })
  const { app } = host
  t.strictSame((await app.inject('/own')).json(), { mine: true })
  const shape = (statusCode: number, code: string, error: string) => ({ status: statusCode, body: { statusCode, code, error, message: String } })
  t.match(await rest(host, me, 'POST', '/connect', {}), shape(400, 'FST_ERR_VALIDATION', 'Bad Request'))
  t.match(await rest(host, null, 'GET', '/stats'), shape(401, 'RT_UNAUTHENTICATED', 'Unauthorized'))
  t.match(await rest(host, me, 'POST', '/broadcast', { message: 'x' }), shape(403, 'RT_FORBIDDEN', 'Forbidden'))
  t.match(await rest(host, me, 'POST', '/disconnect', { connection_id: 'x' }), shape(404, 'RT_NOT_FOUND', 'Not Found'))
  t.match(await raw(app, '/connect', '{'), shape(400, 'FST_ERR_CTP_INVALID_JSON_BODY', 'Bad Request'))
  t.match(await raw(app, '/connect', ''), shape(400, 'FST_ERR_CTP_EMPTY_JSON_BODY', 'Bad Request'))
  t.match(await raw(app, '/connect', 'x', 'text/html'), shape(415, 'FST_ERR_CTP_INVALID_MEDIA_TYPE', 'Unsupported Media Type'))
  t.match(await raw(app, '/connect', `{"a":"${'x'.repeat(1100_000)}"}`), shape(413, 'FST_ERR_CTP_BODY_TOO_LARGE', 'Payload Too Large'))
  for (let i = 0; i < 20; i++) await rest(host, me, 'GET', '/stats')
  t.match(await rest(host, me, 'GET', '/stats'), { ...shape(429, 'RT_RATE_LIMITED', 'Too Many Requests'), headers: { 'retry-after': String } })
})

test('an internal error is a 500 without details, whatever the host’s error handler reveals', async (t) => {
  const host = await otherHost(t, {
    before: (app) => { app.setErrorHandler(async (error: Error, _request, reply) => await reply.code(500).send({ text: error.message })) }
  })
  internalsOf(host.app).roster.find = async () => { throw new Error('a secret') }
  t.strictSame((await rest(host, me, 'POST', '/disconnect', { connection_id: 'x' })).body,
    { statusCode: 500, code: 'RT_INTERNAL', error: 'Internal Server Error', message: 'Internal error' })
})

test('errors of the host’s hooks keep their status and the host’s shape on our routes', async (t) => {
  for (const own of [false, true]) {
    const { app } = await otherHost(t, {
      before: async (app) => {
        await app.register(sensible)
        await app.register(helmet)
        await app.register(underPressure, { maxEventLoopDelay: 60_000 })
        if (own) app.setErrorHandler(async (error: FastifyError, _request, reply) => await reply.code(error.statusCode ?? 500).send({ mine: error.message }))
        for (const hook of ['onRequest', 'preValidation', 'preHandler'] as const) {
          app.addHook(hook, async (request) => {
            if (request.headers['x-refuse'] === hook) throw app.httpErrors.forbidden(`not from ${hook}`)
            if (request.headers['x-crash'] === hook) throw new Error('crash')
          })
        }
      }
    })
    for (const hook of ['onRequest', 'preValidation', 'preHandler']) {
      const headers = { authorization: `Bearer ${tokenOf(me)}` }
      const refused = await app.inject({ url: `${PREFIX}/stats`, headers: { ...headers, 'x-refuse': hook } })
      t.equal(refused.statusCode, 403)
      t.strictSame(refused.json(), own ? { mine: `not from ${hook}` } : { statusCode: 403, error: 'Forbidden', message: `not from ${hook}` })
      const crashed = await app.inject({ url: `${PREFIX}/stats`, headers: { ...headers, 'x-crash': hook } })
      t.equal(crashed.statusCode, 500)
      t.match(crashed.json(), own ? { mine: 'crash' } : { message: 'crash' }, 'which is the host’s to answer')
    }
  }
})

test('a reply from a host’s hook is sent as it is', async (t) => {
  const { app } = await otherHost(t, {
    before: (app) => { app.addHook('onRequest', async (request, reply) => request.headers['x-early'] === undefined ? undefined : await reply.code(403).send({ early: [1] })) }
  })
  const { statusCode, body } = await app.inject({ url: `${PREFIX}/stats`, headers: { 'x-early': '1' } })
  t.strictSame([statusCode, JSON.parse(body)], [403, { early: [1] }])
})

test('parsers, envelopes, limits of bodies and words of validation are the host’s own for its own routes', async (t) => {
  const host = await otherHost(t, {
    fastify: {
      bodyLimit: 100, onProtoPoisoning: 'ignore', ajv: { customOptions: { coerceTypes: false, removeAdditional: 'all', allErrors: true } },
      schemaErrorFormatter: () => new Error('in the words of the host')
    },
    before: (app) => {
      app.removeAllContentTypeParsers()
      app.addContentTypeParser('application/json', { parseAs: 'buffer' }, (_request, body, done) => { done(null, body) })
      app.addHook('preSerialization', async (_request, _reply, payload) => ({ wrapped: payload }))
      app.setReplySerializer((payload) => `replied ${JSON.stringify(payload)}`)
      app.setSerializerCompiler(() => () => '"by the host"')
      app.setValidatorCompiler(() => () => ({ error: new Error('never') }))
      app.post('/own', async (request) => ({ isBuffer: Buffer.isBuffer(request.body) }))
    }
  })
  t.equal((await host.app.inject({ method: 'POST', url: '/own', payload: { a: 1 } })).body, 'replied {"wrapped":{"isBuffer":true}}')
  t.match(await rest(host, me, 'POST', '/connect', { connection_id: 'tab', session_id: 's'.repeat(200) }), { status: 201, body: { data: { connection_id: 'tab', user_id: 1 } } })
  t.match(await rest(host, me, 'GET', '/online-users?limit=5'), { status: 200, body: { total: 1 } })
  t.match(await rest(host, me, 'POST', '/connect', {}), { status: 400, body: { message: 'body must have required property \'connection_id\'' } })
  t.match(await raw(host.app, '/connect', '{"connection_id":"x","__proto__":{"a":1}}'), { status: 400 })
})

test('a host’s limiter counts only those of our routes that have no limit of their own', async (t) => {
  const limited = async (requestsPerMinute: number): Promise<number[]> => {
    const host = await otherHost(t, { core: { requestsPerMinute }, before: async (app) => { await app.register(rateLimit, { max: 3, timeWindow: 60_000 }) } })
    const statuses: number[] = []
    for (let i = 0; i < 5; i++) statuses.push((await rest(host, me, 'GET', '/stats')).status)
    return statuses
  }
  t.strictSame(await limited(600), [200, 200, 200, 200, 200])
  t.strictSame(await limited(4), [200, 200, 200, 200, 429])
  t.strictSame(await limited(0), [200, 200, 200, 429, 429], 'the limit is off')
})

test('numbers are plain decimal digits, and nothing else becomes one', async (t) => {
  const host = await otherHost(t, { core: { authorize: () => true } })
  for (const limit of ['1e309', '1e2', '0x2', '5.0', '+5', ' 5', '-1', '', 'five', 'true', '99999999999999999999', '5&limit=6']) {
    t.match(await rest(host, me, 'GET', `/online-users?limit=${encodeURIComponent(limit).replace('%26limit%3D', '&limit=')}`), { status: 400, body: { code: 'FST_ERR_VALIDATION' } }, limit)
    t.equal((await rest(host, me, 'GET', `/events?channel=group.x&since=${encodeURIComponent(limit)}`)).status, 400, limit)
  }
  t.equal((await rest(host, me, 'GET', '/online-users?limit=5')).status, 200)
  for (const userId of ['1e1', '0x2', '1.0', '-1', 'x']) t.equal((await rest(host, me, 'GET', `/presence/${userId}`)).status, 400, userId)
  const message = { message: 'x', conversation_id: 'c' }
  for (const id of [true, false, null, '0x2', '1e1', '', ' 2', '2.5', 2.5, [2], {}, -1, 0, 1e309, '99999999999999999999']) {
    t.match(await rest(host, me, 'POST', '/messages/direct', { ...message, recipient_id: id }), { status: 400, body: { message: /recipient_id/ } }, JSON.stringify(id))
    t.equal((await rest(host, me, 'POST', '/notifications', { recipient_ids: [id], title: 't', body: 'b' })).status, 400, JSON.stringify(id))
  }
  for (const wrong of [{ message: 5 }, { message: true }, { message: ['x'] }, { conversation_id: 5 }, { message: null }]) {
    t.equal((await rest(host, me, 'POST', '/messages/direct', { ...message, recipient_id: 2, ...wrong })).status, 400, JSON.stringify(wrong))
  }
  for (const isTyping of ['true', 1, 0, null]) t.equal((await rest(host, me, 'POST', '/typing', { conversation_id: 'c', is_typing: isTyping })).status, 400)
  t.equal((await rest(host, me, 'POST', '/messages/direct', { ...message, recipient_id: 2 })).status, 202)
})

import { once } from 'node:events'
import { createServer, get as getByHttp, type IncomingMessage, type RequestOptions } from 'node:http'
import { connect as connectHttp2 } from 'node:http2'
import { get as getByTls } from 'node:https'
import cors from '@fastify/cors'
import helmet from '@fastify/helmet'
import rateLimit from '@fastify/rate-limit'
import sensible from '@fastify/sensible'
import underPressure from '@fastify/under-pressure'
import websocket from '@fastify/websocket'
import Fastify, { type FastifyInstance, type FastifyRequest } from 'fastify'
import t, { type Test } from 'tap'
import { WebSocket, WebSocketServer } from 'ws'
import { allowAll, PREFIX, tokenOf, until, user, type Host } from './helper.js'
import { TestClient } from '../plugins/testing.js'
import { addSuite, otherHost, type OtherHost } from './other-hosts.js'
import { StreamClient } from './stream-client.js'
import { selfSigned } from './self-signed.js'
import { tcpTo, timeToClose, upgradeRequest } from './tcp-peers.js'

/** What hosts set for themselves, and fastify-realtime within it: REST, sockets, messages, and an end in time. */

const DEADLINE = 2000
/** On a busy machine the last steps take a moment. */
const MARGIN = 3000
const bearer = { authorization: `Bearer ${tokenOf(user(1))}` }

/** A stream whose client accepts compressed responses. */
async function openStream ({ url }: Omit<Host, 'clock'>, prefix: string, userId: number): Promise<StreamClient> {
  const get = url.startsWith('https') ? getByTls : getByHttp
  const headers = { authorization: `Bearer ${tokenOf(user(userId))}`, 'accept-encoding': 'gzip, br' }
  const request = get(`${url}${prefix}/stream?channels=group.x&connection_id=stream`, { agent: false, rejectUnauthorized: false, headers } as RequestOptions)
  const [response] = await once(request, 'response') as [IncomingMessage]
  return new StreamClient(response)
}

async function open (host: Omit<Host, 'clock'>, prefix: string, userId: number): Promise<TestClient> {
  const client = new TestClient(new WebSocket(`${host.url.replace('http', 'ws')}${prefix}/ws`, {
    headers: { authorization: `Bearer ${tokenOf(user(userId))}` }, rejectUnauthorized: false
  }))
  await client.next('authenticated')
  return client
}

/** REST and sockets under this prefix. */
async function works (t: Test, host: Omit<Host, 'clock'>, prefix = PREFIX): Promise<void> {
  const ask = async (method: 'GET' | 'POST', path: string, payload?: object): Promise<{ status: number, body: unknown }> => {
    const { statusCode, body } = await host.app.inject({ method, url: prefix + path, headers: bearer, ...payload === undefined ? {} : { payload } })
    return { status: statusCode, body: body === '' ? null : JSON.parse(body) }
  }
  t.match(await ask('POST', '/connect', { connection_id: 'tab' }), { status: 201, body: { data: { connection_id: 'tab' } } })
  t.match(await ask('POST', '/connect', {}), { status: 400, body: { code: 'FST_ERR_VALIDATION', message: /connection_id/ } })
  t.match(await ask('GET', '/online-users?limit=5'), { status: 200, body: { total: 1 } })
  t.match(await ask('GET', '/presence?user_ids=1,2'), { status: 200, body: { data: [{ user_id: 1 }, { user_id: 2 }] } })
  for (const id of ['a b/c|@é', 'é'.repeat(255)]) {
    t.match(await ask('POST', '/typing', { conversation_id: id, is_typing: true, channel: 'group.x' }), { status: 200 })
    t.match(await ask('GET', `/typing/${encodeURIComponent(id)}`), { status: 200, body: { data: [{ user_id: 1 }] } })
  }
  const [ann, ben] = [await open(host, prefix, 1), await open(host, prefix, 2)]
  for (const client of [ann, ben]) await client.request('subscribe', { channel: 'group.x' })
  const { messageId } = await ann.request('message:group', { channel: 'group.x', message: 'hello', conversationId: 'c' })
  t.match(await ben.next('message:group'), { messageId, message: 'hello' })
  const eve = await openStream(host, prefix, 1)
  t.match([eve.status, await eve.next('subscribed')], [200, { channel: 'group.x' }])
  t.match(eve.headers, { 'content-type': 'text/event-stream', 'content-encoding': undefined })
  const frames = [{ event: 'message:group', data: { channel: 'group.x', message: 'by REST', conversationId: 'c' }, id: 1 }]
  // Twice what the host lets others do.
  for (let i = 0; i < 2; i++) t.match(await ask('POST', '/frames', { connection_id: 'stream', frames }), { status: 202, body: { data: { accepted: 1 } } })
  const ack = await eve.next('ack') as { messageId: number }
  t.match(await ben.next('message:group'), { messageId: ack.messageId, message: 'by REST' })
  const answer = ann.request('message:group', { channel: 'group.x', message: 'to the stream', conversationId: 'c' })
  t.match(await eve.next('message:group'), { message: 'to the stream' })
  await answer
  t.ok(await timeToClose(host) < DEADLINE + MARGIN)
}

const quiet = { level: 'silent', fatal () {}, error () {}, warn () {}, info () {}, debug () {}, trace () {}, silent () {}, child () { return quiet } }

const hosts: Record<string, OtherHost & { prefix?: string }> = {
  'routes whatever their slashes and case': { fastify: { routerOptions: { ignoreTrailingSlash: true, ignoreDuplicateSlashes: true, caseSensitive: false } }, prefix: '/API//websocket' },
  'short parameters of paths': { fastify: { routerOptions: { maxParamLength: 20 } } },
  'another parser of query strings': { fastify: { routerOptions: { querystringParser: (text: string) => Object.fromEntries(new URLSearchParams(text)) } } },
  'its own ids of requests': { fastify: { genReqId: () => 'one for all', requestIdHeader: 'x-request-id' } },
  'a logger of its own': { fastify: { loggerInstance: quiet } },
  'no logging of requests': { fastify: { logger: { level: 'silent' }, disableRequestLogging: true } },
  'no HEAD routes': { fastify: { exposeHeadRoutes: false } },
  'paths that it rewrites': { fastify: { rewriteUrl: ({ url = '' }: { url?: string }) => url.replace(/^\/behind/, '') }, prefix: `/behind${PREFIX}` },
  'a limit on handlers': { fastify: { handlerTimeout: 5000 } },
  'short timeouts of connections': { fastify: { connectionTimeout: 400, keepAliveTimeout: 100, requestTimeout: 1000 } },
  'connections that it ends by force': { fastify: { forceCloseConnections: true } },
  'requests that it answers while it closes': { fastify: { return503OnClosing: false } },
  'a server that it made': { fastify: { serverFactory: (handler: Parameters<typeof createServer>[1]) => createServer(handler) } },
  'TLS': { fastify: { https: selfSigned } },
  'HTTP/2 and HTTP/1 by TLS': { fastify: { http2: true, https: { allowHTTP1: true, ...selfSigned } } },
  'both addresses of localhost': { address: 'localhost' },
  'routes by version and host': {
    before: (app) => { app.get('/api/websocket/ws', { constraints: { version: '1.0.0' } }, async () => 'another') }
  },
  'a constraint of its own': {
    fastify: {
      routerOptions: {
        constraints: {
          tier: {
            name: 'tier',
            storage: () => ({ get: () => null, set () {} }),
            validate () {},
            deriveConstraint: ({ headers }: { headers: Record<string, unknown> }, _context: unknown, done: (err: null, tier: unknown) => void) => { setImmediate(done, null, headers['x-tier']) }
          }
        }
      }
    }
  },
  'compilers for all schemas of the app': {
    fastify: {
      schemaController: {
        compilersFactory: { buildValidator: () => () => () => { throw new Error('not for these') }, buildSerializer: () => () => () => { throw new Error('not for these') } }
      }
    }
  },
  'compilers, parsers and an error handler that it sets after fastify-realtime': {
    after: (app) => {
      app.setValidatorCompiler(() => () => ({ error: new Error('never') }))
      app.setSerializerCompiler(() => () => '"by the host"')
      app.setReplySerializer(() => '"by the host"')
      app.setSchemaErrorFormatter(() => new Error('by the host'))
      app.setErrorHandler(async (_error, _request, reply) => await reply.code(500).send('by the host'))
      app.removeAllContentTypeParsers()
      app.addContentTypeParser('*', { parseAs: 'buffer' }, (_request, body, done) => { done(null, body) })
      app.addHook('preSerialization', async (_request, _reply, payload) => ({ wrapped: payload }))
    }
  },
  'hooks that wait at every step': {
    before: (app) => {
      const wait = async (): Promise<void> => { await new Promise((resolve) => setTimeout(resolve, 5)) }
      for (const name of ['onRequest', 'preValidation', 'preHandler', 'onResponse', 'onTimeout'] as const) app.addHook(name, wait)
      app.addHook('preParsing', async (_request, _reply, payload) => { await wait(); return payload })
      app.addHook('onSend', async (_request, _reply, payload) => { await wait(); return payload })
    }
  },
  'a small limit on bodies, and handlers of its own for all that is not found': {
    fastify: { bodyLimit: 10 },
    before: (app) => { app.setNotFoundHandler(async (_request, reply) => await reply.code(418).send('by the host')) }
  },
  'other options of Ajv and of the serializer': {
    fastify: {
      ajv: { customOptions: { strict: true, strictTypes: true, strictRequired: true, coerceTypes: false, removeAdditional: 'all', useDefaults: false, allErrors: true } },
      serializerOpts: { rounding: 'floor' }
    }
  },
  'proxies that it trusts': { fastify: { trustProxy: true } },
  'a policy for contents, limits on load, and errors of @fastify/sensible': {
    before: async (app) => {
      await app.register(helmet, { contentSecurityPolicy: { directives: { defaultSrc: ["'none'"] } }, crossOriginResourcePolicy: { policy: 'same-origin' } })
      await app.register(underPressure, { maxEventLoopDelay: 60_000, exposeStatusRoute: true })
      await app.register(sensible)
    }
  },
  'fastify-realtime in scopes within scopes, each with hooks and handlers': {
    register: async (app, addSuite) => {
      app.setErrorHandler(async (_error, _request, reply) => await reply.code(500).send('by the outer one'))
      await app.register(async (outer) => {
        outer.addHook('onRequest', async () => {})
        outer.setNotFoundHandler(async (_request, reply) => await reply.code(404).send('by the inner one'))
        await outer.register(async (inner) => {
          inner.setErrorHandler(async (_error, _request, reply) => await reply.code(500).send('by the inner one'))
          inner.addHook('onSend', async (_request, reply, payload) => { reply.header('x-inner', '1'); return payload })
          await addSuite(inner)
        }, { prefix: '/in' })
      }, { prefix: '/out' })
    },
    prefix: `/out/in${PREFIX}`
  },
  'CORS that refuses': { before: async (app) => { await app.register(cors, { origin: ['https://app.example.com'], credentials: true, strictPreflight: false }) } },
  'a limiter that it registers before fastify-realtime': { before: async (app) => { await app.register(rateLimit, { max: 1 }) } },
  'a limiter that it registers after fastify-realtime': { after: async (app) => { await app.register(rateLimit, { max: 1 }) } },
  'a prefix with parameters': { core: { prefix: '/api/:region/live' }, prefix: '/api/eu/live' },
  'no prefix': { core: { prefix: '' }, prefix: '' },
  'fastify-realtime in a scope with a prefix': {
    register: async (app, addSuite) => { await app.register(async (scope) => { await addSuite(scope) }, { prefix: '/v1' }) }, prefix: `/v1${PREFIX}`
  },
  'fastify-realtime in a scope, and sockets of its own': {
    before: async (app) => { await app.register(websocket) },
    register: async (app, addSuite) => { await app.register(async (scope) => { await addSuite(scope) }, { prefix: '/v1' }) },
    prefix: `/v1${PREFIX}`
  },
  'a server of another library on the same port': {
    after: (app) => { app.server.on('upgrade', () => {}) }
  }
}

for (const [what, { prefix, connections, core, ...host }] of Object.entries(hosts)) {
  t.test(`a host with ${what} has the whole suite`, { buffered: true }, async (t) => {
    await works(t, await otherHost(t, { ...host, core: { ...allowAll, ...core }, connections: { closeDeadline: DEADLINE, ...connections } }), prefix)
  })
}

t.test('app.realtime knows the prefix of the scope it stands in', { buffered: true }, async (t) => {
  let prefix = ''
  let address: unknown
  await otherHost(t, {
    register: async (app, addSuite) => {
      await app.register(async (scope) => {
        await addSuite(scope)
        prefix = scope.realtime.prefix
        address = (scope.realtime.asyncapi().channels as { socket?: { address: string } }).socket?.address
      }, { prefix: '/v1' })
    }
  })
  t.strictSame([prefix, address], ['/v1/api/websocket', '/v1/api/websocket/ws'])
})

for (const own of [false, true]) {
  t.test(`two suites in one app${own ? ', whose sockets are the host’s,' : ''} each have their own users`, { buffered: true }, async (t) => {
    const scopes: FastifyInstance[] = []
    const asked: string[] = []
    const host = await otherHost(t, {
      core: allowAll,
      connections: { closeDeadline: DEADLINE },
      before: async (app) => {
        app.addHook('onRequest', async ({ url }) => { asked.push(url) })
        if (own) await app.register(websocket)
      },
      register: async (app, addSuite) => {
        for (const prefix of ['/shop', '/desk']) await app.register(async (scope) => { scopes.push(scope); await addSuite(scope) }, { prefix })
      }
    })
    const [shop, desk] = [await open(host, `/shop${PREFIX}`, 1), await open(host, `/desk${PREFIX}`, 1)]
    for (const client of [shop, desk]) await client.request('subscribe', { channel: 'group.x' })
    for (const scope of scopes) await scope.realtime.channels.publish({ tenantId: 1, channel: 'group.x', event: 'news', data: { from: scope.prefix } })
    t.match([await shop.next('news'), await desk.next('news')], [{ from: '/shop' }, { from: '/desk' }])
    t.strictSame([await shop.soFar('news'), await desk.soFar('news')], [[], []])
    const socket = (await tcpTo(t, host)).setEncoding('latin1')
    socket.write(upgradeRequest('/nothing'))
    const [answer] = await once(socket, 'data') as [string]
    t.match(answer, /^HTTP\/1.1 404/)
    t.strictSame(asked, [`/shop${PREFIX}/ws`, `/desk${PREFIX}/ws`, '/nothing'], 'each once')
    const took = await timeToClose(host)
    t.ok(took < 2 * DEADLINE + MARGIN, `${took.toFixed()} ms`)
    t.strictSame([await shop.closed, await desk.closed], [1012, 1012])
  })
}

t.test('errors of the host’s hooks reach the error handler that it sets after fastify-realtime, whether that answers, waits or throws', { buffered: true }, async (t) => {
  const handlers: Array<[handler: (request: FastifyRequest) => unknown, status: number, body: unknown]> = [
    [() => ({ mine: true }), 403, { mine: true }],
    [async () => await Promise.resolve({ mine: true }), 403, { mine: true }],
    [() => { throw Object.assign(new Error('broken'), { statusCode: 502 }) }, 502, { statusCode: 502, message: 'broken' }],
    [async () => { throw Object.assign(new Error('broken'), { statusCode: 502 }) }, 502, { statusCode: 502, message: 'broken' }]
  ]
  for (const [answer, status, body] of handlers) {
    for (const late of [false, true]) {
      let calls = 0
      const set = (app: FastifyInstance): void => {
        app.setErrorHandler((_error, request, reply) => {
          calls++
          reply.code(403)
          return answer(request)
        })
      }
      const { app } = await otherHost(t, {
        before: (app) => {
          if (!late) set(app)
          app.addHook('preHandler', async () => { throw new Error('no') })
        },
        after: (app) => { if (late) set(app) }
      })
      const response = await app.inject({ url: `${PREFIX}/stats`, headers: bearer })
      t.equal(response.statusCode, status)
      t.match(response.json(), body)
      t.equal(calls, 1)
    }
  }
})

t.test('a host’s sockets with constraints work beside a server of another library', { buffered: true }, async (t) => {
  const host = await otherHost(t, {
    after: (app) => {
      const other = new WebSocketServer({ noServer: true })
      app.server.on('upgrade', (request, socket, head) => { if (request.url === '/other') other.handleUpgrade(request, socket, head, (client) => { client.close(4999) }) })
      app.get('/rooms/:id', { websocket: true, constraints: { host: 'rooms.example' } }, (socket, request) => { socket.send(JSON.stringify(request.params)) })
    }
  })
  const room = new WebSocket(`${host.url.replace('http', 'ws')}/rooms/5`, { headers: { host: 'rooms.example' } })
  const [data] = await once(room, 'message') as [Buffer]
  t.strictSame(JSON.parse(data.toString()), { id: '5' })
  const [code] = await once(new WebSocket(`${host.url.replace('http', 'ws')}/other`), 'close') as [number]
  t.equal(code, 4999)
})

t.test('an upgrade that another library’s server never answers does not hold up the close', { buffered: true }, async (t) => {
  const host = await otherHost(t, { connections: { closeDeadline: DEADLINE }, after: (app) => { app.server.on('upgrade', () => {}) } })
  let came = 0
  host.app.server.on('connection', () => { came++ })
  for (const path of ['/nobody', '/nobody?x=1']) (await tcpTo(t, host)).write(upgradeRequest(path))
  await until('they came', () => came === 2)
  t.ok(await timeToClose(host) < DEADLINE + MARGIN)
})

t.test('a request that never ends does not hold up the end, by HTTP, TLS or HTTP/2', { buffered: true }, async (t) => {
  for (const fastify of [{}, { https: selfSigned }, { http2: true, https: { allowHTTP1: true, ...selfSigned } }, { http2: true }]) {
    const host = await otherHost(t, {
      fastify: { ...fastify, http2SessionTimeout: 60_000 },
      connections: { closeDeadline: DEADLINE },
      after: (app) => { app.get('/never', async () => { await new Promise(() => {}) }) }
    })
    // For TLS: a handshake that never begins.
    const silent = await tcpTo(t, host)
    if ('http2' in fastify) {
      const session = connectHttp2('https' in fastify ? host.url : host.url.replace('https', 'http'), { rejectUnauthorized: false })
      t.teardown(() => { session.destroy() })
      session.on('error', () => {})
      const stream = session.request({ ':path': '/never' })
      stream.on('error', () => {})
      await once(session, 'remoteSettings')
    } else {
      silent.write('GET /never HTTP/1.1\r\nHost: x\r\n\r\n')
    }
    await until('it came', async () => await new Promise<boolean>((resolve) => { host.app.server.getConnections((_err, count) => { resolve(count > 0) }) }))
    t.ok(await timeToClose(host) < DEADLINE + MARGIN, JSON.stringify(Object.keys(fastify)))
  }
})

t.test('REST works over HTTP/2', { buffered: true }, async (t) => {
  const host = await otherHost(t, { fastify: { http2: true, https: selfSigned } })
  const session = connectHttp2(host.url, { rejectUnauthorized: false })
  const stream = session.request({ ':path': `${PREFIX}/stats`, ...bearer }).setEncoding('utf8')
  const [headers] = await once(stream, 'response') as [Record<string, unknown>]
  let text = ''
  for await (const part of stream) text += part as string
  session.close()
  t.equal(headers[':status'], 200)
  t.match(JSON.parse(text), { data: { total_connections: 0 } })
})

t.test('an app that never listens, or is closed while it starts, ends at once', { buffered: true }, async (t) => {
  const ready = Fastify()
  await addSuite(ready)
  t.equal((await ready.inject({ url: `${PREFIX}/stats`, headers: bearer })).statusCode, 200)
  t.ok(await timeToClose({ app: ready }) < MARGIN)
  const starting = Fastify()
  void addSuite(starting).catch(() => {})
  t.ok(await timeToClose({ app: starting }) < MARGIN)
  const failing = Fastify()
  await addSuite(failing)
  void failing.register(async () => { throw new Error('another plugin') })
  await t.rejects(failing.listen({ port: 0, host: '127.0.0.1' }), /another plugin/)
  t.ok(await timeToClose({ app: failing }) < MARGIN)
})

import { monitorEventLoopDelay } from 'node:perf_hooks'
import type { Duplex } from 'node:stream'
import underPressure from '@fastify/under-pressure'
import websocket from '@fastify/websocket'
import type { FastifyInstance, FastifyReply, FastifyRequest, FastifyServerOptions } from 'fastify'
import t, { type Test } from 'tap'
import { PREFIX, tokenOf, until, user, type Host } from './helper.js'
import { otherHost } from './other-hosts.js'
import { socketsOf, tcpTo, timeToClose, upgradeRequest, type UpgradeRequest } from './tcp-peers.js'

/** Upgrades that are refused, and peers that never read the refusal, never answer a close and never close by themselves. */

const COUNT = 200
const DOOR = `${PREFIX}/ws`
/** For the whole of `app.close()`; on a busy machine the last steps take a moment. */
const [DEADLINE, MARGIN] = [2000, 2000]

interface Refusal extends UpgradeRequest {
  /** Where a host has a server of its own for sockets, that one answers, and waits for its peers as it likes. */
  isAlone?: boolean
  /** As the peer reads it, where one does. */
  status: number
  path?: string
  fastify?: FastifyServerOptions
  before?: (app: FastifyInstance) => unknown
  after?: (app: FastifyInstance) => unknown
  /** When it listens. */
  ready?: (app: FastifyInstance) => unknown
}

const onRequest = (hook: (request: FastifyRequest, reply: FastifyReply) => unknown) => (app: FastifyInstance): void => {
  app.addHook('onRequest', async (request, reply) => await hook(request, reply))
}
const noSockets = { noSocket: true }

const refusals: Record<string, Refusal> = {
  'another origin': { status: 101, headers: ['Origin: https://evil.example'] },
  'a host hook that throws': { status: 401, before: onRequest(() => { throw Object.assign(new Error('no'), { statusCode: 401 }) }) },
  'a host hook that answers 429': { status: 429, before: onRequest(async (_request, reply) => await reply.code(429).header('retry-after', 5).send(noSockets)) },
  'a host hook that redirects': { status: 302, before: onRequest((_request, reply) => reply.redirect('/login')) },
  'a host hook that answers by a stream': {
    status: 403,
    before: onRequest(async (_request, reply) => await reply.code(403).send(new Response('no').body))
  },
  'a host hook that takes the reply over': {
    status: 403,
    before: onRequest((_request, reply) => {
      reply.hijack()
      reply.raw.writeHead(403).end('no')
    })
  },
  'a host hook that answers on the socket itself': {
    status: 403,
    before: onRequest((request, reply) => {
      reply.hijack()
      request.raw.socket.end('HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n')
    })
  },
  'a host hook that destroys the socket': {
    status: 0,
    before: onRequest((request, reply) => {
      reply.hijack()
      request.raw.socket.destroy()
    })
  },
  'an error handler that throws': {
    status: 500,
    before: (app) => {
      app.setErrorHandler(() => { throw new Error('broken') })
      onRequest(() => { throw new Error('no') })(app)
    }
  },
  'an error handler that waits': {
    status: 418,
    before: (app) => {
      app.setErrorHandler(async (_error, _request, reply) => {
        await new Promise((resolve) => setImmediate(resolve))
        return await reply.code(418).send('no')
      })
      onRequest(() => { throw new Error('no') })(app)
    }
  },
  'a host under pressure, by 503': {
    status: 503, before: async (app) => { await app.register(underPressure, { healthCheck: async () => false, healthCheckInterval: 60_000 }) }
  },
  'the ban of their user, by 403': {
    status: 403,
    headers: [`Authorization: Bearer ${tokenOf(user(1))}`],
    ready: async (app) => { await app.realtime.access.ban({ tenantId: 1, userId: 1 }) }
  },
  'a path that does not exist': { status: 404, path: '/nothing' },
  'a not-found handler of the host': {
    status: 404,
    path: '/nothing',
    after: (app) => { app.setNotFoundHandler(async (_request, reply) => await reply.code(404).send('nothing here')) }
  },
  'a route that is no socket': { status: 200, path: '/hello', before: async (app) => { await app.register(async (scope) => { scope.get('/hello', async () => 'hello') }) }, isAlone: true },
  'a route that is no socket, from after fastify-realtime': { status: 101, path: '/hello', after: (app) => { app.get('/hello', async () => 'hello') }, isAlone: true },
  'a path that is no URL': { status: 400, path: '/%zz' },
  'a path that is no URL, in words of the host': {
    status: 422, path: '/%zz', fastify: { frameworkErrors: (_error, _request, reply) => { void (reply as FastifyReply).code(422).send('what?') } }
  },
  'another method': { status: 404, method: 'POST' },
  'a version of the protocol that does not exist': { status: 400, version: '12' },
  'a key that is none': { status: 400, key: 'short' }
}

/** Opens the upgrades, and waits until the server has closed them: how long each was open there, and what a peer that reads was sent. */
async function refuse (t: Test, host: Pick<Host, 'app' | 'url'>, path: string, request: UpgradeRequest): Promise<{ slowest: number, status: number }> {
  const lives: number[] = []
  // Not the event `upgrade`: who listens to that is a server of another library.
  const known = new Set<Duplex>()
  host.app.server.on('connection', (socket: Duplex) => {
    if (known.has(socket)) return
    known.add(socket)
    const came = performance.now()
    socket.once('close', () => { lives.push(performance.now() - came) })
  })
  const lag = monitorEventLoopDelay()
  lag.enable()
  const reader = await tcpTo(t, host)
  let text = ''
  reader.setEncoding('latin1').on('data', (data: string) => { text += data })
  reader.write(upgradeRequest(path, request))
  await until('one is refused', () => lives.length === 1)
  await Promise.all(Array.from({ length: COUNT }, async () => {
    const socket = await tcpTo(t, host)
    socket.pause().write(upgradeRequest(path, request))
  }))
  await until(`all ${COUNT} are refused and gone`, async () => lives.length === COUNT + 1 && await socketsOf(host) === 0)
  // Client and server share a machine that may be busy: what neither could do anything about does not count.
  return { slowest: Math.max(...lives) - lag.max / 1e6, status: Number(/^HTTP\/1\.1 (\d+)/.exec(text)?.[1] ?? 0) }
}

t.jobs = 2
for (const [what, { status, path = DOOR, fastify = {}, before, after, ready, isAlone = false, ...request }] of Object.entries(refusals)) {
  for (const own of isAlone ? [false] : [false, true]) {
    t.test(`${COUNT} upgrades refused by ${what}${own ? ', in a host with sockets of its own,' : ''} are gone within a second`, { buffered: true }, async (t) => {
      const host = await otherHost(t, {
        fastify,
        before: async (app) => {
          if (own) await app.register(websocket)
          await before?.(app)
        },
        ...after === undefined ? {} : { after },
        connections: { closeDeadline: DEADLINE }
      })
      await ready?.(host.app)
      const { slowest, status: emitted } = await refuse(t, host, path, request)
      t.equal(emitted, status)
      t.ok(slowest < 1000, `the slowest after ${slowest.toFixed()} ms`)
      t.equal(host.app.realtime.connections.size, 0)
      t.ok(await timeToClose(host) < DEADLINE + MARGIN)
    })
  }
}

for (const own of [false, true]) {
  t.test(`upgrades that come while the app closes${own ? ', in a host with sockets of its own,' : ''} are refused and gone, and the app is closed in time`, { buffered: true }, async (t) => {
    let began = (): void => {}
    let end = (): void => {}
    const [closing, ended] = [new Promise<void>((resolve) => { began = resolve }), new Promise<void>((resolve) => { end = resolve })]
    const host = await otherHost(t, {
      before: async (app) => { if (own) await app.register(websocket) },
      after: (app) => {
        app.addHook('preClose', async () => {
          began()
          await ended
        })
      },
      connections: { closeDeadline: 5000 }
    })
    const closed = timeToClose(host)
    await closing
    const { slowest, status } = await refuse(t, host, DOOR, {})
    t.equal(status, 503)
    t.ok(slowest < 1000, `the slowest after ${slowest.toFixed()} ms`)
    end()
    t.ok(await closed < 5000 + MARGIN)
  })
}

t.test('sockets that are open and whose peers answer nothing do not hold up the end', { buffered: true }, async (t) => {
  const host = await otherHost(t, { connections: { closeDeadline: DEADLINE } })
  for (let i = 0; i < COUNT; i++) (await tcpTo(t, host)).pause().write(upgradeRequest(DOOR, { headers: i % 2 === 0 ? [] : [`Authorization: Bearer ${tokenOf(user(i))}`] }))
  await until('all are there', () => host.app.realtime.connections.size === COUNT)
  t.ok(await timeToClose(host) < DEADLINE + MARGIN)
})

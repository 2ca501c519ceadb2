import { once } from 'node:events'
import { request as httpRequest, type IncomingMessage } from 'node:http'
import type { Socket } from 'node:net'
import rateLimit from '@fastify/rate-limit'
import websocket from '@fastify/websocket'
import type { FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'
import { WebSocket, WebSocketServer } from 'ws'
import { buildHost, connect, PREFIX, until, user, type Host, type HostSettings } from './helper.js'
import { socketsOf, tcpTo, timeToClose, upgradeRequest } from './tcp-peers.js'

const host = async (t: Test, settings: Omit<HostSettings, 'backend'> = {}): Promise<Host> => await buildHost(t, { backend: 'embedded', ...settings })

/** Upgrades by a peer that reads what it gets and never closes by itself. */
async function stubborn (t: Test, host: Host, path: string, headers: string[] = []): Promise<{ socket: Socket, status: Promise<string> }> {
  const socket = await tcpTo(t, host)
  const status = once(socket.setEncoding('latin1'), 'data').then(([text]) => (text as string).split('\r\n', 1)[0] ?? '')
  status.catch(() => {})
  socket.write(upgradeRequest(path, { headers }))
  return { socket, status }
}

function gate (): { opened: Promise<void>, open: () => void } {
  let open = (): void => {}
  const opened = new Promise<void>((resolve) => { open = resolve })
  return { opened, open: () => { open() } }
}

const refusing: Record<string, (app: FastifyInstance) => unknown> = {
  'a hook that throws': (app) => { app.addHook('onRequest', async () => { throw Object.assign(new Error('no'), { statusCode: 401 }) }) },
  'a hook that answers': (app) => { app.addHook('onRequest', async (_request, reply) => await reply.code(401).send({ no: true })) },
  'a late hook': (app) => { app.addHook('preHandler', (_request, _reply, done) => { setTimeout(done, 20, Object.assign(new Error('no'), { statusCode: 401 })) }) },
  'a validation of its own': (app) => { app.addHook('preValidation', async () => { throw Object.assign(new Error('no'), { statusCode: 401 }) }) },
  'a hook that throws at once': (app) => { app.addHook('preHandler', () => { throw Object.assign(new Error('no'), { statusCode: 401 }) }) }
}

t.jobs = 3
for (const [what, refuse] of Object.entries(refusing)) {
  for (const own of [false, true]) {
    t.test(`200 upgrades refused by ${what} of ${own ? 'a host with sockets of its own' : 'the host'} are gone within a second`, { buffered: true }, async (t) => {
      const it = await host(t, { before: async (app) => { refuse(app); if (own) await app.register(websocket) } })
      const all = await Promise.all(Array.from({ length: 200 }, async () => await stubborn(t, it, `${PREFIX}/ws`)))
      const refused = await Promise.all(all.map(async ({ status }) => await status))
      t.strictSame([...new Set(refused)], ['HTTP/1.1 401 Unauthorized'])
      const began = Date.now()
      await until('they are gone', async () => await socketsOf(it) === 0)
      t.ok(Date.now() - began < 1000)
      t.ok(await timeToClose(it) < 5000)
    })
  }
}

t.test('an upgrade that opens no WebSocket leaves no TCP socket: unknown paths, routes of the host registered before and after, a limit', { buffered: true }, async (t) => {
  const it = await host(t, {
    before: async (app) => {
      await app.register(async (scope) => { scope.get('/before', async () => 'hello') })
    },
    after: async (app) => {
      await app.register(rateLimit, { global: false })
      app.get('/after', async () => 'hello')
      app.get('/limited', { websocket: true, config: { rateLimit: { max: 1 } } }, (socket) => { socket.close() })
    }
  })
  for (const [path, status] of [['/nothing', 404], ['/before', 200], ['/limited', 101], ['/limited', 429]] as const) {
    t.match(await (await stubborn(t, it, path)).status, new RegExp(` ${status} `), path)
  }
  t.match(await (await stubborn(t, it, '/after')).status, / 101 /, 'which @fastify/websocket closes')
  t.ok(await timeToClose(it) < 11_000)
})

t.test('sockets of another origin are counted, and do not delay the close of the app if their clients never respond', { buffered: true }, async (t) => {
  const it = await host(t, { connections: { closeDeadline: 2000 } })
  const all = await Promise.all(Array.from({ length: 50 }, async () => await stubborn(t, it, `${PREFIX}/ws`, ['Origin: https://evil.example'])))
  const counted = until('they are counted', () => it.app.realtime.connections.size > 0)
  for (const { status } of all) t.match(await status, / 101 /)
  t.ok(await counted)
  t.ok(await timeToClose(it) < 2500)
})

t.test('sockets of another origin whose peers never answer are gone at once, and are counted no more', { buffered: true }, async (t) => {
  const it = await host(t)
  await (await stubborn(t, it, `${PREFIX}/ws`, ['Origin: https://evil.example'])).status
  await until('it is gone', async () => await socketsOf(it) === 0)
  await until('it is counted no more', () => it.app.realtime.connections.size === 0)
})

t.test('an upgrade to which a hook of the host never responds does not delay the close of the app', { buffered: true }, async (t) => {
  for (const own of [false, true]) {
    const it = await host(t, {
      connections: { closeDeadline: 1500 },
      before: async (app) => {
        app.addHook('onRequest', async () => { await new Promise(() => {}) })
        if (own) await app.register(websocket)
      }
    })
    await stubborn(t, it, `${PREFIX}/ws`)
    await until('it came', async () => await socketsOf(it) === 1)
    t.ok(await timeToClose(it) < 5000)
  }
})

t.test('a request that is never completed does not delay the close of the app', { buffered: true }, async (t) => {
  const it = await host(t)
  const sockets = await Promise.all(['', 'G', 'GET /api', upgradeRequest(`${PREFIX}/ws`).slice(0, -2)].map(async (text) => {
    const socket = await tcpTo(t, it)
    socket.write(text)
    return socket
  }))
  const [, slow] = sockets
  const dripping = setInterval(() => { slow?.write('E') }, 50)
  t.teardown(() => { clearInterval(dripping) })
  await until('they came', async () => await socketsOf(it) === sockets.length)
  t.ok(await timeToClose(it) < 5000)
})

t.test('a request of the host in progress gets its response before the app closes', { buffered: true }, async (t) => {
  let answer: ((text: string) => void) | null = null
  const it = await host(t, { after: (app) => { app.get('/slow', async () => await new Promise<string>((resolve) => { answer = resolve })) } })
  const socket = await tcpTo(t, it)
  socket.write('GET /slow HTTP/1.1\r\nHost: x\r\n\r\n')
  const answered = once(socket.setEncoding('latin1'), 'data')
  const send = await until('it came', () => answer)
  const closing = it.app.close()
  setTimeout(send, 1000, 'at last')
  t.match((await answered)[0], /^HTTP\/1.1 200 .*at last$/s)
  socket.destroy()
  await closing
})

t.test('the host’s own sockets delay neither ours nor the close of the app', { buffered: true }, async (t) => {
  for (const own of [false, true]) {
    const it = await host(t, {
      connections: { closeDeadline: 2000 },
      before: async (app) => { if (own) await app.register(websocket) },
      after: (app) => { app.get('/own', { websocket: true }, () => {}) }
    })
    for (let i = 0; i < 5; i++) t.match(await (await stubborn(t, it, '/own')).status, / 101 /)
    const client = await connect(it, user(1))
    const closing = timeToClose(it)
    const began = Date.now()
    t.equal(await client.closed, 1012)
    t.ok(Date.now() - began < 1000)
    t.ok(await closing < 2500)
  }
})

t.test('requests that offer another protocol get the same response as without the plugins', { buffered: true }, async (t) => {
  const it = await host(t, { after: (app) => { app.post('/echo', async (request) => request.body) } })
  const body = JSON.stringify({ text: 'x'.repeat(100_000) })
  for (let i = 0; i < 2; i++) {
    const request = httpRequest(`${it.url}/echo`, {
      method: 'POST',
      headers: {
        connection: 'Upgrade, HTTP2-Settings', upgrade: 'h2c', 'http2-settings': 'AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA',
        'content-type': 'application/json', 'content-length': body.length
      }
    })
    request.end(body)
    const [response] = await once(request, 'response') as [IncomingMessage]
    let text = ''
    for await (const part of response) text += part
    t.equal(response.statusCode, 200)
    t.equal(text, body)
  }
  t.ok(await timeToClose(it) < 5000)
})

t.test('servers of other libraries keep their sockets on the same port', { buffered: true }, async (t) => {
  const it = await host(t, {
    after: (app) => {
      const other = new WebSocketServer({ noServer: true })
      app.server.on('upgrade', (request, socket, head) => {
        if (request.url?.startsWith('/other') === true) other.handleUpgrade(request, socket, head, (client) => { client.send('other') })
      })
      app.addHook('preClose', async () => { for (const client of other.clients) client.close(1001) })
    }
  })
  const other = new WebSocket(`${it.url.replace('http', 'ws')}/other`)
  const [data] = await once(other, 'message') as [Buffer]
  t.equal(data.toString(), 'other')
  const client = await connect(it, user(1))
  const closed = once(other, 'close')
  await it.app.close()
  t.equal((await closed)[0], 1001)
  t.equal(await client.closed, 1012)
})

t.test('an upgrade while the app closes gets an error', { buffered: true }, async (t) => {
  for (const own of [false, true]) {
    const [closing, end] = [gate(), gate()]
    const it = await host(t, {
      before: async (app) => { if (own) await app.register(websocket) },
      after: (app) => {
        app.addHook('preClose', async () => {
          closing.open()
          await end.opened
        })
      }
    })
    const closed = it.app.close()
    await closing.opened
    t.match(await (await stubborn(t, it, `${PREFIX}/ws`)).status, / 503 /)
    end.open()
    await closed
  }
})

import { once } from 'node:events'
import { connect as connectTcp, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import websocket from '@fastify/websocket'
import type { FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'
import { WebSocket } from 'ws'
import { internalsOf } from '../lib/internals.js'
import { connectionKey } from '../lib/keys.js'
import type { Connection } from '../plugins/connections/connection.js'
import type { Authenticate, Identity } from '../plugins/index.js'
import {
  allowAll, buildHost, connect, identityOf, open, overBackends, PREFIX, rest, rowsOf, socketTo, tokenOf,
  until, user, type Host, userOn } from './helper.js'

/** A client's text frame, masked as RFC 6455 wants it, with a mask that changes nothing. */
function masked (text: string): Buffer {
  const payload = Buffer.from(text)
  return Buffer.concat([Buffer.from([0x81, 0x80 | payload.length, 0, 0, 0, 0]), payload])
}

const upgradeRequest = (identity: Identity): Buffer => Buffer.from([
  `GET ${PREFIX}/ws HTTP/1.1`, 'Host: 127.0.0.1', 'Connection: Upgrade', 'Upgrade: websocket', 'Sec-WebSocket-Version: 13',
  `Sec-WebSocket-Key: ${Buffer.alloc(16).toString('base64')}`, `Authorization: Bearer ${tokenOf(identity)}`, '', ''
].join('\r\n'))

/** A line to a host, and all that came over it. */
function tcpTo (t: Test, { url }: Host): { socket: Socket, received: () => string } {
  const socket = connectTcp(Number(new URL(url).port), '127.0.0.1')
  t.teardown(() => { socket.destroy() })
  let text = ''
  socket.setEncoding('latin1').on('data', (data: string) => { text += data })
  return { socket, received: () => text }
}

/** A host's own route, beside those of fastify-realtime. */
function echo (app: FastifyInstance): void {
  app.get('/own', { websocket: true }, (socket) => {
    socket.on('message', (data: Buffer) => { socket.send(`own: ${data.toString()}`) })
  })
}

async function echoed ({ url }: Host): Promise<{ socket: WebSocket, text: string }> {
  const socket = new WebSocket(`${url.replace(/^http/, 'ws')}/own`)
  await once(socket, 'open')
  socket.send('hello')
  const [data] = await once(socket, 'message') as [Buffer]
  return { socket, text: data.toString() }
}

const cookies = {
  authenticate: (({ request }) => identityOf(/session=([^;]+)/.exec(request.headers.cookie ?? '')?.[1])) satisfies Authenticate
}

overBackends((test, backend) => {
  test('frames sent right after the upgrade wait in order for an authenticate that takes its time', async (t) => {
    const host = await buildHost(t, {
      backend,
      options: {
        ...allowAll,
        authenticate: async ({ token }) => {
          await sleep(300)
          return identityOf(token)
        }
      }
    })
    const client = await open(host, { headers: { authorization: `Bearer ${tokenOf(user(1))}` } })
    for (let i = 1; i <= 5; i++) client.send('message:group', { channel: 'group.x', message: `${i}`, conversationId: 'c' }, i)
    client.send('subscribe', { channel: 'user:me' }, 6)
    t.equal((await client.take('the sixth reply', ({ id }) => id === 6)).event, 'ack')
    // The badge moves by itself.
    const others = client.frames.filter(({ event }) => event !== 'conversation:activity')
    t.strictSame(others.map(({ event, id }) => id ?? event), ['authenticated', 1, 2, 3, 4, 5])
    t.strictSame((await rowsOf(host, 'websocket_events')).flatMap(({ payload }) => payload.message ?? []), ['1', '2', '3', '4', '5'])
    const byFrame = await open(host)
    byFrame.send('auth', { token: tokenOf(user(2)) }, 'a')
    byFrame.send('subscribe', { channel: 'group.x' }, 'b')
    t.match(await byFrame.take('b', ({ id }) => id === 'b'), { event: 'ack' })
    t.match(byFrame.frames, [{ event: 'ack', id: 'a' }])
  })

  test('frames in the same packet as the upgrade request are not lost', async (t) => {
    const { socket, received } = tcpTo(t, await buildHost(t, { backend }))
    socket.write(Buffer.concat([
      upgradeRequest(userOn(backend, 1)), masked('{"event":"subscribe","data":{"channel":"user:me"},"id":1}'), masked('{"event":"ping","id":2}')
    ]))
    await until('both are answered', () => /"event":"authenticated".*"event":"ack","id":1.*"event":"ack","id":2/s.test(received()))
    t.match(received(), /^HTTP\/1\.1 101 /)
  })

  test('frames before a close frame in the same packet get their replies before the close, and nothing is sent after it', async (t) => {
    const { socket, received } = tcpTo(t, await buildHost(t, { backend }))
    socket.write(upgradeRequest(userOn(backend, 1)))
    await until('it is authenticated', () => received().includes('"event":"authenticated"'))
    socket.write(Buffer.concat([
      masked('{"event":"ping","id":1}'), masked('{"event":"nothing","id":2}'), Buffer.from([0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8])
    ]))
    await once(socket, 'end')
    t.match(received(), /"event":"authenticated".*"event":"ack","id":1.*"event":"error","id":2.*\x88\x02\x03\xe8$/s)
  })

  test('a reader that stops is closed with 4008, while the others get everything', async (t) => {
    const host = await buildHost(t, { backend, options: allowAll, connections: { maxBuffered: 512 * 1024 } })
    const [slow, reader] = [await connect(host, user(1)), await connect(host, user(2))]
    for (const client of [slow, reader]) await client.request('subscribe', { channel: 'group.x' })
    slow.socket.pause()
    const { channels } = host.app.realtime
    const { metrics } = internalsOf(host.app)
    const text = 'x'.repeat(60_000)
    let count = 0
    // Until the kernel takes no more for a reader that stopped. It reads on at once: a close is waited for 5 s only.
    while (metrics.dropped.tooSlow === 0) {
      await channels.publish({ tenantId: 1, channel: 'group.x', event: 'news', data: { n: count, text } })
      t.equal((await reader.next('news')).n, count++)
    }
    slow.socket.resume()
    t.equal(await slow.closed, 4008)
    const got = slow.frames.filter(({ event }) => event === 'news').map(({ data }) => data.n)
    t.ok(got.length < count)
    t.strictSame(got, Array.from(got, (_, n) => n), 'what it got has no hole')
    t.ok(await reader.request('ping'))
  })

  test('past half of the bound a slow reader loses ephemeral frames, and nothing else', async (t) => {
    const host = await buildHost(t, { backend, options: allowAll, connections: { maxBuffered: 512 * 1024 } })
    const [slow, reader] = [await connect(host, user(1)), await connect(host, user(2))]
    for (const client of [slow, reader]) await client.request('subscribe', { channel: 'group.x' })
    slow.socket.pause()
    const { channels } = host.app.realtime
    const text = 'x'.repeat(60_000)
    const count = 250
    for (let n = 0; n < count; n++) {
      channels.tell({ tenantId: 1, channel: 'group.x', event: 'sign', data: { n, text } })
      await reader.next('sign')
    }
    await channels.publish({ tenantId: 1, channel: 'group.x', event: 'news', data: {} })
    await reader.next('news')
    slow.socket.resume()
    await slow.next('news')
    const { length } = await slow.soFar('sign')
    t.ok(length > 0 && length < count, `${length} of ${count}`)
  })

  test('a burst of events closes no client that reads', async (t) => {
    const host = await buildHost(t, { backend, options: allowAll })
    const reader = await connect(host, user(2))
    await reader.request('subscribe', { channel: 'group.x' })
    const text = 'x'.repeat(5000)
    const events = Array.from({ length: 400 }, async (_, n) =>
      await host.app.realtime.channels.publish({ tenantId: 1, channel: 'group.x', event: 'news', data: { n, text } }))
    await Promise.all(events)
    for (let n = 0; n < events.length; n++) t.equal((await reader.next('news')).n, n)
  })

  test('a host that uses @fastify/websocket itself keeps its routes, registered before ours or after', async (t) => {
    const before = await buildHost(t, {
      backend,
      before: async (app) => {
        await app.register(websocket)
        await app.register(async (scope) => { echo(scope) })
      }
    })
    const after = await buildHost(t, { backend, after: (app) => { echo(app) } })
    for (const host of [before, after]) {
      const { socket, text } = await echoed(host)
      t.equal(text, 'own: hello')
      const client = await connect(host, user(1))
      const byProtocol = await open(host, { protocols: ['bearer', tokenOf(user(2))] })
      t.match(await byProtocol.next('authenticated'), { userId: 2 })
      t.equal(byProtocol.socket.protocol, 'bearer')
      const ended = once(socket, 'close')
      await host.app.close()
      await ended
      t.strictSame([await client.closed, await byProtocol.closed], [1012, 1012])
    }
  })

  test('an authenticate that reads cookies works on the upgrade and by REST', async (t) => {
    const host = await buildHost(t, { backend, options: cookies })
    const headers = { cookie: `theme=dark; session=${tokenOf(user(7))}` }
    const client = await open(host, { headers })
    t.match(await client.next('authenticated'), { userId: 7, clubId: 1 })
    const response = await host.app.inject({ url: `${PREFIX}/stats`, headers })
    t.equal(response.statusCode, 200)
    t.match(await rest(host, user(7), 'GET', '/stats'), { status: 401, body: { code: 'RT_UNAUTHENTICATED' } }, 'a bearer token is nothing to it')
    const stranger = await open(host)
    await t.rejects(stranger.request('user:presence', { status: 'busy' }), { code: 'RT_UNAUTHENTICATED' })
  })

  test('an origin is compared whole: the host’s own, one that is listed, or none', async (t) => {
    const host = await buildHost(t, { backend, options: cookies, connections: { allowedOrigins: ['https://app.example.com'] } })
    const cookie = `session=${tokenOf(user(1))}`
    const port = new URL(host.url).port
    for (const origin of [host.url, 'https://app.example.com', undefined]) {
      const client = await open(host, { headers: { cookie, ...origin === undefined ? {} : { origin } } })
      t.ok(await client.next('authenticated'), origin ?? 'none')
    }
    const others = ['https://example.com', 'http://app.example.com', 'https://app.example.com:8443', 'https://app.example.com.evil.net',
      'https://evil-app.example.com', 'https://evil.net/https://app.example.com', 'HTTPS://APP.EXAMPLE.COM.', 'null', '',
      `https://127.0.0.1:${port}`, `http://127.0.0.1:${port}0`, `http://localhost:${port}`]
    for (const origin of others) {
      const client = await open(host, { headers: { cookie, origin, 'x-forwarded-host': new URL('x:/' + origin).host || 'evil.net' } })
      t.equal(await client.closed, 4403, origin)
      t.strictSame(client.frames, [])
    }
  })

  test('app.close() closes every socket with 1012, lets none in meanwhile, and ends in spite of those that do not answer', async (t) => {
    const host = await buildHost(t, { backend, connections: { closeDeadline: 2000 } })
    const clients = await Promise.all([1, 2, 3].map(async (id) => await connect(host, user(id))))
    const [unauthenticated, stuck] = [await open(host), await connect(host, user(4))]
    stuck.socket.pause()
    const began = Date.now()
    const closing = host.app.close()
    t.strictSame(await Promise.all([...clients, unauthenticated].map(async ({ closed }) => await closed)), [1012, 1012, 1012, 1012])
    const late = socketTo(host)
    let opened = false
    late.socket.on('open', () => { opened = true })
    await late.closed
    t.equal(opened, false)
    await closing
    t.ok(Date.now() - began < 2500, 'by the deadline')
    stuck.socket.terminate()
  })
})

t.test('a reader that takes nothing for 30 s while something waits is closed with 4008, however little it is', async (t) => {
  const host = await buildHost(t, { backend: 'embedded', options: allowAll, connections: { pingInterval: 3600_000 } })
  const [stopped, idle] = [await connect(host, user(1), { connectionId: 'stopped' }), await connect(host, user(2))]
  await stopped.request('subscribe', { channel: 'group.x' })
  const connection = internalsOf(host.app).localConnections.get(connectionKey(1, 'stopped')) as Connection
  stopped.socket.pause()
  const text = 'x'.repeat(60_000)
  // Until the kernel takes no more.
  while (connection.waiting === 0) await host.app.realtime.channels.publish({ tenantId: 1, channel: 'group.x', event: 'news', data: { text } })
  // It is looked at once a second.
  await sleep(1500)
  host.clock.advance(27_000)
  await sleep(1500)
  t.notOk(connection.closed)
  host.clock.advance(5000)
  await until('it is closed', () => connection.closed)
  stopped.socket.resume()
  t.equal(await stopped.closed, 4008)
  t.match(await idle.request('ping'), { timestamp: String })
})

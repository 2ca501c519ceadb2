import { once } from 'node:events'
import type { IncomingMessage } from 'node:http'
import { connect as connectTcp, createServer, type AddressInfo, type Socket } from 'node:net'
import { Duplex, Writable } from 'node:stream'
import t, { type Test } from 'tap'
import type { WebSocket } from 'ws'
import { responseOn } from '../plugins/connections/node/pending-response.js'
import { progressOf } from '../plugins/connections/node/socket-progress.js'
import { buildHost, connect, PREFIX, tokenOf, until, user, type Host } from './helper.js'
import { turn } from './suites.js'

/** These tests fail if a version of Node, `ws` or @fastify/websocket no longer has what plugins/connections/node/ relies on. */

interface Opened { socket: WebSocket, request: IncomingMessage }

/** A host, and the server's side of each socket that it opens. */
async function host (t: Test): Promise<{ host: Host, opened: Opened[] }> {
  const host = await buildHost(t, { backend: 'embedded' })
  const opened: Opened[] = []
  host.app.websocketServer.on('connection', (socket: WebSocket, request: IncomingMessage) => { opened.push({ socket, request }) })
  return { host, opened }
}

/** A TCP connection that requests an upgrade with credentials. */
async function upgrade (t: Test, { url }: Host, behind = ''): Promise<Socket> {
  const socket = connectTcp(Number(new URL(url).port), '127.0.0.1').setEncoding('latin1')
  t.teardown(() => { socket.destroy() })
  await once(socket, 'connect')
  socket.write([
    `GET ${PREFIX}/ws HTTP/1.1`, 'Host: 127.0.0.1', 'Connection: Upgrade', 'Upgrade: websocket', 'Sec-WebSocket-Version: 13',
    `Sec-WebSocket-Key: ${Buffer.alloc(16).toString('base64')}`, `Authorization: Bearer ${tokenOf(user(1))}`, '', behind
  ].join('\r\n'), 'latin1')
  return socket
}

const fieldOf = (of: object, name: string): unknown => Reflect.get(of, name)

t.test('A frame is written to the kernel without passing the stream', { skip: process.platform === 'win32' && 'no descriptors' }, async (t) => {
  const { host: it, opened } = await host(t)
  const client = await connect(it, user(1))
  const [server] = opened
  await turn()
  const before = server?.request.socket.bytesWritten ?? NaN
  await client.request('ping')
  t.equal(server?.request.socket.bytesWritten, before, 'the stream counts no bytes')
})

t.test('Progress of a slow reader is seen within one large write', async (t) => {
  const server = createServer().listen(0, '127.0.0.1')
  t.teardown(() => { server.close() })
  await once(server, 'listening')
  const peer = connectTcp((server.address() as AddressInfo).port, '127.0.0.1').pause()
  const [socket] = await once(server, 'connection') as [Socket]
  t.teardown(() => {
    peer.destroy()
    socket.destroy()
  })
  socket.write(Buffer.alloc(64 * 1024 * 1024))
  await turn()
  const before = progressOf(socket)
  let read = 0
  peer.on('data', (chunk: Buffer) => {
    read += chunk.length
    if (read >= 16 * 1024 * 1024) peer.pause()
  }).resume()
  await until('progress', () => progressOf(socket) > before)
  t.ok(socket.writableLength > 0, 'although the write is not complete')
})

t.test('A client gets the upgrade response and `authenticated` in one write', async (t) => {
  const { host: it } = await host(t)
  const socket = await upgrade(t, it)
  const [first] = await once(socket, 'data') as [string]
  t.match(first, /^HTTP\/1\.1 101 /)
  t.match(first, /"event":"authenticated"/)
})

t.test('An open socket keeps neither the HTTP response nor the chunk of its upgrade', async (t) => {
  const { host: it, opened } = await host(t)
  const socket = await upgrade(t, it, '\x89\x80\0\0\0\0') // a ping in the same chunk as the request
  let received = ''
  socket.on('data', (chunk: string) => { received += chunk })
  await until('the pong', () => received.includes('\x8a\0'))
  const [server] = opened
  t.equal(responseOn(server?.request.socket as Socket), null, 'the response is detached')
  const heads = Object.getOwnPropertySymbols(server?.request).filter(({ description }) => description === 'ws-head')
  t.equal(heads.length, 1, '@fastify/websocket keeps the head under this symbol')
  t.equal((fieldOf(server?.request as object, heads[0] as unknown as string) as Buffer).length, 0)
})

t.test('An open socket has one error listener, shared by all sockets', async (t) => {
  const { host: it, opened } = await host(t)
  await connect(it, user(1))
  await connect(it, user(2))
  const [first, second] = opened.map(({ socket }) => socket.listeners('error'))
  t.equal(first?.length, 1)
  t.strictSame(first, second)
})

t.test('@fastify/websocket does not know the sockets that the connections plugin closes itself', async (t) => {
  const { host: it, opened } = await host(t)
  await connect(it, user(1))
  t.equal(opened.length, 1)
  t.equal(it.app.websocketServer.clients.size, 0)
})

for (const closer of ['client', 'server'] as const) {
  t.test(`A connection that its ${closer} closes costs no errors that nobody gets`, async (t) => {
    const { host: it, opened } = await host(t)
    const socket = await upgrade(t, it)
    await once(socket, 'data')
    const [server] = opened
    const errors = countErrorsOfNode(t)
    if (closer === 'client') {
      socket.write('\x88\x80\0\0\0\0', 'latin1')
    } else {
      server?.socket.close()
      await once(socket, 'data')
      socket.write('\x88\x80\0\0\0\0', 'latin1')
    }
    await Promise.all([once(socket.resume(), 'close'), once(server?.socket as WebSocket, 'close')])
    t.equal(errors(), 0)
  })
}

/** Node makes an error for each end of a stream that has ended, whether or not somebody waits for it. */
function countErrorsOfNode (t: Test): () => number {
  let errors = 0
  for (const prototype of [Writable.prototype, Duplex.prototype]) {
    const { end } = prototype
    prototype.end = function (this: Writable, ...args: unknown[]) {
      if (this.writableFinished) errors++
      return Reflect.apply(end, this, args) as typeof this
    }
    t.teardown(() => { prototype.end = end })
  }
  return () => errors
}

t.test('The pending response of a socket is found', async (t) => {
  const it = await buildHost(t, {
    backend: 'embedded',
    after: (app) => { app.get('/found', async (request) => String(responseOn(request.raw.socket) !== null)) }
  })
  const response = await fetch(`${it.url}/found`)
  t.equal(await response.text(), 'true')
})

import { once } from 'node:events'
import { connect, createServer, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { startProxy } from './proxy.js'
import { until } from './until.js'

/** A server that sends everything back, with its name in front. */
async function startEcho (t: Test, name: string): Promise<{ port: number, sockets: Set<Socket>, received: () => string }> {
  let received = ''
  const sockets = new Set<Socket>()
  const server = createServer((socket) => {
    sockets.add(socket)
    socket.on('error', () => {})
    socket.on('close', () => sockets.delete(socket))
    socket.on('data', (bytes) => {
      received += bytes.toString()
      socket.write(`${name}:${bytes.toString()}`)
    })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  return { port: (server.address() as { port: number }).port, sockets, received: () => received }
}

async function open (t: Test, port: number): Promise<{ socket: Socket, received: () => string }> {
  const socket = connect(port, '127.0.0.1')
  socket.on('error', () => {})
  t.teardown(() => { socket.destroy() })
  let received = ''
  socket.on('data', (bytes) => { received += bytes.toString() })
  await once(socket, 'connect')
  return { socket, received: () => received }
}

t.test('the tests’ proxy', async (t) => {
  await t.test('as a black hole it swallows open connections without a notice to either side, and passes new ones', async (t) => {
    const echo = await startEcho(t, 'a')
    const proxy = await startProxy(echo.port)
    t.teardown(async () => { await proxy.close() })
    const old = await open(t, proxy.port)
    old.socket.write('1')
    await until('an echo', 2000, () => old.received() === 'a:1')
    proxy.swallow()
    old.socket.write('2')
    const fresh = await open(t, proxy.port)
    fresh.socket.write('3')
    await until('an echo', 2000, () => fresh.received() === 'a:3')
    t.equal(old.received(), 'a:1')
    t.notOk(old.socket.destroyed)
    old.socket.destroy()
    await until('the client is gone', 2000, () => proxy.links.size === 1)
    await sleep(50)
    t.equal(echo.sockets.size, 2, 'the server was not notified')
    t.equal(echo.received(), '13')
  })

  await t.test('as a black hole for new connections too it accepts them and answers nothing, until it no longer is', async (t) => {
    const echo = await startEcho(t, 'a')
    const proxy = await startProxy(echo.port)
    t.teardown(async () => { await proxy.close() })
    proxy.swallow({ swallowNew: true })
    const lost = await open(t, proxy.port)
    lost.socket.write('1')
    await sleep(50)
    proxy.unswallow()
    const fresh = await open(t, proxy.port)
    fresh.socket.write('2')
    await until('an echo', 2000, () => fresh.received() === 'a:2')
    t.equal(lost.received(), '')
    t.equal(echo.received(), '2')
  })

  await t.test('pointed to another server it takes only new connections there', async (t) => {
    const [a, b] = [await startEcho(t, 'a'), await startEcho(t, 'b')]
    const proxy = await startProxy(a.port)
    t.teardown(async () => { await proxy.close() })
    const old = await open(t, proxy.port)
    proxy.pointTo(b.port)
    const fresh = await open(t, proxy.port)
    for (const { socket } of [old, fresh]) socket.write('1')
    await until('two echoes', 2000, () => old.received() === 'a:1' && fresh.received() === 'b:1')
    t.pass()
  })

  await t.test('with a delay everything comes later, and in order also when the delay ends', async (t) => {
    const echo = await startEcho(t, 'a')
    const proxy = await startProxy(echo.port)
    t.teardown(async () => { await proxy.close() })
    const client = await open(t, proxy.port)
    proxy.delay(100)
    const began = performance.now()
    client.socket.write('1')
    await until('the first', 2000, () => echo.received() === '1')
    t.ok(performance.now() - began >= 95)
    client.socket.write('2')
    await sleep(20)
    proxy.delay(0)
    client.socket.write('3')
    await until('the others', 2000, () => echo.received().length === 3)
    t.equal(echo.received(), '123')
  })
})

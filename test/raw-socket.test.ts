import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { connect, createServer, type AddressInfo, type Socket } from 'node:net'
import { connect as connectTls, createServer as createTlsServer, type TLSSocket } from 'node:tls'
import t, { type Test } from 'tap'
import { RawSocket } from '../plugins/connections/node/raw-socket.js'
import { turn } from './suites.js'

interface Pair {
  /** The server's end. */
  socket: Socket
  raw: RawSocket
  peer: Socket
  /** All that the peer was sent so far. */
  received (): Buffer
}

const server = createServer({ allowHalfOpen: true, noDelay: true }).listen(0, '127.0.0.1')
t.before(async () => { await once(server, 'listening') })
t.teardown(() => { server.close() })

/** Both ends of a TCP connection, closed with the test. */
async function pair (t: Test): Promise<Pair> {
  const peer = connect((server.address() as AddressInfo).port, '127.0.0.1')
  const [socket] = await once(server, 'connection') as [Socket]
  t.teardown(() => {
    peer.destroy()
    socket.destroy()
  })
  const chunks: Buffer[] = []
  peer.on('data', (chunk: Buffer) => { chunks.push(chunk) }).on('error', () => {})
  return { socket, raw: new RawSocket(socket), peer, received: () => Buffer.concat(chunks) }
}

const descriptorOf = (socket: Socket): unknown => Reflect.get(Reflect.get(socket, '_handle') as object, 'fd')

async function bytes ({ peer, received }: Pair, count: number): Promise<Buffer> {
  while (received().length < count) await once(peer, 'data')
  return received()
}

t.test('Everything written to a slow reader arrives completely and in order, whether the kernel accepted it immediately or not', async (t) => {
  const all = await pair(t)
  const { socket, raw, peer } = all
  const sent: Buffer[] = []
  const write = (size: number): void => {
    const frame = randomBytes(size)
    sent.push(frame)
    raw.write(frame)
  }
  for (let round = 0; round < 4; round++) {
    peer.pause()
    // Until the kernel takes only a part, or nothing; then some more behind it.
    while (raw.waiting === 0) write(40_001)
    for (let i = 0; i < 20; i++) write(1 + i * 997)
    t.equal(raw.waiting, socket.writableLength)
    const drained = once(socket, 'drain')
    peer.resume()
    // While the stream empties itself, what comes goes behind it.
    while (raw.waiting > 0) {
      write(10)
      await Promise.race([drained, turn()])
    }
    write(7)
    t.equal(raw.waiting, 0, 'the kernel takes frames at once again')
  }
  const expected = Buffer.concat(sent)
  t.ok((await bytes(all, expected.length)).equals(expected))
})

t.test('Corked frames are written at the end of the turn, before other writes to the socket', async (t) => {
  const all = await pair(t)
  const { socket, raw } = all
  raw.cork()
  raw.write(Buffer.from('a'))
  raw.cork()
  raw.write(Buffer.from('b'))
  t.equal(raw.waiting, 2, 'it counts as waiting')
  raw.flush()
  t.equal(raw.waiting, 0)
  socket.write('c')
  raw.cork()
  raw.write(Buffer.from('d'))
  await turn()
  t.equal(raw.waiting, 0)
  raw.write(Buffer.from('e'))
  t.equal((await bytes(all, 5)).toString(), 'abcde')
})

t.test('Nothing overtakes the data of a corked stream', async (t) => {
  const all = await pair(t)
  all.socket.cork()
  all.socket.write('head')
  all.raw.cork()
  all.raw.write(Buffer.from(' frame'))
  t.equal(all.raw.waiting, 10)
  all.socket.uncork()
  t.equal((await bytes(all, 10)).toString(), 'head frame')
})

t.test('A destroyed socket writes nothing, although another socket has its descriptor', async (t) => {
  const old = await pair(t)
  old.raw.write(Buffer.from('before'))
  await bytes(old, 6)
  const descriptor = descriptorOf(old.socket)
  old.socket.destroy()
  await once(old.socket, 'close')
  const others = [await pair(t), await pair(t)]
  t.ok(others.some(({ socket, peer }) => [socket, peer].some((end) => descriptorOf(end) === descriptor)), 'it is another’s')
  old.raw.write(Buffer.from('secret'))
  for (const other of others) {
    const received: string[] = []
    other.socket.on('data', (chunk: Buffer) => { received.push(chunk.toString()) })
    other.raw.write(Buffer.from('own'))
    other.peer.write('back')
    while (received.join('').length < 4) await once(other.socket, 'data')
    t.equal((await bytes(other, 3)).toString(), 'own')
    t.equal(received.join(''), 'back')
  }
})

t.test('A reset by the peer is an error of the stream, and nothing throws', async (t) => {
  const { socket, raw, peer } = await pair(t)
  const errors: unknown[] = []
  const ended = new Promise((resolve) => { socket.on('error', (err) => { errors.push(err) }).on('close', resolve) })
  peer.resetAndDestroy()
  while (!socket.destroyed) {
    raw.write(Buffer.from('x'))
    await turn()
  }
  raw.write(Buffer.from('x'))
  await ended
  t.match(errors, [{ code: /^(ECONNRESET|EPIPE)$/ }])
})

t.test('If `write` of a socket is replaced, frames go through it', async (t) => {
  const all = await pair(t)
  const { write } = all.socket
  const received: string[] = []
  all.socket.write = function (this: Socket, chunk: Buffer) {
    received.push(chunk.toString())
    return write.call(this, chunk)
  }
  all.raw.write(Buffer.from('frame'))
  t.equal((await bytes(all, 5)).toString(), 'frame')
  t.strictSame(received, ['frame'])
})

t.test('Over TLS nothing leaves unencrypted', async (t) => {
  const psk = randomBytes(32)
  const psked = { ciphers: 'PSK-AES256-GCM-SHA384', maxVersion: 'TLSv1.2' } as const
  const tls = createTlsServer({ ...psked, pskCallback: () => psk }).listen(0, '127.0.0.1')
  await once(tls, 'listening')
  // Somebody on the way, who receives all.
  const { raw: between, ...way } = await pair(t)
  const onward = connect((tls.address() as AddressInfo).port, '127.0.0.1')
  const wire: Buffer[] = []
  onward.on('data', (chunk: Buffer) => {
    wire.push(chunk)
    between.write(chunk)
  })
  way.socket.pipe(onward)
  const peer = connectTls({ ...psked, socket: way.peer.removeAllListeners('data'), pskCallback: () => ({ psk, identity: 'peer' }), checkServerIdentity: () => undefined })
  const [socket] = await once(tls, 'secureConnection') as [TLSSocket]
  t.teardown(() => {
    for (const end of [peer, socket, onward]) end.destroy()
    tls.close()
  })
  const text = 'a frame that nobody else may read'
  new RawSocket(socket).write(Buffer.from(text))
  const [data] = await once(peer, 'data') as [Buffer]
  t.equal(data.toString(), text)
  t.ok(wire.length > 0)
  t.notOk(Buffer.concat(wire).includes(text))
})

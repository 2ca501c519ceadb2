import t from 'tap'
import { isReserved, privateChannel, privateOwner, resolveAlias } from '../lib/channel-names.js'
import { Batch } from '../lib/delivery/batch.js'
import { Ids } from '../lib/ids.js'
import { channelKey, channelOf, splitKey } from '../lib/keys.js'
import { streamBytes, withCursor } from '../lib/wire/event-stream.js'
import { encodeFrame, encodeStored, idOf, parseFrame } from '../lib/wire/protocol.js'
import { websocketFrame } from '../lib/wire/websocket-frame.js'

const integers = new Ids('integer')
const strings = new Ids('string')

const parse = (bytes: Buffer): unknown => JSON.parse(bytes.toString())

t.test('A frame of a client', async (t) => {
  t.test('a frame is its event, its data and its id, and other fields are ignored', async (t) => {
    t.strictSame(parseFrame('{"event":"ping"}'), { event: 'ping' })
    t.strictSame(parseFrame(' {"event":"subscribe","data":{"channel":"a","more":[1]},"id":7} '),
      { event: 'subscribe', data: { channel: 'a', more: [1] }, id: 7 })
    t.strictSame(parseFrame(`{"event":"${'e'.repeat(50)}","id":"${'i'.repeat(64)}","extra":null}`)?.id, 'i'.repeat(64))
    for (const id of [0, -1, Number.MAX_SAFE_INTEGER]) t.equal(parseFrame(JSON.stringify({ event: 'ping', id }))?.id, id)
  })

  const faults = [
    '', 'ping', '{"event":"ping"', 'null', '7', '"ping"', '[]', '[{"event":"ping"}]', '{}', '{"data":{}}', '{"event":""}', '{"event":7}',
    '{"event":null}', `{"event":"${'e'.repeat(51)}"}`, '{"event":"ping","data":null}', '{"event":"ping","data":[]}', '{"event":"ping","data":"x"}',
    '{"event":"ping","data":1}', '{"event":"ping","id":null}', '{"event":"ping","id":1.5}', '{"event":"ping","id":true}', '{"event":"ping","id":""}',
    `{"event":"ping","id":"${'i'.repeat(65)}"}`, '{"event":"ping","id":{}}', '{"event":"ping"}{"event":"ping"}', '\u0000'
  ]
  t.test('is null where the text is not one', async (t) => {
    for (const fault of faults) t.equal(parseFrame(fault), null, fault)
  })

  t.test('the id of JSON that is not a frame is found', async (t) => {
    t.equal(idOf('{"event":"","id":7}'), 7)
    t.equal(idOf('{"id":"a"}'), 'a')
    t.equal(idOf('{"data":[],"id":0}'), 0)
    for (const text of ['', 'x', 'null', '7', '[]', '{}', '{"id":1.5}', '{"id":""}', '{"id":null}', '{"id":{}}', `{"id":"${'i'.repeat(65)}"}`]) {
      t.equal(idOf(text), undefined, text)
    }
  })
})

t.test('A frame of the server', async (t) => {
  const data = { text: 'žluťoučký 日本語 👩‍👩‍👧 "\\ \u0000\n', none: null, list: [1, { a: true }], 'key "q"': 1 }

  t.test('carries event, data and the client’s id, and no id where there was none', async (t) => {
    t.strictSame(parse(encodeFrame('ack', data, 7)), { event: 'ack', id: 7, data })
    t.strictSame(parse(encodeFrame('ack', data, 'a"b')), { event: 'ack', id: 'a"b', data })
    t.strictSame(parse(encodeFrame('ack', data, 0)), { event: 'ack', id: 0, data })
    t.strictSame(parse(encodeFrame('pong', data)), { event: 'pong', data })
    t.strictSame(parseFrame(encodeFrame('ack', data, 7).toString()), { event: 'ack', id: 7, data })
  })

  t.test('of a stored event is its payload with the id in front', async (t) => {
    for (const payload of [data, {}, { a: {} }, { text: '{}' }]) {
      const id = Number.MAX_SAFE_INTEGER
      t.strictSame(parse(encodeStored('custom:"event"', id, JSON.stringify(payload))), { event: 'custom:"event"', data: { messageId: id, ...payload } })
    }
  })
})

t.test('A WebSocket frame announces its length in the shortest of the three forms', async (t) => {
  for (const [length, header] of [
    [0, [0x81, 0]], [125, [0x81, 125]], [126, [0x81, 126, 0, 126]], [127, [0x81, 126, 0, 127]],
    [65535, [0x81, 126, 0xff, 0xff]], [65536, [0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]]
  ] as const) {
    const payload = Buffer.alloc(length, 'ž')
    const frame = websocketFrame(payload)
    t.strictSame([...frame.subarray(0, header.length)], header, `${length} bytes`)
    t.ok(frame.subarray(header.length).equals(payload), 'and then the payload')
  }
})

t.test('The names of channels', async (t) => {
  t.test('make a key with their tenant, and come out of it again', async (t) => {
    for (const channel of ['group.1', 'private-user.7', 'a:b_c-d.e']) {
      t.strictSame(splitKey(channelKey(42, channel), integers), { tenantId: 42, channel })
      t.equal(channelOf(channelKey(42, channel)), channel)
    }
    t.strictSame(splitKey(channelKey('007' as never, 'private-user.a|b@c.d'), strings), { tenantId: '007', channel: 'private-user.a|b@c.d' })
    t.not(channelKey(1, '1.a'), channelKey(11, '.a'))
  })

  t.test('say whose a private one is', async (t) => {
    t.equal(privateOwner(privateChannel(7), integers), 7)
    t.equal(privateOwner(privateChannel(Number.MAX_SAFE_INTEGER), integers), Number.MAX_SAFE_INTEGER)
    for (const id of ['7', '007', '1e3', 'auth0|5f', 'ann@example.com']) t.equal(privateOwner(privateChannel(id as never), strings), id)
    for (const name of ['private-user.', 'private-user.a:b', `private-user.${'x'.repeat(65)}`]) t.equal(privateOwner(name, strings), null, name)
    for (const name of ['private-user.', 'private-user.0', 'private-user.07', 'private-user.7a', 'private-user.-7', 'private-user.1e3', 'xprivate-user.7', 'group.7']) {
      t.equal(privateOwner(name, integers), null, name)
    }
    t.equal(resolveAlias('user:me', 7), 'private-user.7')
    t.equal(resolveAlias('user:you', 7), 'user:you')
  })

  t.test('are reserved where only fastify-realtime writes to them', async (t) => {
    for (const name of ['presence', 'broadcast', 'private-user.7', 'private-user.x']) t.ok(isReserved(name), name)
    for (const name of ['presence.1', 'broadcasts', 'group.7', 'conversation.7']) t.notOk(isReserved(name), name)
  })
})

t.test('Events of a stream carry the data of their frames, byte for byte, in one chunk of HTTP/1.1', async (t) => {
  const payloads = [encodeStored('message:group', 7, '{"message":"ä\\n\\u2028 \\"}"}'), encodeFrame('user:typing', { isTyping: true })]
  const { chunk, blocks } = withCursor(streamBytes(payloads), 'epoch.7')
  const text = 'event: message:group\ndata: {"messageId":7,"message":"ä\\n\\u2028 \\"}"}\n\nevent: user:typing\ndata: {"isTyping":true}\n\nid: epoch.7\n\n'
  t.equal(blocks.toString(), text)
  t.equal(chunk.toString(), `${Buffer.byteLength(text).toString(16)}\r\n${text}\r\n`)
  t.equal(streamBytes([encodeFrame('ack', { a: 1 }, 'x')]).blocks.toString(), 'event: ack\nreply: "x"\ndata: {"a":1}\n\n')
  t.equal(streamBytes([Buffer.from('{"event":"e:x",\n"data":{"a":\n1}}')]).blocks.toString(), 'event: e:x\ndata: {"a":1}\n\n', 'as a database may store it')
})

t.test('What a transport writes around events is made once for all members', async (t) => {
  const batch = new Batch([encodeStored('message:group', 7, '{"message":"hello"}')], false, 7)
  t.equal(batch.wire, batch.wire)
  t.equal(batch.stream, batch.stream)
  t.equal(batch.marked('epoch'), batch.marked('epoch'))
  t.match(batch.marked('other').blocks.toString(), /\nid: other\.7\n\n$/, 'until the log has another epoch')
})

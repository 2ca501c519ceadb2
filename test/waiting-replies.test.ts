import { createPool } from 'mysql2/promise'
import t, { type Test } from 'tap'
import { internalsOf } from '../lib/internals.js'
import { connectionKey } from '../lib/keys.js'
import { Connection } from '../plugins/connections/connection.js'
import { MovableClock } from '../plugins/testing.js'
import { allowAll, connect, rest, startNode, store, until, user, type Client, type Host } from './helper.js'
import { stream } from './stream-client.js'

const PING_INTERVAL = 25_000
/** A reply of 1.2 KB, of which a quarter of `maxBuffered` holds 13. */
const WATCHES = 200
const WATCH = { event: 'presence:watch', data: { userIds: [1] } }
const MESSAGE = { event: 'message:group', data: { channel: 'group.x', message: 'hello', conversationId: 'c' } }

/** A host whose database stores nothing while it is locked. */
async function lockableHost (t: Test): Promise<{ host: Host, lock: () => Promise<void>, unlock: () => Promise<void> }> {
  const shared = await store(t, 'servers')
  const options = { ...allowAll, storageTimeout: 3600_000 }
  const connections = { framesPerSecond: 0, maxBuffered: 64 * 1024, pingInterval: PING_INTERVAL }
  const host = await startNode(t, { backend: 'servers', options, connections }, shared, new MovableClock())
  const pool = createPool({ uri: shared.database as string, connectionLimit: 1 })
  t.teardown(async () => { await pool.end() })
  return {
    host,
    // Gaps, so that inserts wait, and the check whether the database is there does not.
    lock: async () => { await pool.query('begin'); await pool.query('select id from websocket_events where id > 0 for update') },
    unlock: async () => { await pool.query('rollback') }
  }
}

function connectionOf ({ app }: Host, id: string): Connection {
  const connection = internalsOf(app).localConnections.get(connectionKey(1, id))
  if (!(connection instanceof Connection)) throw new Error('it is connected')
  return connection
}

async function until3Pings (host: Host, connection: Connection): Promise<void> {
  for (let i = 0; i < 3; i++) {
    host.clock.advance(PING_INTERVAL + 1000)
    const { pingedAt } = connection
    await until('it was pinged', () => connection.pingedAt !== pingedAt || connection.closed)
  }
}

t.test('while a message waits for the database', async (t) => {
  const { host, lock, unlock } = await lockableHost(t)
  const [ann, bob] = [await connect(host, user(1), { connectionId: 'ann' }), await connect(host, user(2), { connectionId: 'bob' })]
  const reader = await stream(host, user(3), '?connection_id=tab')
  await reader.next('authenticated')
  await ann.request('user:presence', { status: 'busy', lastMessage: 'x'.repeat(1000) })
  const send = async ({ frames }: { frames: object[] }) => await rest(host, user(3), 'POST', '/frames', { connection_id: 'tab', frames })
  await lock()

  const held = async (client: Client, id: string): Promise<Connection> => {
    client.send(MESSAGE.event, MESSAGE.data, 'message')
    for (let i = 0; i < WATCHES; i++) client.send(WATCH.event, WATCH.data, `watch-${i}`)
    const connection = connectionOf(host, id)
    await until('nothing more is read', () => connection.transport.isPaused)
    return connection
  }
  const [anns, bobs] = [await held(ann, 'ann'), await held(bob, 'bob')]
  t.match(await send({ frames: [MESSAGE, ...Array.from({ length: 30 }, (_, id) => ({ ...WATCH, id }))] }), { status: 202 })
  const tabs = connectionOf(host, 'tab')
  await until('too many replies of the stream wait', () => tabs.order.isBusy)

  await t.test('the replies to later frames of the client stay within a quarter of maxBuffered', async (t) => {
    for (const { order } of [anns, tabs]) t.ok(order.bytes > 16 * 1024 && order.bytes < 18 * 1024, `${order.bytes} bytes`)
  })

  await t.test('a client that is not read is pinged, and its silence does not count', async (t) => {
    await until3Pings(host, anns)
    t.notOk(anns.closed)
  })

  await t.test('a client that is not read can be closed, and its answer is read', async (t) => {
    t.equal(await host.app.realtime.connections.closeUser(1, 2), 1)
    // A client that does not answer would be cut off after 5 s, which do not pass here.
    host.clock.advance(-60_000)
    await until('it is forgotten', () => !internalsOf(host.app).localConnections.has(connectionKey(1, 'bob')))
    host.clock.advance(60_000)
    t.match(await bob.closed, Number)
    t.ok(bobs.closed)
  })

  await t.test('further frames for a stream wait, a second request is refused, and both sides get every reply afterwards', async (t) => {
    const waiting = send({ frames: [{ event: 'ping', id: 'late' }] })
    await until('it waits', () => tabs.order.isAwaited)
    const { status, headers } = await send({ frames: [{ event: 'ping', id: 'refused' }] })
    t.match([status, headers['retry-after']], [429, '1'])
    await unlock()
    t.match(await waiting, { status: 202 })
    await ann.take('the message', ({ id }) => id === 'message')
    await ann.take('the last reply', ({ id }) => id === `watch-${WATCHES - 1}`)
    t.strictSame(ann.frames.filter(({ event }) => event === 'ack').map(({ id }) => id), Array.from({ length: WATCHES - 1 }, (_, i) => `watch-${i}`), 'in their order')
    await reader.until('the last reply', (client) => client.of('ack').length === 32 - 1)
    await until('a quiet client is read', () => !anns.transport.isPaused)
    t.match(await ann.request('ping'), { timestamp: String })
  })

  await t.test('a client may send any number of messages without waiting for their acks', async (t) => {
    ann.frames.length = 0
    const COUNT = 1200
    for (let i = 0; i < COUNT; i++) ann.send(MESSAGE.event, MESSAGE.data, i + 1)
    const last = await ann.take('the last ack', ({ id }) => id === COUNT)
    t.match(last.data, { messageId: Number })
    const acks = ann.frames.filter(({ event }) => event === 'ack')
    t.strictSame(acks.map(({ id }) => id), Array.from({ length: COUNT - 1 }, (_, i) => i + 1))
  })
})

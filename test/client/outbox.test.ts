import t from 'tap'
import { internalsOf } from '../../lib/internals.js'
import { allowAll, buildHost, connect, rowsOf, until, user } from '../helper.js'
import { startHost } from '../hosts.js'
import { clientOf, connected, doorTo, fastClock } from './harness.js'

t.jobs = 6

const host = await buildHost(t, { backend: 'embedded', options: allowAll })

const text = (channel: string, message: string) => ({ channel, message, conversationId: channel })
const stored = async (channel: string): Promise<string[]> => (await rowsOf(host, 'websocket_events'))
  .filter((row) => row.channel === channel && row.event_type === 'message:group').map(({ payload }) => payload.message as string)

t.test('sends before and without a connection wait, and settle in order when the server is back', { buffered: true }, async (t) => {
  const door = await doorTo(t, host)
  const { client, next } = clientOf(t, door, user(1))
  const early = client.send('message:group', text('group.queue', '0'))
  t.match(await early, { messageId: Number, timestamp: String })
  await door.shut()
  await next('disconnected')
  const acks = Promise.all(['1', '2', '3'].map(async (message) => await client.send('message:group', text('group.queue', message))))
  const refused = client.send('message:group', text('group.queue', ''))
  refused.catch(() => {})
  const last = client.send('message:group', text('group.queue', '4'))
  await door.open()
  const ids = (await acks).map(({ messageId }) => messageId)
  t.strictSame(ids, [...ids].sort((a, b) => a - b))
  await t.rejects(refused, { code: 'RT_INVALID_DATA' }, 'a refusal is delivered to its sender, and holds up nothing')
  t.ok((await last).messageId > (ids.at(-1) ?? Infinity))
  t.strictSame(await stored('group.queue'), ['0', '1', '2', '3', '4'])
})

t.test('a send whose answer was lost is sent again and stored once', { buffered: true }, async (t) => {
  const door = await doorTo(t, host)
  const { client, next } = await connected(t, door, user(2))
  const reader = await connect(host, user(3))
  await reader.request('subscribe', { channel: 'group.lost' })
  // Only the way back falls silent.
  door.mute = true
  const sent = client.send('message:group', text('group.lost', 'once'))
  const { messageId } = await reader.next('message:group')
  door.mute = false
  door.cut()
  await next('connected', 2)
  t.equal((await sent).messageId, messageId)
  t.strictSame(await stored('group.lost'), ['once'])
  t.strictSame(await reader.soFar('message:group'), [])
})

t.test('the real host is stopped and started again: sends made meanwhile are stored once, missed events arrive', { buffered: true }, async (t) => {
  const DATABASE_URL = `sqlite:${t.testdir()}/realtime.db`
  const first = await startHost({ env: { DATABASE_URL } })
  t.teardown(async () => { await first.kill() })
  const login = async (userId: number): Promise<string> => {
    const response = await fetch(`${first.url}/login`, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ userId, clubId: 1 }) })
    return (await response.json() as { token: string }).token
  }
  const tokens = await Promise.all([login(1), login(2)])
  const [one, two] = tokens.map((token) => clientOf(t, first, null, { token })) as [ReturnType<typeof clientOf>, ReturnType<typeof clientOf>]
  for (const { client } of [one, two]) await client.subscribe('group.lobby')
  t.equal(await first.stop(), 0)
  t.match(await one.next('disconnected'), { code: 1012, willReconnect: true })
  const sent = one.client.send('message:group', text('group.lobby', 'while it was away'))
  const second = await startHost({ env: { DATABASE_URL, SOCKET_PORT: String(first.port) } })
  t.teardown(async () => { await second.kill() })
  const { messageId } = await sent
  t.match(await two.next('message:group'), { messageId, message: 'while it was away' })
  t.strictSame([...one.of('gap'), ...two.of('gap'), ...one.errors.filter(({ code }) => code !== 'RT_SERVER_UNREACHABLE')], [])
})

t.test('the queue is bounded', { buffered: true }, async (t) => {
  const { client } = clientOf(t, { url: 'http://127.0.0.1:1' }, user(5), { maxQueued: 2 })
  const waiting = [1, 2].map(async (n) => await client.send('message:group', text('group.full', String(n))))
  await t.rejects(client.send('message:group', text('group.full', '3')), { code: 'RT_QUEUE_FULL' })
  await client.disconnect()
  for (const one of waiting) await t.rejects(one, { code: 'RT_CLIENT_STOPPED' })
})

t.test('a send that was in flight for longer than the server remembers is not repeated blindly', { buffered: true }, async (t) => {
  const door = await doorTo(t, host)
  // Five minutes in three seconds.
  const { client, next } = await connected(t, door, user(6), { clock: fastClock(100) })
  door.mute = true
  const sent = client.send('message:group', text('group.old', 'x'))
  sent.catch(() => {})
  await until('it is stored', async () => (await stored('group.old')).length === 1)
  const waiting = client.send('message:group', text('group.old', 'y'))
  door.mute = false
  await door.shut()
  await next('disconnected')
  await new Promise((resolve) => setTimeout(resolve, 3000))
  await door.open()
  await t.rejects(sent, { code: 'RT_OUTCOME_UNKNOWN' })
  t.match(await waiting, { messageId: Number }, 'what never left goes out')
  t.strictSame(await stored('group.old'), ['x', 'y'])
})

t.test('a send is repeated, in order, until the server can store it', { buffered: true }, async (t) => {
  let isAway = true
  const host = await buildHost(t, {
    backend: 'embedded',
    options: allowAll,
    after: (app) => {
      const { eventLog } = internalsOf(app)
      const append = eventLog.append.bind(eventLog)
      eventLog.append = async (event) => {
        if (isAway) throw Object.assign(new (await import('../../plugins/index.js')).RealtimeError('RT_STORAGE_UNAVAILABLE', 'away', { retryAfter: 1 }))
        return await append(event)
      }
    }
  })
  const { client } = await connected(t, host, user(7), { clock: fastClock(10) })
  const acks = ['1', '2', '3'].map(async (message) => await client.send('message:group', text('group.away', message)))
  setTimeout(() => { isAway = false }, 400)
  const ids = (await Promise.all(acks)).map(({ messageId }) => messageId)
  t.strictSame(ids, [...ids].sort((a, b) => a - b))
})

import t from 'tap'
import { allowAll, buildHost, connect, rest, user } from '../helper.js'
import { connected, doorTo, fastClock } from './harness.js'

// A page of which the test is the browser.
const page = Object.assign(new EventTarget(), { hidden: false })
const whole = new EventTarget()
Object.assign(globalThis, {
  document: page, addEventListener: whole.addEventListener.bind(whole), removeEventListener: whole.removeEventListener.bind(whole)
})

const host = await buildHost(t, { backend: 'embedded', options: allowAll, connections: { pingInterval: 3000 } })

t.test('a silent server is detected within two heartbeats of a ping, although the socket is not closed', async (t) => {
  const door = await doorTo(t, host)
  const { next, of } = await connected(t, door, user(1), { clock: fastClock(10), heartbeatInterval: 2000 })
  await new Promise((resolve) => setTimeout(resolve, 1500))
  t.strictSame(of('disconnected'), [], 'fifteen seconds with pings and their answers')
  door.silent = true
  const since = performance.now()
  t.match(await next('disconnected'), { code: 1006, willReconnect: true })
  const took = (performance.now() - since) * 10
  t.ok(took > 3000 && took < 9000, `${Math.round(took)} ms of the client's time`)
  door.silent = false
  await next('connected', 2)
})

t.test('a page that becomes visible checks its connection immediately, however slow its timers were', async (t) => {
  const door = await doorTo(t, host)
  const { next } = await connected(t, door, user(2), { clock: fastClock(10), heartbeatInterval: 10 * 3600_000 })
  door.silent = true
  page.dispatchEvent(new Event('visibilitychange'))
  const since = performance.now()
  t.match(await next('disconnected'), { code: 1006 })
  t.ok(performance.now() - since < 1500, 'five seconds of the client\'s time')
  door.silent = false
  await next('connected', 2)
})

t.test('a network that is back ends the pause before the next attempt', async (t) => {
  const door = await doorTo(t, host)
  const { next, of } = await connected(t, door, user(3), { reconnectDelay: 3600_000, maxReconnectDelay: 3600_000 })
  await door.shut()
  await next('reconnecting')
  await door.open()
  await new Promise((resolve) => setTimeout(resolve, 1200))
  t.equal(of('connected').length, 1)
  whole.dispatchEvent(new Event('online'))
  await next('connected', 2)
})

t.test('an event is delivered once, and too many missed events are a gap', async (t) => {
  const door = await doorTo(t, host)
  const { client, next, of } = await connected(t, door, user(4))
  await client.subscribe('group.many')
  await door.shut()
  const writer = await connect(host, user(5))
  await Promise.all(Array.from({ length: 1001 }, async (_, i) =>
    await host.app.realtime.channels.group({ tenantId: 1, channel: 'group.many', message: `${i}`, conversationId: 'c' })))
  await door.open()
  const { position } = await next('gap')
  t.equal(of('message:group').length, 0)
  const { messageId } = await writer.request('message:group', { channel: 'group.many', message: 'after', conversationId: 'c' })
  t.match(await next('message:group'), { messageId })
  t.ok(messageId > position)
  t.equal(client.cursors['group.many'], messageId)
  t.match((await rest(host, user(4), 'GET', `/events?channel=group.many&since=${position}`)).body.data.length, 1)
})

t.test('cursors that were kept over a reload resume where the page was left', async (t) => {
  const writer = await connect(host, user(7))
  const first = await connected(t, host, user(6))
  await first.client.subscribe('group.kept')
  await writer.request('message:group', { channel: 'group.kept', message: '1', conversationId: 'c' })
  await first.next('message:group')
  const since = first.client.cursors
  await first.client.disconnect()
  await writer.request('message:group', { channel: 'group.kept', message: '2', conversationId: 'c' })
  const second = await connected(t, host, user(6), { since })
  t.match(await second.next('message:group'), { message: '2' })
  t.equal(second.of('message:group').length, 1)
})

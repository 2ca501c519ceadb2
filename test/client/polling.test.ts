import t from 'tap'
import { allowAll, buildHost, connect, until, user } from '../helper.js'
import { clientOf, doorTo } from './harness.js'

t.jobs = 6

const host = await buildHost(t, { backend: 'embedded', options: allowAll })

t.test('if sockets are refused the client reports that it polls, with the same cursors, and returns to sockets when one works', { buffered: true }, async (t) => {
  const door = await doorTo(t, host)
  const two = await connect(host, user(2))
  const say = async (message: string) => await two.request('message:group', { channel: 'group.poll', message, conversationId: 'c' })
  await say('before')
  door.blocked = true
  const { client, next, of } = clientOf(t, door, user(1), { pollInterval: 100 })
  const subscribed = client.subscribe('group.poll')
  t.match(await next('transport'), { transport: 'polling' })
  t.match(await next('connected'), { userId: 1, transport: 'polling', connectionId: client.connectionId })
  t.match([client.state, client.transport], ['connected', 'polling'])
  t.match(await subscribed, { channel: 'group.poll', position: Number })
  await say('1')
  await two.request('message:direct', { recipientId: 1, message: 'psst', conversationId: 'c' })
  t.match(await next('message:group'), { message: '1' })
  t.match(await client.subscribe('user:me'), { channel: 'private-user.1' })
  t.match(await client.send('message:group', { channel: 'group.poll', message: 'mine', conversationId: 'c' }), { messageId: Number, timestamp: String })
  t.match(await client.send('message:direct', { recipientId: 2, message: 'by REST', conversationId: 'c' }), { messageId: Number })
  t.match(await two.next('message:direct', ({ senderId }) => senderId === 1), { message: 'by REST' })
  client.recordTyping('c', true, { recipientId: 2 })
  t.match(await two.next('user:typing'), { userId: 1, isTyping: true })
  t.match(await client.updatePresence('away'), { status: 'away' })
  await t.rejects(client.request('ping'), { code: 'RT_SOCKET_CLOSED' })
  await next('message:group', 2)
  t.ok(door.requests.some((line) => line.includes('/events?channel=group.poll')))
  const upgrades = door.upgrades.length
  await until('it tries sockets again', () => door.upgrades.length > upgrades)
  t.strictSame(of('disconnected'), [])
  door.blocked = false
  t.match(await next('transport', 2), { transport: 'websocket' })
  t.equal(of('connected').length, 1, 'it was connected all the time')
  await say('2')
  await next('message:group', 3)
  t.strictSame(of('message:group').map(({ message }) => message), ['1', 'mine', '2'], 'each once')
  const polls = door.requests.length
  await new Promise((resolve) => setTimeout(resolve, 500))
  t.equal(door.requests.length, polls, 'and polls no more')
  for (const spacing of door.connects.map((at, i) => at - (door.connects[i - 1] ?? -Infinity))) t.ok(spacing >= 1000, `${spacing} ms`)
})

t.test('polling continues from the cursors of the last socket, and the next socket from those of polling', { buffered: true }, async (t) => {
  const door = await doorTo(t, host)
  const two = await connect(host, user(12))
  const say = async (message: string) => await two.request('message:direct', { recipientId: 11, message, conversationId: 'c' })
  const { next, of, client } = clientOf(t, door, user(11), { pollInterval: 100 })
  await next('subscribed', 2)
  await say('1')
  await next('message:direct')
  door.blocked = true
  door.cut()
  await next('disconnected')
  await say('2')
  t.match(await next('transport', 2), { transport: 'polling' })
  await next('message:direct', 2)
  await say('3')
  await next('message:direct', 3)
  door.blocked = false
  await next('transport', 3)
  await say('4')
  await next('message:direct', 4)
  t.strictSame(of('message:direct').map(({ message }) => message), ['1', '2', '3', '4'])
  t.strictSame(of('gap'), [])
  t.equal(client.transport, 'websocket')
})

t.test('without a WebSocket class the client reads a stream, and without polling it keeps trying', { buffered: true }, async (t) => {
  const reads = clientOf(t, host, user(21), { WebSocket: class { constructor () { throw new Error('none here') } } as never })
  t.match(await reads.next('transport'), { transport: 'sse' })
  const door = await doorTo(t, host)
  door.blocked = true
  const tries = clientOf(t, door, user(22), { polling: false, maxReconnectAttempts: 2 })
  await tries.next('max-reconnect-attempts-reached')
  t.strictSame([tries.of('transport'), door.upgrades.length], [[], 3])
  t.match(tries.errors.map(({ code }) => code), ['RT_SOCKET_BLOCKED'])
})

t.test('a refused channel is one error while polling, too', { buffered: true }, async (t) => {
  const strict = await buildHost(t, { backend: 'embedded' })
  const door = await doorTo(t, strict)
  door.blocked = true
  const { client, next } = clientOf(t, door, user(1), { pollInterval: 100 })
  const refused = client.subscribe('group.no')
  refused.catch(() => {})
  await next('transport')
  await t.rejects(refused, { code: 'RT_FORBIDDEN', channel: 'group.no' })
})

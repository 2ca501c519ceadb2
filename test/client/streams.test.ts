import t from 'tap'
import { allowAll, buildHost, connect, rest, until, user } from '../helper.js'
import { clientOf, doorTo } from './harness.js'

t.jobs = 6

const host = await buildHost(t, { backend: 'embedded', options: allowAll })

t.test('if sockets are refused the client uses a stream, which does everything that a socket does, and returns to sockets', { buffered: true }, async (t) => {
  const door = await doorTo(t, host)
  const two = await connect(host, user(2))
  const say = async (message: string) => await two.request('message:group', { channel: 'group.sse', message, conversationId: 'c' })
  await say('before')
  Object.assign(door, { blocked: true, streams: true })
  const { client, next, of } = clientOf(t, door, user(1))
  const subscribed = client.subscribe('group.sse')
  t.match(await next('transport'), { transport: 'sse' })
  t.match(await next('connected'), { userId: 1, transport: 'sse', connectionId: client.connectionId })
  t.match([client.state, client.transport], ['connected', 'sse'])
  t.match(await subscribed, { channel: 'group.sse', position: Number })
  await say('1')
  await two.request('message:direct', { recipientId: 1, message: 'psst', conversationId: 'c' })
  t.match(await next('message:group'), { message: '1' })
  t.match(await next('message:direct'), { message: 'psst' })
  t.match(await client.send('message:group', { channel: 'group.sse', message: 'mine', conversationId: 'c' }), { messageId: Number, timestamp: String })
  t.match(await two.request('subscribe', { channel: 'group.sse' }), { channel: 'group.sse' })
  t.match(await client.send('message:direct', { recipientId: 2, message: 'over the stream', conversationId: 'c' }), { messageId: Number })
  t.match(await two.next('message:direct', ({ senderId }) => senderId === 1), { message: 'over the stream' })
  client.recordTyping('c', true, { recipientId: 2 })
  t.match(await two.next('user:typing'), { userId: 1, isTyping: true })
  two.send('user:typing', { conversationId: 'c', isTyping: true, recipientId: 1 })
  t.match(await next('user:typing'), { userId: 2, isTyping: true })
  const watch = await client.watch([2])
  t.match(watch.users, [{ userId: 2, status: 'online' }])
  two.send('user:presence', { status: 'busy' })
  t.match(await next('user:presence'), { userId: 2, status: 'busy' })
  t.match(await client.updatePresence('away'), { status: 'away' })
  t.match(await client.request('ping'), { timestamp: String })
  await t.rejects(client.request('message:delivered', { messageId: 1e9 }), { code: 'RT_NOT_FOUND' })
  t.strictSame(of('message:group').map(({ message }) => message), ['1'], 'the own one came by its ack')
  const upgrades = door.upgrades.length
  await until('it tries sockets again', () => door.upgrades.length > upgrades)
  t.strictSame(of('disconnected'), [])
  door.blocked = false
  t.match(await next('transport', 2), { transport: 'websocket' })
  t.equal(of('connected').length, 1, 'it was connected all the time')
  await say('2')
  await next('message:group', 2)
  t.strictSame(of('message:group').map(({ message }) => message), ['1', '2'], 'each once')
})

t.test('a stream that is cut is opened again, and nothing is missing', { buffered: true }, async (t) => {
  const door = await doorTo(t, host)
  Object.assign(door, { blocked: true, streams: true })
  const two = await connect(host, user(12))
  const { client, next, of } = clientOf(t, door, user(11))
  await client.subscribe('group.cut')
  await next('transport')
  const sent: string[] = []
  for (let i = 0; i < 60; i++) {
    sent.push(String(i))
    await two.request('message:group', { channel: 'group.cut', message: String(i), conversationId: 'c' })
    if (i % 20 === 10) door.cut()
  }
  await until('all of them', () => of('message:group').length >= sent.length)
  t.strictSame(of('message:group').map(({ message }) => message), sent)
  t.strictSame(of('gap'), [])
  t.equal(client.transport, 'sse')
})

t.test('frames of a stream that is gone, which arrive late, answer no request of the next one', { buffered: true }, async (t) => {
  const door = await doorTo(t, host)
  Object.assign(door, { blocked: true, streams: true })
  const two = await connect(host, user(22))
  let held: Promise<void> | null = null
  const frames: Array<{ id?: number }> = []
  const { client, next } = clientOf(t, door, user(21), {
    fetch: async (url, init) => {
      const isFrames = String(url).endsWith('/frames')
      if (isFrames && held !== null) await held
      else if (isFrames) frames.push(...(JSON.parse(String(init?.body)) as { frames: typeof frames }).frames)
      return await fetch(url, init as RequestInit)
    }
  })
  await next('connected')
  for (let i = 0; i < 15; i++) await client.request('ping')
  const ids = frames.flatMap(({ id }) => id ?? [])
  t.ok(ids.length >= 15)
  door.cut()
  await next('connected', 2)
  let release = (): void => {}
  held = new Promise((resolve) => { release = resolve })
  const answer = client.request('presence:watch', { userIds: [22] })
  const late = ids.map((id) => ({ event: 'ping', id }))
  t.match(await rest(host, user(21), 'POST', '/frames', { connection_id: client.connectionId, frames: late }), { status: 202 })
  await two.request('message:direct', { recipientId: 21, message: 'after the late replies', conversationId: 'c' })
  await next('message:direct')
  release()
  t.match(await answer, { users: [{ userId: 22 }] })
})

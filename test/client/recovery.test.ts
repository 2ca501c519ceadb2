import t from 'tap'
import { createClient, type ClientError } from '../../client/src/index.js'
import { fakeWorld, group } from './fake-world.js'
import { tokenOf } from './fake-server.js'

/* More of what stops clients or mixes people up: hosts, proxies, listeners and users that do what nobody expects of them. */

const ann = { tenant: 1, user: 1 }
const ben = { tenant: 1, user: 2 }
const from = { tenant: 1, user: 9 }

t.test('two users in two clients of one page have nothing of each other', async (t) => {
  const first = fakeWorld()
  const { server, clock } = first
  const received: unknown[] = []
  const second = createClient({ baseUrl: 'http://server/api/websocket', token: tokenOf({ tenant: 2, user: 1 }), ...server.connectTo(), clock: clock.forClient(() => 0.4) })
  second.on('message:group', ({ message }) => { received.push(message) })
  await clock.advance(1000)
  await Promise.all([first.client.subscribe('group.a'), second.subscribe('group.a'), clock.advance(1000)])
  for (const tenant of [1, 2]) server.publish({ tenant, user: 9 }, 'message:group', 'group.a', { message: `of club ${tenant}` })
  await clock.advance(1000)
  await Promise.all([first.client.unsubscribe('group.a'), first.client.disconnect(), clock.advance(1000)])
  server.publish({ tenant: 2, user: 9 }, 'message:group', 'group.a', { message: 'after the other left' })
  await clock.advance(1000)
  t.strictSame([first.of('message:group').map(({ message }) => message), received], [['of club 1'], ['of club 2', 'after the other left']])
  t.not(first.client.connectionId, second.connectionId)
  await second.disconnect()
})

t.test('a user who logs in between disconnect() and connect() gets the calls made since, and nothing of the previous user', async (t) => {
  let current = ann
  const { server, clock, client, of } = fakeWorld({ token: () => tokenOf(current) })
  await clock.advance(1000)
  await Promise.all([client.subscribe('group.ann'), clock.advance(1000)])
  await Promise.all([client.disconnect(), clock.advance(1000)])
  current = ben
  client.connect()
  const presence = client.updatePresence('away')
  const subscribed = Promise.all([client.subscribe('group.ben'), client.subscribe('user:me')])
  const sent = client.send('message:group', group('group.ben', 'of Ben'))
  await clock.advance(5000)
  await presence
  t.match(await subscribed, [{ channel: 'group.ben' }, { channel: 'private-user.2' }])
  t.match(await sent, { messageId: Number })
  t.match(server.log, [{ sender: 2, data: { message: 'of Ben' } }])
  t.strictSame(of('identity-changed'), [{ userId: 2, clubId: 1, previous: { userId: 1, clubId: 1 } }])
  t.strictSame(Object.keys(client.cursors).filter((name) => /ann|user\.1/.test(name)), [])
  t.strictSame(server.presence, ['1/2'], 'the first request was not sent with the token of Ann')
})

t.test('a token that is no text is none', async (t) => {
  const answers: unknown[] = [undefined, null, 7, { token: 'x' }, '']
  const { clock, client, errors, sent } = fakeWorld({ token: (() => answers.length > 0 ? answers.shift() : tokenOf(ann)) as () => string })
  await clock.advance(20_000)
  t.strictSame(sent().filter((line) => line === 'POST /connect').length, 0)
  await clock.advance(120_000)
  t.equal(client.state, 'connected')
  t.match(errors.map(({ code }) => code), ['RT_TOKEN_FAILED'])
})

t.test('options that are null are as if absent, in calls as well', async (t) => {
  const nothing = { since: null, epoch: null, maxReconnectAttempts: null, reconnectDelay: null, maxQueued: null, polling: null, confirm: null } as object
  const { clock, client } = fakeWorld(nothing)
  await clock.advance(1000)
  const subscribed = client.subscribe('group.a', { since: null as unknown as number })
  const sent = client.send('message:group', group('group.a', 'x'))
  await clock.advance(1000)
  t.match([await subscribed, await sent], [{ channel: 'group.a' }, { messageId: Number }])
})

t.test('a listener that disconnects receives nothing more, and the rest after the next connect', async (t) => {
  const { server, clock, client, of } = fakeWorld()
  await clock.advance(1000)
  await Promise.all([client.subscribe('group.a'), clock.advance(1000)])
  const say = (message: string): void => { server.publish(from, 'message:group', 'group.a', { message }) }
  server.drop()
  say('missed')
  await clock.advance(0)
  let end = true
  client.on('message:group', () => { if (end) void client.disconnect() })
  // What is new comes before what was missed, and is held back for it.
  const after = server.after.bind(server)
  server.after = (...args) => {
    if (args[1] !== 'group.a') return after(...args)
    say('new')
    say('newer')
    const found = after(...args)
    return { ...found, events: found.events.filter(({ data }) => data.message === 'missed') }
  }
  const newest = server.newest.bind(server)
  server.newest = (tenant, channel) => channel === 'group.a' ? server.log[0]?.id ?? 0 : newest(tenant, channel)
  await clock.advance(20_000)
  t.strictSame(of('message:group').map(({ message }) => message), ['missed'])
  t.equal(client.state, 'stopped')
  Object.assign(server, { after, newest })
  end = false
  client.connect()
  await clock.advance(20_000)
  t.strictSame(of('message:group').map(({ message }) => message), ['missed', 'new', 'newer'])
})

t.test('a listener of any event may disconnect: nothing is sent from then on', async (t) => {
  for (const event of ['connected', 'transport', 'subscribed', 'message:group', 'disconnected', 'reconnecting', 'error', 'gap', 'identity-changed'] as const) {
    let current = ann
    const { server, clock, client, sent } = fakeWorld({ token: () => tokenOf(current), pollInterval: 1000 })
    let isOver = false
    client.on(event, () => {
      void client.disconnect()
      sent()
      isOver = true
    })
    client.subscribe('group.a').catch(() => {})
    await clock.advance(2000)
    server.publish(from, 'message:group', 'group.a', { message: 'x' })
    await clock.advance(1000)
    server.restore(0)
    server.does.sockets = 'refused'
    server.drop()
    await clock.advance(30_000)
    current = ben
    server.does.sockets = 'open'
    server.bad.set(tokenOf(ann), 'RT_TOKEN_EXPIRED')
    await clock.advance(90_000)
    t.ok(isOver, event)
    t.strictSame(sent().filter((line) => line !== 'POST /disconnect'), [], `${event}: nothing is sent`)
    t.equal(client.state, 'stopped')
  }
})

t.test('a listener that connects again at the end keeps the calls it makes then', async (t) => {
  const { server, clock, client } = fakeWorld()
  await clock.advance(1000)
  let again: Promise<unknown> | undefined
  client.on('disconnected', ({ willReconnect }) => {
    if (willReconnect || again) return
    client.connect()
    again = Promise.all([client.subscribe('group.a'), client.send('message:group', group('group.a', 'again'))])
  })
  server.drop(4001)
  await clock.advance(20_000)
  t.match(await again, [{ channel: 'group.a' }, { messageId: Number }])
})

t.test('a server that takes smaller frames than the client thinks refuses one send, and no other', async (t) => {
  const { server, clock, client, of, errors } = fakeWorld()
  server.does.maxFrame = 1000
  await clock.advance(1000)
  const large = t.rejects(client.send('message:group', group('group.a', 'x'.repeat(2000))), { code: 'RT_INVALID_DATA' })
  const good = client.send('message:group', group('group.a', 'good'))
  await clock.advance(20_000)
  await large
  t.match(await good, { messageId: Number })
  t.match(of('disconnected'), [{ code: 1009, willReconnect: true }])
  await t.rejects(client.send('message:group', group('group.a', 'x'.repeat(3000))), { code: 'RT_INVALID_DATA' }, 'it has learned')
  t.strictSame([of('disconnected').length, errors], [1, []])
})

t.test('a dead socket is found however often the page is seen again', async (t) => {
  const { server, clock, client, of } = fakeWorld()
  await clock.advance(1000)
  server.does.isSilent = true
  for (let seconds = 0; seconds < 9; seconds++) {
    client.wake()
    await clock.advance(1000)
  }
  t.match(of('disconnected'), [{ code: 1006, willReconnect: true }])
})

t.test('a channel that may be asked for in ten minutes holds up no other', async (t) => {
  const { server, clock, client, of } = fakeWorld()
  await clock.advance(1000)
  server.does.failing.add('group.slow').add('group.quick')
  server.does.retryAfter = (channel) => channel === 'group.slow' ? 600 : 1
  client.subscribe('group.slow').catch(() => {})
  await clock.advance(100)
  const quick = client.subscribe('group.quick')
  await clock.advance(100)
  server.does.failing.delete('group.quick')
  await clock.advance(3000)
  t.match(await quick, { channel: 'group.quick' })
  t.notOk(of('subscribed').some(({ channel }) => channel === 'group.slow'))
})

t.test('channels that fail together are asked for together', async (t) => {
  const { server, clock, client, sent } = fakeWorld()
  await clock.advance(1000)
  const names = [...'abcdefgh'].map((name) => `group.${name}`)
  await Promise.all([...names.map(async (name) => await client.subscribe(name)), clock.advance(5000)])
  for (const name of names) server.does.failing.add(name)
  server.drop()
  await clock.advance(1500)
  sent()
  server.does.failing.clear()
  await clock.advance(10_000)
  t.equal(sent().filter((line) => line === 'subscribe').length, 1)
})

t.test('a send on which the host always fails lets the others continue, and ends', async (t) => {
  const { server, clock, client } = fakeWorld()
  await clock.advance(1000)
  server.does.poison = (text) => text === 'bad'
  server.does.poisonCode = 'RT_UNAVAILABLE'
  let refused: ClientError | undefined
  client.send('message:group', group('group.a', 'bad')).catch((err: unknown) => { refused = err as ClientError })
  const good = client.send('message:group', group('group.a', 'good'))
  await clock.advance(5000)
  t.match(await good, { messageId: Number })
  await clock.advance(200_000)
  t.match(refused, { code: 'RT_UNAVAILABLE' })
})

t.test('frames that need a socket do not wait forever while polling', async (t) => {
  const { server, clock, client } = fakeWorld()
  server.does.sockets = 'refused'
  const presence = client.subscribe('presence')
  const watching = t.rejects(client.watch([2]), { code: 'RT_SOCKET_CLOSED' })
  await clock.advance(60_000)
  t.equal(client.transport, 'polling')
  t.match(await presence, { channel: 'presence' })
  await watching
})

t.test('acks that come twice, connect() and unsubscribe() called twice change nothing', async (t) => {
  const { server, clock, client, of, sent } = fakeWorld()
  server.does.repeats = true
  client.connect()
  client.connect()
  await clock.advance(1000)
  t.equal(sent().filter((line) => line === 'socket').length, 1)
  await Promise.all([client.subscribe('group.a'), clock.advance(1000)])
  const acked = ['1', '2'].map(async (text) => await client.send('message:group', group('group.a', text)))
  await clock.advance(1000)
  const [one, two] = await Promise.all(acked)
  t.not(one?.messageId, two?.messageId)
  await Promise.all([client.unsubscribe('group.a'), client.unsubscribe('group.a'), clock.advance(1000)])
  t.strictSame([client.state, of('connected').length, server.log.length], ['connected', 1, 2])
  const over = Promise.all([client.disconnect(), client.disconnect()])
  await clock.advance(1000)
  await over
  t.equal(of('disconnected').length, 1)
})

t.test('subscribing while it disconnects is refused, and unsubscribing then settles', async (t) => {
  const { clock, client, sent } = fakeWorld()
  await clock.advance(1000)
  const waiting = t.rejects(client.subscribe('group.a'), { code: 'RT_CLIENT_STOPPED' })
  const over = client.disconnect()
  await t.rejects(client.subscribe('group.b'), { code: 'RT_CLIENT_STOPPED' })
  await t.rejects(client.watch([2]), { code: 'RT_CLIENT_STOPPED' })
  await client.unsubscribe('group.a')
  sent()
  await clock.advance(20_000)
  await Promise.all([waiting, over])
  t.strictSame(sent().filter((line) => line !== 'POST /disconnect'), [])
})

t.test('a request that disconnect() overtakes is not repeated with another token', async (t) => {
  let serial = 0
  const { server, clock, client, sent } = fakeWorld({ token: () => tokenOf(ann, serial) })
  await clock.advance(1000)
  server.bad.set(tokenOf(ann, 0), 'RT_TOKEN_EXPIRED')
  serial = 1
  const asked = t.rejects(client.get('/stats'), { code: 'RT_CLIENT_STOPPED' })
  await client.disconnect()
  sent()
  await clock.advance(10_000)
  await asked
  t.strictSame(sent(), [])
})

t.test('a request without a connection is repeated with a new token, not without one', async (t) => {
  let serial = 0
  const { server, clock, client } = fakeWorld({ token: () => tokenOf(ann, serial++), autoConnect: false })
  server.bad.set(tokenOf(ann, 0), 'RT_TOKEN_EXPIRED')
  const asked = client.get('/stats')
  await clock.advance(1000)
  t.match(await asked, {})
})

t.test('a proxy that answers in the server’s place is no refusal', async (t) => {
  for (const answer of [{ status: 400, body: 'Bad Request' }, { status: 403, body: '<html>' }, { status: 200, body: '{}' }, { status: 200, body: 'login here' }, { status: 502, body: '' }]) {
    const { server, clock, client, errors } = fakeWorld()
    server.does.proxy = () => answer
    await clock.advance(60_000)
    t.equal(client.state, 'connecting', `${answer.status} ${answer.body}`)
    t.match(errors.map(({ code }) => code), ['RT_SERVER_UNREACHABLE'])
    server.does.proxy = () => null
    await clock.advance(60_000)
    t.equal(client.state, 'connected')
    // While it polls.
    server.does.sockets = 'refused'
    server.drop()
    await clock.advance(60_000)
    t.equal(client.transport, 'polling')
    server.does.proxy = () => answer
    await clock.advance(60_000)
    server.does.proxy = () => null
    const sent = client.send('message:group', group('group.a', 'x'))
    await clock.advance(60_000)
    t.match(await sent, { messageId: Number })
    t.ok(errors.every(({ code }) => /^RT_/.test(code)))
    await Promise.all([client.disconnect(), clock.advance(1000)])
  }
})

t.test('a socket that breaks in the middle of a replay loses nothing of it and repeats nothing', async (t) => {
  const { server, clock, client, of } = fakeWorld()
  await clock.advance(1000)
  await Promise.all([client.subscribe('group.a'), clock.advance(1000)])
  server.drop()
  for (let i = 0; i < 10; i++) server.publish(from, 'message:group', 'group.a', { message: `${i}` })
  let emitted = 0
  const off = client.on('message:group', () => {
    if (++emitted !== 4) return
    off()
    server.publish(from, 'message:group', 'group.a', { message: 'live' })
    server.drop()
  })
  await clock.advance(30_000)
  t.strictSame(of('message:group').map(({ message }) => message), [...'0123456789', 'live'])
})

t.test('after a retryAfter no request is made before that time', async (t) => {
  const { server, clock, client } = fakeWorld()
  await clock.advance(1000)
  for (const socket of [...server.sockets]) {
    socket.deliver('error', { code: 'RT_UNAVAILABLE', message: 'busy', retryAfter: 40 })
    socket.closedBy(1013)
  }
  await clock.advance(39_000)
  client.wake()
  await clock.advance(500)
  t.equal(server.sent.filter(({ what }) => what === 'socket').length, 1)
  await clock.advance(60_000)
  t.equal(client.state, 'connected')
})

t.test('addresses of every form are understood, or refused once', async (t) => {
  for (const baseUrl of ['http://server/api/websocket', 'http://server/api/websocket///', 'HTTP://SERVER/api/websocket']) {
    const { clock, client } = fakeWorld({ baseUrl })
    await clock.advance(1000)
    t.equal(client.state, 'connected', baseUrl)
    await client.disconnect()
  }
  for (const baseUrl of ['', 'ws://server/api', '//server/api', 'file:///api', undefined]) {
    const { clock, client, errors, sent } = fakeWorld({ baseUrl: baseUrl as string })
    await clock.advance(60_000)
    t.equal(client.state, 'stopped', String(baseUrl))
    t.match(errors.map(({ code }) => code), ['RT_URL_INVALID'])
    t.strictSame(sent(), [])
  }
})

t.test('ids and channels are percent-encoded in addresses', async (t) => {
  const asked: string[] = []
  const { server, clock, client } = fakeWorld({
    fetch: async (url, init) => {
      asked.push(url)
      return await world.fetch(url, init)
    }
  })
  const world = server.connectTo()
  server.does.sockets = 'refused'
  client.getPresence('ann+1@x|y' as never).catch(() => {})
  client.subscribe('private-user.ann+1@x|y').catch(() => {})
  await clock.advance(20_000)
  t.ok(asked.some((url) => url.endsWith('/presence?user_ids=ann%2B1%40x%7Cy')))
  t.ok(asked.some((url) => url.includes('/events?channel=private-user.ann%2B1%40x%7Cy&')))
})

t.test('a request that finds another user behind the token ends the socket of the one before, and the next is theirs', async (t) => {
  let current = ann
  const { server, clock, client, of } = fakeWorld({ token: () => tokenOf(current) })
  await clock.advance(1000)
  server.bad.set(tokenOf(ann), 'RT_TOKEN_EXPIRED')
  current = ben
  const asked = t.rejects(client.get('/stats'), { code: 'RT_CLIENT_STOPPED' }, 'it was a question of the one before')
  await clock.advance(10_000)
  await asked
  t.match(of('identity-changed'), [{ userId: 2, previous: { userId: 1 } }])
  t.match(of('connected').map(({ userId }) => userId), [1, 2])
  t.strictSame([...server.sockets].map(({ who }) => who), [ben])
  t.equal(client.state, 'connected')
})

t.test('a function for requests is called as one, as browsers require of their own', async (t) => {
  const callers: unknown[] = []
  const { server, clock, client } = fakeWorld({
    async fetch (this: unknown, url, init) {
      callers.push(this)
      return await world.fetch(url, init)
    }
  })
  const world = server.connectTo()
  server.does.sockets = 'refused'
  client.getPresence(1).catch(() => {})
  await clock.advance(20_000)
  t.ok(callers.length > 2)
  t.strictSame(new Set(callers), new Set([undefined]))
})

t.test('while it polls, a channel is subscribed at once, not with the next round', async (t) => {
  const { server, clock, client, of } = fakeWorld({ pollInterval: 60_000 })
  server.does.sockets = 'refused'
  while (client.transport !== 'polling') await clock.advance(1000)
  await clock.advance(5000)
  client.subscribe('group.late').catch((err: unknown) => { t.error(err) })
  await clock.advance(1000)
  t.ok(of('subscribed').some(({ channel }) => channel === 'group.late'))
})

import t from 'tap'
import { systemClock } from '../../client/src/clock.js'
import { createClient, type ClientError, type SocketClass } from '../../client/src/index.js'
import { fakeWorld, group } from './fake-world.js'
import { tokenOf } from './fake-server.js'

/* What stopped clients of other projects permanently, one after the other, against a server that misbehaves as instructed. */

const ann = { tenant: 1, user: 1 }
const ben = { tenant: 1, user: 2 }
const other = { tenant: 2, user: 1 }

for (const [who, next] of [['another user', ben], ['the same user id in another tenant', other]] as const) {
  t.test(`what waits to be sent is not sent as ${who}, once the token is theirs`, async (t) => {
    let current: typeof next = ann
    const { server, clock, client, of } = fakeWorld({ token: () => tokenOf(current) })
    await clock.advance(1000)
    await Promise.all([client.subscribe('group.a'), client.subscribe('group.a'), clock.advance(1000)])
    server.does.isDown = true
    server.drop()
    await clock.advance(100)
    const waiting = client.send('message:group', group('group.a', 'of Ann'))
    const refused = t.rejects(waiting, { code: 'RT_IDENTITY_CHANGED' })
    current = next
    server.does.isDown = false
    await clock.advance(60_000)
    await refused
    t.strictSame(server.log.filter(({ data }) => data.message === 'of Ann'), [])
    t.strictSame(of('identity-changed'), [{ userId: next.user, clubId: next.tenant, previous: { userId: 1, clubId: 1 } }])
    t.match(of('connected').at(-1), { userId: next.user })
    server.publish({ tenant: next.tenant, user: 9 }, 'message:group', 'group.a', { message: 'in a room of Ann' })
    await clock.advance(1000)
    t.strictSame(of('message:group'), [], 'subscriptions were the other user’s')
    t.notOk('group.a' in client.cursors)
    const own = client.send('message:group', group('group.a', 'of the next'))
    await clock.advance(1000)
    t.match(await own, { messageId: Number })
    t.match(server.log.at(-1), { tenant: next.tenant, sender: next.user })
    await client.disconnect()
  })
}

t.test('a socket that a page’s policy forbids fires an error and never a close: it is a failed attempt, and polling takes over', async (t) => {
  const { server, clock, client, of } = fakeWorld()
  server.does.sockets = 'forbidden'
  const subscribed = client.subscribe('group.a')
  await clock.advance(20_000)
  t.match(of('transport'), [{ transport: 'polling' }])
  t.match(await subscribed, { channel: 'group.a' })
  server.publish({ tenant: 1, user: 9 }, 'message:group', 'group.a', { message: 'hello' })
  await clock.advance(10_000)
  t.match(of('message:group'), [{ message: 'hello' }])
  t.match(of('error').map(({ code }) => code), ['RT_SOCKET_BLOCKED'], 'sent once')
})

t.test('a socket that opens and passes nothing on is blocked, too', async (t) => {
  const { server, clock, of } = fakeWorld()
  server.does.sockets = 'mute'
  await clock.advance(60_000)
  t.match(of('transport'), [{ transport: 'polling' }])
})

t.test('an event reaches everyone who listened when it was emitted, whatever a listener does', async (t) => {
  const { clock, client } = fakeWorld()
  const calls: string[] = []
  let off = client.on('connected', function again () {
    calls.push('again')
    off()
    off = client.on('connected', again)
    client.on('connected', () => { calls.push('added meanwhile') })
    offLast()
  })
  const offLast = client.on('connected', () => { calls.push('removed meanwhile') })
  const failing = (async () => { throw new Error('of a listener') }) as () => void
  client.on('connected', failing)
  const error = console.error
  const printed: unknown[] = []
  console.error = (err: unknown) => { printed.push(err) }
  await clock.advance(1000)
  console.error = error
  t.strictSame(calls, ['again', 'removed meanwhile'])
  t.match(printed, [{ message: 'of a listener' }], 'a rejection of a listener is not left unhandled')
})

t.test('a listener that two components added is called once, until both have removed it', async (t) => {
  const { clock, client, server } = fakeWorld()
  let calls = 0
  const listener = (): void => { calls++ }
  const offs = [client.on('disconnected', listener), client.on('disconnected', listener)]
  const drop = async (): Promise<number> => {
    await clock.advance(60_000)
    server.drop()
    await clock.advance(1000)
    return calls
  }
  t.equal(await drop(), 1)
  offs[0]?.()
  offs[0]?.()
  t.equal(await drop(), 2)
  offs[1]?.()
  t.equal(await drop(), 2)
})

t.test('options that are undefined are as if absent, and numbers that are none as well', async (t) => {
  const names = [
    'token', 'maxReconnectAttempts', 'reconnectDelay', 'maxReconnectDelay', 'heartbeatInterval', 'autoConnect', 'connectionId', 'since', 'epoch', 'confirm',
    'maxQueued', 'maxFrameSize', 'typingIdle', 'polling', 'pollInterval', 'WebSocket', 'fetch', 'clock'
  ]
  const { server, clock, client, of, sent } = fakeWorld({
    ...Object.fromEntries(names.slice(1, -3).map((name) => [name, undefined])), pollInterval: NaN, heartbeatInterval: NaN, reconnectDelay: undefined
  })
  server.does.sockets = 'refused'
  client.subscribe('group.a').catch(() => {})
  await clock.advance(30_000)
  t.match(of('transport'), [{ transport: 'polling' }])
  sent()
  await clock.advance(20_000)
  const polls = sent().filter((line) => line === 'GET /events').length
  t.ok(polls >= 2 && polls <= 5, `${polls} polls in 20 s`)
  const bare = createClient({ baseUrl: 'http://127.0.0.1:1', ...Object.fromEntries(names.map((name) => [name, undefined])), autoConnect: false })
  t.equal(bare.state, 'stopped')
  t.type(bare.connectionId, 'string')
  // Also in a call.
  server.does.sockets = 'open'
  await clock.advance(60_000)
  const acked = client.send('message:group', { ...group('group.a', 'x'), dedupeId: undefined })
  await clock.advance(1000)
  t.match(await acked, { messageId: Number })
})

t.test('a delay that no timer can hold does not become none at all', async (t) => {
  const { clock, sent } = fakeWorld({ heartbeatInterval: Infinity })
  await clock.advance(1000)
  sent()
  await clock.advance(60_000)
  t.ok(sent().length < 3)
})

t.test('a system clock that is set back an hour holds up nothing, and time that a machine slept counts', async (t) => {
  const { now, performance } = { now: Date.now, performance: globalThis.performance }
  t.teardown(() => { Object.assign(Date, { now }); Object.assign(globalThis, { performance }) })
  let [wall, steady] = [1_000_000_000, 0]
  Date.now = () => wall
  Object.defineProperty(globalThis, 'performance', { value: { now: () => steady }, configurable: true, writable: true })
  const clock = systemClock()
  const begun = clock.now()
  wall -= 3600_000
  steady += 1000
  t.equal(clock.now() - begun, 1000)
  wall += 3600_000
  t.equal(clock.now() - begun, 3_601_000, 'asleep, the steady clock stood still')
  Object.defineProperty(globalThis, 'performance', { value: undefined, configurable: true, writable: true })
  const poor = systemClock()
  const before = poor.now()
  wall -= 1000
  t.equal(poor.now() - before, 0, 'without a steady one, it stands')
  wall += 10
  t.equal(poor.now() - before, 10)
})

t.test('with cookies and no login, the client reports it once, and stops', async (t) => {
  const { clock, client, errors, of, server, sent } = fakeWorld({ token: undefined })
  await clock.advance(60_000)
  t.match(errors.map(({ code }) => code), ['RT_UNAUTHENTICATED'])
  t.equal(client.state, 'stopped')
  t.strictSame([of('connected'), of('reconnecting')], [[], []])
  sent()
  await clock.advance(60_000)
  t.strictSame(sent(), [])
  server.cookie = ann
  client.connect()
  await clock.advance(1000)
  t.match(of('connected'), [{ userId: 1 }], 'and begins again when told')
})

t.test('a session of cookies that ended is tried once more: it may have been prolonged', async (t) => {
  const { clock, client, of, errors, server } = fakeWorld({ token: undefined })
  server.cookie = ann
  await clock.advance(5000)
  t.equal(client.state, 'connected')
  const expire = async (): Promise<void> => {
    for (const socket of [...server.sockets]) {
      socket.deliver('error', { code: 'RT_TOKEN_EXPIRED', message: 'expired' })
      socket.closedBy(4401)
    }
    await clock.advance(30_000)
  }
  await expire()
  t.match(of('disconnected'), [{ code: 4401, willReconnect: true }])
  t.equal(client.state, 'connected', 'the cookie was still good')
  server.cookie = null
  await expire()
  t.equal(client.state, 'stopped')
  t.match(errors.map(({ code }) => code), ['RT_TOKEN_EXPIRED', 'RT_TOKEN_EXPIRED', 'RT_UNAUTHENTICATED'])
})

t.test('calls that need a token share one call of the token function', async (t) => {
  let [calls, under, most] = [0, 0, 0]
  const { clock, client } = fakeWorld({
    token: async () => {
      calls++
      most = Math.max(most, ++under)
      await new Promise<void>((resolve) => { clock.after(200, resolve) })
      under--
      return tokenOf(ann)
    }
  })
  const asked = Promise.all([client.get('/stats'), client.getOnlineUsers(), client.get('/typing/c')])
  await clock.advance(1000)
  await asked
  t.strictSame([calls, most], [1, 1])
})

t.test('a token function that never resolves, throws or returns nothing is called again later', async (t) => {
  const answers: Array<() => Promise<string>> = [async () => await new Promise(() => {}), async () => { throw new Error('no') }, async () => '', async () => tokenOf(ann)]
  const { clock, client, errors } = fakeWorld({ token: async () => await answers.shift()!() })
  await clock.advance(90_000)
  t.equal(client.state, 'connected')
  t.match(errors.map(({ code }) => code), ['RT_TOKEN_FAILED'])
})

for (const ms of [0, 1, 3, 6, 9, 12, 15, 18, 21, 24, 27]) {
  t.test(`disconnect() after ${ms} ms of connecting: nothing is sent any more, and what was registered is ended`, async (t) => {
    const { clock, client, server, sent, of } = fakeWorld({ token: async () => { await new Promise<void>((resolve) => { clock.after(2, resolve) }); return tokenOf(ann) } })
    await clock.advance(ms)
    sent()
    let isSettled = false
    client.disconnect().then(() => { isSettled = true }, () => {})
    const atOnce = sent()
    await clock.advance(60_000)
    t.strictSame([...atOnce, ...sent()].filter((line) => line !== 'POST /disconnect'), [])
    t.ok(isSettled)
    t.strictSame([of('connected').length > 0 && ms < 20, server.sockets.size, client.state], [false, 0, 'stopped'])
    t.ok([...server.registered].length === 0 || ms >= 20, 'nobody is left behind')
  })
}

t.test('a client that is stopped and begun again is not ended by the end of its former connection', async (t) => {
  const { clock, client, server } = fakeWorld()
  server.does.latency = () => 300
  await clock.advance(400)
  void client.disconnect()
  client.connect()
  await clock.advance(20_000)
  t.equal(client.state, 'connected')
})

t.test('a send that is too large is rejected before it is sent, and harms no other', async (t) => {
  const { clock, client, sent, of } = fakeWorld()
  await clock.advance(1000)
  sent()
  const large = client.send('message:group', group('group.a', 'é'.repeat(33_000)))
  const good = client.send('message:group', group('group.a', 'good'))
  await t.rejects(large, { code: 'RT_INVALID_DATA' })
  await clock.advance(1000)
  t.match(await good, { messageId: Number })
  await t.rejects(client.request('user:presence', { status: 'away', lastMessage: 'x'.repeat(70_000) }), { code: 'RT_INVALID_DATA' }, 'nor does any other frame')
  const loop: Record<string, unknown> = {}
  await t.rejects(client.send('message:group', { ...group('group.a', 'x'), data: Object.assign(loop, { loop }) }), { code: 'RT_INVALID_DATA' })
  await t.rejects(client.send('message:group', { ...group('group.a', 'x'), data: { n: 1n } }), { code: 'RT_INVALID_DATA' })
  await t.rejects(client.request('user:presence', { status: 'away', data: { n: 1n } }), { code: 'RT_INVALID_DATA' })
  t.strictSame([sent(), of('disconnected')], [['message:group'], []])
})

t.test('a send on which the server fails is tried a few times while the others continue', async (t) => {
  const { clock, client, server } = fakeWorld()
  await clock.advance(1000)
  server.does.poison = (text) => text === 'bad'
  const bad = client.send('message:group', group('group.a', 'bad'))
  const good = Promise.all(['1', '2', '3'].map(async (text) => await client.send('message:group', group('group.a', text))))
  let isRejected: ClientError | undefined
  bad.catch((err: unknown) => { isRejected = err as ClientError })
  await clock.advance(500)
  t.match(await good, [{}, {}, {}])
  t.equal(isRejected, undefined)
  await clock.advance(60_000)
  t.match(isRejected, { code: 'RT_INTERNAL' })
  t.ok(server.sent.filter(({ what }) => what === 'message:group').length <= 8)
})

t.test('a send that has to wait holds up those to the same address, in order, and no others', async (t) => {
  const { clock, client, server } = fakeWorld()
  await clock.advance(1000)
  let isSlow = true
  const accept = server.accept.bind(server)
  server.accept = (who, event, data, from) => {
    if (isSlow && data.channel === 'group.slow') server.does.storage = 'none'
    try {
      return accept(who, event, data, from)
    } finally {
      server.does.storage = 'works'
    }
  }
  const slow = ['1', '2'].map(async (text) => await client.send('message:group', group('group.slow', text)))
  const quick = client.send('message:group', group('group.quick', 'x'))
  await clock.advance(2000)
  t.match(await quick, { messageId: Number })
  isSlow = false
  await clock.advance(5000)
  const ids = (await Promise.all(slow)).map(({ messageId }) => messageId)
  t.ok(ids[0]! < ids[1]!)
})

t.test('a send whose outcome is unknown is repeated under its key, and stored once', async (t) => {
  const { clock, client, server } = fakeWorld()
  await clock.advance(1000)
  server.does.storage = 'unknown'
  const sent = client.send('message:group', group('group.a', 'once'))
  await clock.advance(500)
  server.does.storage = 'works'
  await clock.advance(5000)
  t.match(await sent, { messageId: server.log[0]?.id })
  t.equal(server.log.length, 1)
})

t.test('two components subscribe to one channel: it is given up when both have', async (t) => {
  const { clock, client, server, of, sent } = fakeWorld()
  await clock.advance(1000)
  await Promise.all([client.subscribe('group.a'), client.subscribe('group.a'), clock.advance(1000)])
  sent()
  await client.unsubscribe('group.a')
  server.publish({ tenant: 1, user: 9 }, 'message:group', 'group.a', { message: 'still received' })
  await clock.advance(1000)
  t.match(of('message:group'), [{ message: 'still received' }])
  t.strictSame([sent(), of('unsubscribed')], [[], []])
  await Promise.all([client.unsubscribe('group.a'), clock.advance(1000)])
  t.strictSame([sent(), of('unsubscribed')], [['unsubscribe'], [{ channel: 'group.a' }]])
  // The own channel is the server's to subscribe: a component that lets go of it does not end it.
  await client.subscribe('user:me')
  await client.unsubscribe('user:me')
  t.strictSame(sent(), [])
})

t.test('an own message is not delivered after a reconnect, even if its ack was lost', async (t) => {
  const { clock, client, server, of } = fakeWorld()
  await clock.advance(1000)
  await Promise.all([client.subscribe('group.a'), clock.advance(1000)])
  const acked = client.send('message:group', group('group.a', 'acked'))
  await clock.advance(1000)
  await acked
  server.does.isSilent = true
  const lost = client.send('message:group', group('group.a', 'its ack was lost'))
  await clock.advance(100)
  t.equal(server.log.length, 2)
  server.does.isSilent = false
  server.drop()
  server.publish({ tenant: 1, user: 9 }, 'message:group', 'group.a', { message: 'of another' })
  await clock.advance(20_000)
  await lost
  t.strictSame(of('message:group').map(({ message }) => message), ['of another'])
})

t.test('a channel that cannot be authorized while it resumes is kept and retried; a refused one is not', async (t) => {
  for (const isModern of [true, false]) {
    const { clock, client, server, of, errors } = fakeWorld({}, { isModern })
    await clock.advance(1000)
    await Promise.all([client.subscribe('group.a'), client.subscribe('group.b'), client.subscribe('group.c'), clock.advance(1000)])
    server.does.failing.add('group.a')
    server.does.forbidden.add('group.b')
    server.drop()
    server.publish({ tenant: 1, user: 9 }, 'message:group', 'group.a', { message: 'missed' })
    await clock.advance(10_000)
    t.equal(client.state, 'connected')
    t.match(errors, [{ code: 'RT_FORBIDDEN', channel: 'group.b' }])
    server.does.failing.clear()
    await clock.advance(30_000)
    t.match(of('message:group'), [{ message: 'missed' }])
    t.strictSame(['group.a', 'group.b', 'group.c'].filter((name) => name in client.cursors), ['group.a', 'group.c'])
    await client.disconnect()
  }
})

t.test('if the server cannot check credentials now, the client tries again with the same token', async (t) => {
  let calls = 0
  const { clock, client, server, errors } = fakeWorld({ token: () => { calls++; return tokenOf(ann) } })
  server.does.isUnavailable = true
  await clock.advance(20_000)
  t.equal(client.state, 'connecting')
  server.does.isUnavailable = false
  await clock.advance(40_000)
  t.equal(client.state, 'connected')
  t.ok(calls > 1)
  t.match(errors.map(({ code }) => code), ['RT_UNAVAILABLE'])
})

t.test('sends by polling with an expired token get a new one, and are repeated as the same user only', async (t) => {
  let [current, serial] = [ann, 0]
  const { clock, client, server, errors } = fakeWorld({ token: () => tokenOf(current, serial) })
  server.does.sockets = 'refused'
  await clock.advance(20_000)
  t.equal(client.transport, 'polling')
  server.bad.set(tokenOf(ann, 0), 'RT_TOKEN_EXPIRED')
  serial = 1
  const sent = client.send('message:group', group('group.a', 'repeated'))
  await clock.advance(1000)
  t.match(await sent, { messageId: Number })
  server.bad.set(tokenOf(ann, 1), 'RT_TOKEN_EXPIRED')
  current = ben
  const refused = t.rejects(client.send('message:group', group('group.a', 'not of Ben')), { code: 'RT_IDENTITY_CHANGED' })
  await clock.advance(1000)
  await refused
  t.strictSame(server.log.map(({ data }) => data.message), ['repeated'])
  t.match(errors.map(({ code }) => code), ['RT_SOCKET_BLOCKED'])
})

t.test('calls that need a socket are refused while polling, and hold up no later send', async (t) => {
  const { clock, client, server } = fakeWorld()
  server.does.sockets = 'refused'
  await clock.advance(20_000)
  const custom = (client as unknown as { send (event: string, data: object): Promise<unknown> }).send('board:moved', { channel: 'group.a' })
  const good = client.send('message:group', group('group.a', 'good'))
  await t.rejects(custom, { code: 'RT_SOCKET_CLOSED' })
  await clock.advance(1000)
  t.match(await good, { messageId: Number })
  await t.rejects(client.watch([2]), { code: 'RT_SOCKET_CLOSED' })
})

t.test('on a server without epochs each channel is subscribed separately', async (t) => {
  for (const isModern of [true, false]) {
    const { clock, client, server, sent, of } = fakeWorld({}, { isModern })
    await clock.advance(1000)
    await Promise.all([...'abcde'].map(async (name) => await client.subscribe(`group.${name}`)).concat(clock.advance(2000) as never))
    sent()
    server.drop()
    await clock.advance(20_000)
    t.equal(sent().filter((line) => line === 'subscribe').length, isModern ? 1 : 7, 'the own channel, broadcast and five')
    t.equal(of('subscribed').filter(({ recovered }) => recovered === true).length, 7)
    t.equal(client.epoch, isModern ? 'e1' : undefined)
    await client.disconnect()
  }
})

t.test('a new epoch is one gap per channel, and all new events are delivered, whatever their ids', async (t) => {
  const { clock, client, server, of } = fakeWorld()
  await clock.advance(1000)
  await Promise.all([client.subscribe('group.a'), client.subscribe('group.b'), clock.advance(1000)])
  const say = (message: string): void => { server.publish({ tenant: 1, user: 9 }, 'message:group', 'group.a', { message }) }
  for (const n of '12345') say(n)
  await clock.advance(1000)
  server.restore(3)
  server.drop(1012)
  say('while it was away')
  await clock.advance(20_000)
  t.strictSame(of('gap').map(({ channel }) => channel).sort(), ['broadcast', 'group.a', 'group.b', 'private-user.1'])
  say('new')
  await clock.advance(1000)
  t.strictSame(of('message:group').map(({ message }) => message), ['1', '2', '3', '4', '5', 'new'])
  // A socket that lives on learns of it by an answer.
  server.restore(1)
  await Promise.all([client.subscribe('group.c'), clock.advance(2000)])
  t.strictSame(of('gap').slice(4).map(({ channel }) => channel).sort(), ['broadcast', 'group.a', 'group.b', 'private-user.1'])
  t.equal(client.epoch, 'e3')
  say('newer')
  await clock.advance(1000)
  t.match(of('message:group').at(-1), { message: 'newer' })
})

t.test('cursors kept across a reload are sent with their epoch', async (t) => {
  const { clock, server, of, client } = fakeWorld({ since: { 'group.a': 3 }, epoch: 'e0' })
  server.publish({ tenant: 1, user: 9 }, 'message:group', 'group.a', { message: 'x' })
  await clock.advance(5000)
  t.match(of('gap'), [{ channel: 'group.a', position: 1 }])
  t.strictSame([of('gap').length, client.epoch], [1, 'e1'])
})

t.test('a replay whose last event was deleted meanwhile holds up the channel for some seconds at most', async (t) => {
  const { clock, client, server, of } = fakeWorld()
  await clock.advance(1000)
  await Promise.all([client.subscribe('group.a'), clock.advance(1000)])
  const after = server.after.bind(server)
  server.after = (...args) => {
    const found = after(...args)
    found.events.pop()
    return found
  }
  const say = (message: string): void => { server.publish({ tenant: 1, user: 9 }, 'message:group', 'group.a', { message }) }
  server.drop()
  for (const n of '123') say(n)
  await clock.advance(5000)
  say('live')
  await clock.advance(60_000)
  t.strictSame(of('message:group').map(({ message }) => message), ['1', '2', 'live'])
})

t.test('watches are counted, renewed after a reconnect, and not sent to a server without them', async (t) => {
  const { clock, client, server, of } = fakeWorld()
  const asked: object[] = []
  server.watch = (event, { userIds }) => {
    asked.push([event, userIds])
    return { users: (userIds as number[]).map((userId) => ({ userId, status: 'online' })) }
  }
  await clock.advance(1000)
  const watching = Promise.all([client.watch([2, 3]), client.watch([3, 4])])
  await clock.advance(10_000)
  const [one, two] = await watching
  t.match(one.users, [{ userId: 2 }, { userId: 3 }])
  one.stop()
  one.stop()
  await clock.advance(100)
  server.drop()
  await clock.advance(20_000)
  t.match(of('watched'), [{ users: [{ userId: 3 }, { userId: 4 }] }])
  two.stop()
  await clock.advance(100)
  t.match(asked.slice(2), [['presence:unwatch', [2]], ['presence:watch', [3, 4]], ['presence:unwatch', [3, 4]]])
  const old = fakeWorld({}, { isModern: false })
  const refused = t.rejects(old.client.watch([2]), { code: 'RT_INVALID_FRAME' })
  await old.clock.advance(10_000)
  await refused
})

t.test('nothing that was passed in is needed as a global, and the newest globals are not', async (t) => {
  const removed = ['fetch', 'WebSocket', 'crypto', 'Headers', 'AbortController', 'AbortSignal', 'structuredClone', 'performance', 'setTimeout', 'TextEncoder'] as const
  const kept = removed.map((name) => [name, Object.getOwnPropertyDescriptor(globalThis, name)] as const)
  t.teardown(() => { for (const [name, descriptor] of kept) if (descriptor) Object.defineProperty(globalThis, name, descriptor) })
  for (const name of removed) Object.defineProperty(globalThis, name, { value: undefined, configurable: true, writable: true })
  const { clock, client, of } = fakeWorld()
  await clock.advance(1000)
  const sent = client.send('message:group', group('group.a', 'x'))
  await clock.advance(1000)
  for (const [name, descriptor] of kept) if (descriptor) Object.defineProperty(globalThis, name, descriptor)
  t.match(await sent, { messageId: Number })
  t.match(of('connected'), [{ transport: 'websocket' }])
})

t.test('without a WebSocket class it reports once what to do, and polls', async (t) => {
  const { WebSocket } = globalThis as { WebSocket?: SocketClass }
  Object.assign(globalThis, { WebSocket: undefined })
  t.teardown(() => { Object.assign(globalThis, { WebSocket }) })
  const { clock, of, errors } = fakeWorld({ WebSocket: undefined })
  await clock.advance(60_000)
  t.match(of('transport'), [{ transport: 'polling' }])
  t.match(errors, [{ code: 'RT_SOCKET_BLOCKED', message: /option WebSocket/ }])
  t.equal(errors.length, 1)
})

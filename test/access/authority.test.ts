import { setTimeout as sleep } from 'node:timers/promises'
import { internalsOf } from '../../lib/internals.js'
import { buildNodes, connect, open, overBackends, rest, rowsOf, socketTo, tokenOf, until, user, type Host } from '../helper.js'
import type { Identity, Verdict } from '../../plugins/index.js'

const group = { channel: 'group.x', message: 'hello', conversationId: 'c' }

/** What a host function answers when the test says so; `asked` is how many calls wait. */
function answers<T> (): { asked: () => number, later: () => Promise<T>, answer: (value: T) => void } {
  const waiting: Array<(value: T) => void> = []
  return {
    asked: () => waiting.length,
    later: async () => await new Promise<T>((resolve) => { waiting.push(resolve) }),
    answer: (value) => { for (const resolve of waiting.splice(0)) resolve(value) }
  }
}

/** How many decisions of each kind a node has applied. */
const decisionsOn = ({ app }: Host): Partial<Record<string, number>> => Object.fromEntries(internalsOf(app).metrics.decisions)

/** The HTTP status and body of an upgrade that is refused. */
async function refusedUpgrade (host: Pick<Host, 'url'>, options: Parameters<typeof socketTo>[1]): Promise<{ status: number, body: string }> {
  const { socket } = socketTo(host, options)
  return await new Promise((resolve, reject) => {
    socket.once('open', () => { reject(new Error('the upgrade was accepted')) })
    socket.once('unexpected-response', (_request, response) => {
      let body = ''
      response.on('data', (chunk: Buffer) => { body += chunk.toString() }).on('end', () => { resolve({ status: response.statusCode ?? 0, body }) })
    })
  })
}

overBackends((test, backend) => {
  const nodes = async (t: Parameters<typeof buildNodes>[0], settings: Omit<Parameters<typeof buildNodes>[1], 'backend'> = {}): Promise<[Host, Host]> =>
    await buildNodes(t, { backend, options: { authorize: () => true }, ...settings })

  test('a user who is kicked receives nothing more on the channel, on every node, and the other members do', async (t) => {
    const [a, b] = await nodes(t)
    const evicted: unknown[] = []
    for (const { app } of new Set([a, b])) app.realtime.events.on('evicted', (what) => { evicted.push(what) })
    const clients = [await connect(a, user(1)), await connect(b, user(1))]
    const other = await connect(b, user(2))
    for (const client of [...clients, other]) await client.request('subscribe', { channel: 'group.x' })
    t.strictSame(await a.app.realtime.channels.kick(1, 1, 'group.x'), { connections: 2, complete: true })
    for (const client of clients) t.strictSame(await client.next('unsubscribed'), { channel: 'group.x', reason: 'revoked' })
    await a.app.realtime.channels.group({ tenantId: 1, ...group })
    await other.next('message:group')
    for (const client of clients) t.strictSame(await client.soFar('message:group'), [])
    t.strictSame(await other.soFar('unsubscribed'), [])
    t.equal(evicted.length, 2)
    t.match(evicted[0], { tenantId: 1, userId: 1, channel: 'group.x', connectionId: String })
    t.strictSame(await a.app.realtime.channels.kick(1, 1, 'group.x'), { connections: 0, complete: true }, 'nobody is left to be kicked')
    t.strictSame(await a.app.realtime.channels.kick(2, 2, 'group.x'), { connections: 0, complete: true }, 'another tenant is not concerned')
  })

  test('a user whom the host joins to a channel gets `subscribed` and its events', async (t) => {
    const [a, b] = await nodes(t, { options: { authorize: () => false } })
    const clients = [await connect(a, user(1)), await connect(b, user(1))]
    t.strictSame(await b.app.realtime.channels.join(1, 1, 'group.x'), { connections: 2, complete: true })
    for (const client of clients) t.match(await client.next('subscribed'), { channel: 'group.x', position: Number, epoch: String })
    await a.app.realtime.channels.group({ tenantId: 1, ...group })
    for (const client of clients) t.match(await client.next('message:group'), { message: 'hello' })
  })

  test('a connection without a socket is joined and kicked as well', async (t) => {
    const [a, b] = await nodes(t)
    await rest(a, user(1), 'POST', '/connect', { connection_id: 'tab' })
    await rest(a, user(1), 'POST', '/subscribe', { connection_id: 'tab', channel: 'group.gone' })
    t.match(await b.app.realtime.channels.join(1, 1, 'group.x'), { connections: 1, complete: true })
    t.match(await b.app.realtime.channels.kick(1, 1, 'group.gone'), { connections: 1, complete: true })
    const client = await open(a)
    client.send('auth', { token: tokenOf(user(1)), connectionId: 'tab' })
    const { channels } = await client.next('authenticated')
    t.ok(channels.includes('group.x'))
    t.notOk(channels.includes('group.gone'))
  })

  test('a recheck revokes subscriptions that authorize no longer allows, and none if authorize fails', async (t) => {
    let answer: () => Verdict = () => true
    const [a, b] = await nodes(t, { options: { authorize: ({ channel }) => channel === 'group.stays' || answer() } })
    const clients = [await connect(a, user(1)), await connect(b, user(2))]
    for (const client of clients) for (const channel of ['group.x', 'group.stays']) await client.request('subscribe', { channel })
    answer = () => { throw new Error('the host’s database is away') }
    t.strictSame(await a.app.realtime.access.recheck({ tenantId: 1 }), { connections: 2, complete: false })
    for (const client of clients) t.strictSame(await client.soFar('unsubscribed'), [])
    answer = () => ({ allow: false, message: 'closed' })
    t.strictSame(await a.app.realtime.access.recheck({ tenantId: 1, userId: 2, channel: 'group.x' }), { connections: 1, complete: true })
    t.strictSame(await clients[1]?.next('unsubscribed'), { channel: 'group.x', reason: 'revoked' })
    t.strictSame(await clients[0]?.soFar('unsubscribed'), [], 'the other user was not concerned')
    t.strictSame(await b.app.realtime.access.recheck({ tenantId: 1 }), { connections: 2, complete: true })
    t.strictSame(await clients[0]?.next('unsubscribed'), { channel: 'group.x', reason: 'revoked' })
    await a.app.realtime.channels.group({ tenantId: 1, ...group, channel: 'group.stays' })
    for (const client of clients) t.match(await client.next('message:group'), { channel: 'group.stays' })
  })

  test('a banned user is disconnected everywhere and stays out, by REST, by an upgrade and by an auth frame, until unbanned', async (t) => {
    const [a, b] = await nodes(t)
    const emitted: unknown[] = []
    for (const { app } of new Set([a, b])) {
      app.realtime.events.on('banned', (what) => { emitted.push(['banned', what]) })
      app.realtime.events.on('refused', (what) => { emitted.push(['refused', what]) })
    }
    const clients = [await connect(a, user(1)), await connect(b, user(1))]
    const other = await connect(b, user(2))
    await rest(a, user(1), 'POST', '/connect', { connection_id: 'no-socket' })
    t.strictSame(await a.app.realtime.access.ban({ tenantId: 1, userId: 1, reason: 'spam' }), { connections: 3, complete: true })
    for (const client of clients) t.equal(await client.closed, 4403)
    t.strictSame(emitted.splice(0), [['banned', { tenantId: 1, userId: 1, until: null, reason: 'spam' }]])
    for (const host of [a, b]) {
      emitted.splice(0)
      t.match(await rest(host, user(1), 'GET', '/stats'), { status: 403, body: { statusCode: 403, code: 'RT_BANNED' } })
      t.strictSame(emitted.splice(0), [['refused', { tenantId: 1, userId: 1, code: 'RT_BANNED' }]])
      const byHeader = await refusedUpgrade(host, { headers: { authorization: `Bearer ${tokenOf(user(1))}` } })
      t.equal(byHeader.status, 403)
      t.match(JSON.parse(byHeader.body), { statusCode: 403, code: 'RT_BANNED' })
      t.equal((await refusedUpgrade(host, { protocols: ['bearer', tokenOf(user(1))] })).status, 403)
      const late = await open(host)
      late.send('auth', { token: tokenOf(user(1)) })
      t.match(await late.next('error'), { code: 'RT_BANNED' })
      t.equal(await late.closed, 4403)
    }
    t.ok(await other.request('ping'), 'nobody else is concerned')
    t.ok(await connect(a, user(1, { tenantId: 2 })), 'nor the same user id of another tenant')
    t.match(await b.app.realtime.access.unban({ tenantId: 1, userId: 1 }), { complete: true })
    for (const host of [a, b]) t.ok(await connect(host, user(1)))
  })

  test('a ban ends by itself', async (t) => {
    const [a, b] = await nodes(t)
    await a.app.realtime.access.ban({ tenantId: 1, userId: 1, until: new Date(a.clock.now() + 60_000) })
    for (const host of [a, b]) t.match(await rest(host, user(1), 'GET', '/stats'), { status: 403 })
    a.clock.advance(61_000)
    for (const host of [a, b]) {
      t.match(await rest(host, user(1), 'GET', '/stats'), { status: 200 })
      t.ok(await connect(host, user(1)))
    }
  })

  test('credentials issued before a revocation are refused, live ones too, and newer ones are not', async (t) => {
    const [a, b] = await nodes(t)
    const now = a.clock.now()
    const old = user(1, { issuedAt: now - 60_000 })
    const newer = user(1, { issuedAt: now + 60_000 })
    const revoked: unknown[] = []
    const refused: unknown[] = []
    for (const { app } of new Set([a, b])) {
      app.realtime.events.on('revoked', (what) => { revoked.push(what) })
      app.realtime.events.on('refused', (what) => { refused.push(what) })
    }
    const clients = [await connect(a, old), await connect(b, old), await connect(b, user(1))]
    const renewed = await connect(b, newer)
    t.strictSame(await a.app.realtime.access.revoke({ tenantId: 1, userId: 1 }), { connections: 3, complete: true })
    for (const client of clients) t.equal(await client.closed, 4401)
    t.match(revoked, [{ tenantId: 1, userId: 1, tokenId: null, until: Number }])
    t.equal(revoked.length, 1)
    for (const host of [a, b]) {
      refused.splice(0)
      t.match(await rest(host, old, 'GET', '/stats'), { status: 401, body: { code: 'RT_TOKEN_REVOKED' } })
      t.strictSame(refused, [{ tenantId: 1, userId: 1, code: 'RT_TOKEN_REVOKED' }])
      const late = await open(host)
      late.send('auth', { token: tokenOf(old) })
      t.match(await late.next('error'), { code: 'RT_TOKEN_REVOKED' })
      t.equal(await late.closed, 4401)
      t.match(await rest(host, newer, 'GET', '/stats'), { status: 200 })
    }
    t.ok(await renewed.request('ping'))
    await t.rejects(renewed.request('auth', { token: tokenOf(old) }), { code: 'RT_TOKEN_REVOKED' }, 'nor do they renew')
  })

  test('one token is revoked by its id, and lives again when the revocation ends', async (t) => {
    const [a, b] = await nodes(t)
    const [lost, kept] = [user(1, { tokenId: 'lost' }), user(1, { tokenId: 'kept' })]
    const [stolen, own] = [await connect(b, lost), await connect(b, kept)]
    t.strictSame(await a.app.realtime.access.revoke({ tenantId: 1, tokenId: 'lost', until: a.clock.now() + 60_000 }), { connections: 1, complete: true })
    t.equal(await stolen.closed, 4401)
    t.ok(await own.request('ping'))
    for (const host of [a, b]) t.match(await rest(host, lost, 'GET', '/stats'), { status: 401, body: { code: 'RT_TOKEN_REVOKED' } })
    a.clock.advance(61_000)
    t.match(await rest(b, lost, 'GET', '/stats'), { status: 200 })
  })

  test('support staff see from where a user is connected, on which node and to which channels', async (t) => {
    const [a, b] = await nodes(t)
    const first = await connect(a, user(1), { connectionId: 'first', headers: { 'user-agent': 'Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) Mobile' } })
    await connect(b, user(1), { connectionId: 'second' })
    await connect(b, user(2))
    await rest(a, user(1), 'POST', '/connect', { connection_id: 'third', device_type: 'tablet' })
    await rest(a, user(1), 'POST', '/subscribe', { connection_id: 'third', channel: 'group.y' })
    await first.request('subscribe', { channel: 'group.x' })
    for (const { app } of [a, b]) {
      const found = await app.realtime.connections.of(1, 1)
      t.match(found.map(({ connectionId, nodeId }) => [connectionId, nodeId]).toSorted(), [
        ['first', a.app.realtime.nodeId], ['second', b.app.realtime.nodeId], ['third', null]
      ])
      const one = found.find(({ connectionId }) => connectionId === 'first')
      t.match(one, { device: 'mobile', ipAddress: '127.0.0.1', connectedAt: Number })
      t.ok(one?.channels?.includes('group.x') === true && one.channels.includes('private-user.1'))
      t.match(found.find(({ connectionId }) => connectionId === 'third'), { device: 'tablet', channels: ['group.y'] })
    }
    t.strictSame(await a.app.realtime.connections.of(1, 9), [])
    t.strictSame(await a.app.realtime.connections.of(2, 1), [])
  })

  test('with newer credentials, authorize is called again for every subscription', async (t) => {
    const [a] = await nodes(t, { options: { authorize: ({ identity }) => identity.claims !== 'left' } })
    const client = await connect(a, user(1))
    await client.request('subscribe', { channel: 'group.x' })
    await client.request('auth', { token: tokenOf(user(1, { claims: 'left' })) })
    t.strictSame(await client.next('unsubscribed'), { channel: 'group.x', reason: 'revoked' })
  })

  test('a renewal while authenticate fails leaves the socket as it is', async (t) => {
    let fails = false
    const [a] = await nodes(t, {
      options: {
        authorize: () => true,
        authenticate: ({ token }) => {
          if (fails) throw new Error('the host’s database is away')
          return token === undefined ? null : user(1)
        }
      }
    })
    const client = await connect(a, user(1))
    await client.request('subscribe', { channel: 'group.x' })
    fails = true
    await t.rejects(client.request('auth', { token: 'newer' }), { code: 'RT_UNAVAILABLE', retryAfter: Number })
    t.strictSame(await client.soFar('unsubscribed'), [])
    t.match(await rest(a, user(1), 'GET', '/stats'), { status: 503, body: { code: 'RT_UNAVAILABLE' } })
    const late = await open(a)
    late.send('auth', { token: 'any' })
    t.match(await late.next('error'), { code: 'RT_UNAVAILABLE', retryAfter: Number })
    t.equal(await late.closed, 1013)
  })

  test('a channel requested by REST is authorized again when the socket opens', async (t) => {
    let isMember = true
    const [a] = await nodes(t, { options: { authorize: () => isMember } })
    await rest(a, user(1), 'POST', '/connect', { connection_id: 'tab' })
    t.match(await rest(a, user(1), 'POST', '/subscribe', { connection_id: 'tab', channel: 'group.x' }), { status: 200 })
    isMember = false
    const client = await open(a)
    client.send('auth', { token: tokenOf(user(1)), connectionId: 'tab' })
    t.notOk((await client.next('authenticated')).channels.includes('group.x'))
  })

  test('metrics count decisions, refusals and revoked subscriptions', async (t) => {
    const [a] = await nodes(t, { stats: { metrics: '/metrics' } })
    const client = await connect(a, user(1))
    await client.request('subscribe', { channel: 'group.x' })
    await a.app.realtime.channels.kick(1, 1, 'group.x')
    await a.app.realtime.access.ban({ tenantId: 1, userId: 1 })
    await rest(a, user(1), 'GET', '/stats')
    const { body } = await a.app.inject({ url: '/metrics' })
    for (const line of [
      'realtime_access_refused_total{code="RT_BANNED"} 1', 'realtime_access_decisions_total{kind="ban"} 1', 'realtime_access_decisions_total{kind="kick"} 1',
      'realtime_subscriptions_revoked_total 1', 'realtime_host_calls_running{lane="authorize"} 0', 'realtime_host_calls_waiting{lane="authenticate"} 0'
    ]) t.ok(body.split('\n').includes(line), line)
  })

  test('a REST subscription that waits for the host while the right is withdrawn does not outlive it', async (t) => {
    const answers: Array<() => void> = []
    let isMember = true
    const [a, b] = await nodes(t, { options: { authorize: async () => { const answer = isMember; if (answer) await new Promise<void>((resolve) => { answers.push(resolve) }); return answer } } })
    const client = await connect(b, user(1), { connectionId: 'tab' })
    const subscribing = rest(a, user(1), 'POST', '/subscribe', { connection_id: 'tab', channel: 'group.x' })
    await until('authorize is asked', () => answers.length === 1)
    isMember = false
    await a.app.realtime.access.recheck({ tenantId: 1, userId: 1 })
    answers.forEach((answer) => { answer() })
    t.match(await subscribing, { status: 403, body: { code: 'RT_FORBIDDEN' } })
    await b.app.realtime.channels.group({ tenantId: 1, ...group })
    t.strictSame(await client.soFar('message:group'), [])
  })

  test('arguments that cannot be right are named', async (t) => {
    const [{ app: { realtime: { access, channels, connections } } }] = await nodes(t)
    const wrong: Array<[() => Promise<unknown>, string]> = [
      [async () => await access.ban({ tenantId: 0, userId: 1 }), 'tenantId'],
      [async () => await access.ban({ tenantId: 1, userId: NaN }), 'userId'],
      [async () => await access.ban({ tenantId: 1, userId: 1, until: new Date(NaN) }), 'until'],
      [async () => await access.unban({ tenantId: 1 } as never), 'userId'],
      [async () => await access.revoke({ tenantId: 1, userId: 1, issuedBefore: 'yesterday' as never }), 'issuedBefore'],
      [async () => await access.revoke({ tenantId: 1 } as never), 'userId'],
      [async () => await access.revoke({ tenantId: 1, tokenId: '' }), 'tokenId'],
      [async () => await access.recheck({ tenantId: 1, channel: 'no channel' }), 'channel'],
      [async () => await channels.kick(1, 1, 'no channel'), 'channel'],
      [async () => await channels.join(1, 'no id' as never, 'group.x'), 'userId'],
      [async () => await connections.of(1, -1), 'userId']
    ]
    for (const [call, name] of wrong) await t.rejects(call(), { code: 'RT_INVALID_DATA', message: new RegExp(`^${name}`) }, name)
  })

  test('a decision made while a subscription waits for the host applies to it', async (t) => {
    const answers: Array<(answer: boolean) => void> = []
    const [a, b] = await nodes(t, { options: { authorize: async ({ channel }) => channel === 'group.fast' || await new Promise<boolean>((resolve) => { answers.push(resolve) }) } })
    const client = await connect(b, user(1))
    await client.request('subscribe', { channel: 'group.fast' })
    const slow = client.request('subscribe', { channel: 'group.slow' })
    await until('authorize is asked', () => answers.length === 1)
    const kicked = a.app.realtime.channels.kick(1, 1, 'group.slow')
    t.match(await a.app.realtime.channels.kick(1, 1, 'group.fast').then(async () => await client.next('unsubscribed')), { channel: 'group.fast', reason: 'revoked' },
      'another channel does not wait for it')
    answers.forEach((answer) => { answer(true) })
    t.ok(await slow)
    await kicked
    t.match(await client.next('unsubscribed', ({ channel }) => channel === 'group.slow'), { reason: 'revoked' })
    await a.app.realtime.channels.group({ tenantId: 1, ...group, channel: 'group.slow' })
    await sleep(50)
    t.strictSame(await client.soFar('message:group'), [])
  })

  test('a user who is banned while the host authenticates is not let in', async (t) => {
    const answers: Array<() => void> = []
    const [a, b] = await nodes(t, {
      options: { authorize: () => true, authenticate: async ({ token }) => { await new Promise<void>((resolve) => { answers.push(resolve) }); return token === undefined ? null : user(1) } }
    })
    const client = await open(b, { headers: { authorization: 'Bearer any' } })
    await until('authenticate is asked', () => answers.length === 1)
    t.match(await a.app.realtime.access.ban({ tenantId: 1, userId: 1 }), { complete: true })
    answers.forEach((answer) => { answer() })
    t.equal(await client.closed, 4403)
    t.strictSame(client.frames.map(({ event, data }) => [event, data.code]), [['error', 'RT_BANNED']])
  })

  test('a user who is banned while the upgrade waits for the host is refused by HTTP', async (t) => {
    const host = answers<Identity>()
    const [a, b] = await nodes(t, { options: { authorize: () => true, authenticate: async ({ token }) => token === undefined ? null : await host.later() } })
    // From now on whoever is named by the headers is looked at before the upgrade.
    await a.app.realtime.access.ban({ tenantId: 1, userId: 9 })
    const upgrade = refusedUpgrade(b, { headers: { authorization: 'Bearer any' } })
    await until('authenticate is asked', () => host.asked() === 1)
    await a.app.realtime.access.ban({ tenantId: 1, userId: 1 })
    host.answer(user(1))
    t.match(await upgrade, { status: 403, body: /RT_BANNED/ })
  })

  /** A socket on the second node whose opening waits for `authorize`, which is asked about a channel requested by REST before. */
  const openingSlowly = async (t: Parameters<typeof buildNodes>[0]) => {
    const host = answers<boolean>()
    let hangs = false
    const [a, b] = await nodes(t, { options: { authorize: async () => !hangs || await host.later() } })
    await rest(b, user(1), 'POST', '/connect', { connection_id: 'tab' })
    await rest(b, user(1), 'POST', '/subscribe', { connection_id: 'tab', channel: 'group.x' })
    hangs = true
    const client = await open(b)
    client.send('auth', { token: tokenOf(user(1)), connectionId: 'tab' })
    await until('authorize is asked', () => host.asked() === 1)
    return { a, b, host, client }
  }

  test('a user who is banned while their socket opens with channels asked for before does not get in', async (t) => {
    const { a, host, client } = await openingSlowly(t)
    t.match(await a.app.realtime.access.ban({ tenantId: 1, userId: 1 }), { connections: 1 })
    host.answer(true)
    t.equal(await client.closed, 4403)
    t.strictSame(client.frames.map(({ event }) => event).filter((event) => event === 'authenticated'), [])
    t.strictSame(await a.app.realtime.connections.of(1, 1), [])
  })

  test('a user who is kicked while their socket opens with channels asked for before is not in the channel', async (t) => {
    const { a, b, host, client } = await openingSlowly(t)
    const kicked = a.app.realtime.channels.kick(1, 1, 'group.x')
    await until('the kick has come', () => decisionsOn(b).kick === 1)
    host.answer(true)
    await client.next('authenticated')
    t.strictSame(await client.next('unsubscribed'), { channel: 'group.x', reason: 'revoked' })
    t.strictSame(await kicked, { connections: 1, complete: true })
    await a.app.realtime.channels.group({ tenantId: 1, ...group })
    t.strictSame(await client.soFar('message:group'), [])
  })

  test('credentials that are revoked while they renew a connection do not renew it', async (t) => {
    const host = answers<Identity>()
    let hangs = false
    const [a, b] = await nodes(t, {
      options: { authorize: () => true, authenticate: async ({ token }) => token === undefined ? null : hangs ? await host.later() : user(1, { tokenId: 'first' }) }
    })
    const client = await connect(b, user(1))
    hangs = true
    const renewing = client.request('auth', { token: 'second' })
    await until('authenticate is asked', () => host.asked() === 1)
    t.strictSame(await a.app.realtime.access.revoke({ tenantId: 1, tokenId: 'second' }), { connections: 0, complete: true }, 'nobody has them yet')
    host.answer(user(1, { tokenId: 'second' }))
    await t.rejects(renewing, { code: 'RT_TOKEN_REVOKED' })
    t.equal(await client.closed, 4401)
  })

  test('a user whose credentials are revoked while newer ones are looked at is disconnected at once', async (t) => {
    const host = answers<Identity>()
    let hangs = false
    const [a, b] = await nodes(t, {
      options: { authorize: () => true, authenticate: async ({ token }) => token === undefined ? null : hangs ? await host.later() : user(1) }
    })
    const client = await connect(b, user(1))
    hangs = true
    client.send('auth', { token: 'newer' })
    await until('authenticate is asked', () => host.asked() === 1)
    a.clock.advance(1000)
    t.strictSame(await a.app.realtime.access.revoke({ tenantId: 1, userId: 1 }), { connections: 1, complete: true })
    t.equal(await client.closed, 4401)
    host.answer(user(1))
    t.strictSame(await b.app.realtime.connections.of(1, 1), [])
  })

  test('an event that a user is sending when banned is not stored, by socket or by REST', async (t) => {
    const host = answers<boolean>()
    const [a, b] = await nodes(t, { options: { authorize: async ({ action }) => action !== 'publish' || await host.later() } })
    const client = await connect(b, user(1))
    client.send('message:group', group)
    const posted = rest(b, user(1), 'POST', '/messages/group', { channel: 'group.x', message: 'hello', conversation_id: 'c' })
    await until('authorize is asked for both', () => host.asked() === 2)
    await a.app.realtime.access.ban({ tenantId: 1, userId: 1 })
    host.answer(true)
    t.match(await posted, { status: 403, body: { code: 'RT_BANNED' } })
    t.equal(await client.closed, 4403)
    t.equal((await rowsOf(b, 'websocket_events')).filter(({ durable }) => Number(durable) === 1).length, 0)
  })

  test('a connection whose frames wait for the host keeps no other decision waiting, and is counted', async (t) => {
    const host = answers<boolean>()
    const [a, b] = await nodes(t, { options: { authorize: async ({ channel }) => channel === 'group.x' || await host.later() } })
    const [busy, quiet] = [await connect(b, user(1)), await connect(a, user(1))]
    for (const client of [busy, quiet]) await client.request('subscribe', { channel: 'group.x' })
    busy.send('subscribe', { channel: 'group.slow' })
    await until('authorize is asked', () => host.asked() === 1)
    const began = performance.now()
    t.strictSame(await b.app.realtime.channels.kick(1, 1, 'group.x'), { connections: 2, complete: false })
    t.ok(performance.now() - began < 2500, 'resolves within two seconds')
    for (const client of [busy, quiet]) t.strictSame(await client.next('unsubscribed'), { channel: 'group.x', reason: 'revoked' })
    host.answer(true)
    await busy.next('subscribed', ({ channel }) => channel === 'group.slow')
  })

  test('a recheck asks for all channels of a connection at once where the host can answer so', async (t) => {
    const asked: string[][] = []
    let left = false
    const [a, b] = await nodes(t, {
      options: { authorize: () => true, authorizeMany: ({ channels }) => { asked.push([...channels].toSorted()); return channels.map((channel) => !left || channel === 'group.y') } }
    })
    const client = await connect(b, user(1))
    for (const channel of ['group.x', 'group.y', 'group.z']) await client.request('subscribe', { channel })
    left = true
    const evicted: unknown[] = []
    for (const { app } of new Set([a, b])) app.realtime.events.on('evicted', (what) => { evicted.push(what) })
    t.strictSame(await a.app.realtime.access.recheck({ tenantId: 1, userId: 1 }), { connections: 1, complete: true })
    t.strictSame(asked, [['group.x', 'group.y', 'group.z']])
    t.strictSame([await client.next('unsubscribed'), await client.next('unsubscribed')].map(({ channel }) => channel).toSorted(), ['group.x', 'group.z'])
    t.match(evicted, [{ tenantId: 1, userId: 1, channel: /group/ }, { tenantId: 1, userId: 1, channel: /group/ }])
    t.equal(evicted.length, 2)
  })

  test('times are given as a Date or in milliseconds', async (t) => {
    const [a] = await nodes(t)
    const now = a.clock.now()
    const { access } = a.app.realtime
    for (const time of [(ms: number) => ms, (ms: number) => new Date(ms)]) {
      await access.ban({ tenantId: 1, userId: 1, until: time(now + 60_000) })
      t.match(await rest(a, user(1), 'GET', '/stats'), { status: 403 })
      await access.ban({ tenantId: 1, userId: 1, until: time(now - 1) })
      t.match(await rest(a, user(1), 'GET', '/stats'), { status: 200 }, 'a ban that has ended')
    }
    await access.revoke({ tenantId: 1, userId: 2, issuedBefore: new Date(now - 1000), until: new Date(now + 60_000) })
    t.match(await rest(a, user(2, { issuedAt: now - 1001 }), 'GET', '/stats'), { status: 401 })
    t.match(await rest(a, user(2, { issuedAt: now - 1000 }), 'GET', '/stats'), { status: 200 })
  })
})

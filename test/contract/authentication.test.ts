import { Client, connect, newClub, rest, sign, tokenFor } from './client.js'
import { overTopologies } from './topologies.js'

overTopologies({ SOCKET_ALLOWED_ORIGINS: 'https://app.example.com' }, (test, { at }) => {
  const authenticated = async (client: Client) => await client.next('authenticated')

  test('the header, the subprotocol and the auth frame authenticate alike', async (t) => {
    const club = newClub()
    const token = tokenFor(1, club)
    const byHeader = new Client(at(0), [], { headers: { authorization: `Bearer ${token}` } })
    const byProtocol = new Client(at(1), ['bearer', token])
    const byFrame = new Client(at(0))
    await byFrame.opened
    byFrame.send('auth', { token, userId: 1, clubId: club, connectionId: 'conn_1_x' })
    for (const client of [byHeader, byProtocol, byFrame]) {
      const answer = await authenticated(client)
      t.match(answer, { status: 'ok', connectionId: String, userId: 1, clubId: club, expiresAt: /Z$/, heartbeatInterval: 25_000 })
      t.strictSame([...answer.channels].sort(), ['broadcast', 'presence', 'private-user.1'])
    }
    t.equal(byProtocol.socket.protocol, 'bearer')
  })

  test('an auth frame with an id gets an ack, with the requested connection id', async (t) => {
    const club = newClub()
    const client = new Client(at(0))
    await client.opened
    t.match(await client.request('auth', { token: tokenFor(5, club), connectionId: 'conn_5' }), { status: 'ok', connectionId: 'conn_5' })
    t.match(await client.request('auth', { token: tokenFor(5, club) }), { connectionId: 'conn_5' }, 'sent again it renews the token')
  })

  test('before authentication only auth and ping get replies', async (t) => {
    const client = new Client(at(0))
    await client.opened
    client.send('ping')
    t.match(await client.next('pong'), { timestamp: /\.\d{3}Z$/ })
    await t.rejects(client.request('subscribe', { channel: 'group.x' }), { code: 'RT_UNAUTHENTICATED' })
    await client.end()
  })

  test('frames sent right behind the upgrade wait for its authentication', async (t) => {
    const client = new Client(at(0), ['bearer', tokenFor(1, newClub())])
    client.socket.once('open', () => { client.send('subscribe', { channel: 'group.x' }, 'early') })
    t.match(await client.take(({ id }) => id === 'early'), { event: 'ack', data: { channel: 'group.x' } })
  })

  test('bad credentials close with 4401', async (t) => {
    const expired = tokenFor(1, newClub(), { exp: Math.floor(Date.now() / 1000) - 10 })
    const forged = sign({ sub: '1', club: 1 }, 'another secret')
    const cases = [[forged, 'RT_UNAUTHENTICATED'], [expired, 'RT_TOKEN_EXPIRED']] as const
    for (const [token, code] of cases) {
      const upgrade = new Client(at(0), ['bearer', token])
      t.match(await upgrade.next('error'), { code })
      t.equal(await upgrade.closed, 4401)
      const frame = new Client(at(1))
      await frame.opened
      await t.rejects(frame.request('auth', { token }), { code })
      t.equal(await frame.closed, 4401)
    }
  })

  test('a claimed user or club is checked, never trusted', async (t) => {
    const club = newClub()
    for (const claim of [{ userId: 2 }, { clubId: club + 1 }]) {
      const client = new Client(at(0))
      await client.opened
      await t.rejects(client.request('auth', { token: tokenFor(1, club), ...claim }), { code: 'RT_IDENTITY_MISMATCH' })
      t.equal(await client.closed, 4401)
    }
    const live = await connect(at(1), tokenFor(1, club))
    await t.rejects(live.request('auth', { token: tokenFor(2, club) }), { code: 'RT_IDENTITY_MISMATCH' })
    t.equal(await live.closed, 4401)
  })

  test('a client is warned before its token ends, may renew it, and else is closed with 4401', async (t) => {
    const club = newClub()
    const exp = Math.floor(Date.now() / 1000) + 3
    const [renewing, idle] = [await connect(at(0), tokenFor(1, club, { exp })), await connect(at(1), tokenFor(2, club, { exp }))]
    for (const client of [renewing, idle]) t.same(await client.next('token:expiring'), { expiresAt: new Date(exp * 1000).toISOString() })
    await renewing.request('auth', { token: tokenFor(1, club) })
    t.equal(await idle.closed, 4401)
    t.match(await renewing.request('ping'), { timestamp: String })
  })

  test('a socket that stays unauthenticated is closed with 4401 after 10 seconds', async (t) => {
    const client = new Client(at(0))
    await client.opened
    const opened = Date.now()
    t.equal(await client.closed, 4401)
    t.ok(Date.now() - opened >= 9000)
  })

  test('only the own origin and those listed may open a socket', async (t) => {
    const token = tokenFor(1, newClub())
    for (const origin of ['https://evil.example.com', 'https://app.example.com.evil.com', 'null', 'http://app.example.com']) {
      t.equal(await new Client(at(0), ['bearer', token], { headers: { origin } }).closed, 4403, origin)
    }
    for (const origin of ['https://app.example.com', at(0)]) {
      const client = new Client(at(0), ['bearer', token], { headers: { origin } })
      await authenticated(client)
      await client.end()
    }
  })

  test('every route wants credentials', async (t) => {
    const expired = tokenFor(1, 1, { exp: Math.floor(Date.now() / 1000) - 10 })
    const routes: Array<[method: string, path: string]> = [
      ['POST', '/connect'], ['POST', '/disconnect'], ['POST', '/heartbeat'], ['GET', '/presence/1'], ['GET', '/presence?user_ids=1'],
      ['GET', '/online-users'], ['POST', '/presence/update'], ['POST', '/typing'], ['GET', '/typing/c'], ['POST', '/subscribe'],
      ['POST', '/unsubscribe'], ['GET', '/stats'], ['POST', '/messages/direct'], ['POST', '/messages/group'], ['POST', '/broadcast'],
      ['POST', '/notifications'], ['GET', '/events?channel=group.x']
    ]
    for (const [method, path] of routes) {
      const body = method === 'POST' ? {} : undefined
      const missing = await rest(at(0), null, method, path, body)
      t.match(missing, { status: 401, body: { statusCode: 401, code: 'RT_UNAUTHENTICATED', error: 'Unauthorized', message: String } }, path)
      t.match(await rest(at(0), expired, method, path, body), { status: 401, body: { code: 'RT_TOKEN_EXPIRED' } }, path)
    }
  })
})

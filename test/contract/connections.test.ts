import { Client, connect, newClub, rest, tokenFor } from './client.js'
import { overTopologies } from './topologies.js'

overTopologies({}, (test, { at }) => {
  const post = async (i: number, token: string, path: string, body: unknown) => await rest(at(i), token, 'POST', path, body)
  const open = async (i: number, token: string, connectionId: string): Promise<Client> => {
    const client = new Client(at(i))
    await client.opened
    client.send('auth', { token, connectionId })
    return client
  }

  test('connect registers once, refreshes for its owner, and is refused to others', async (t) => {
    const club = newClub()
    const body = { connection_id: 'conn_1234567890_xyz', session_id: 'session_1', browser: 'Chrome', device_type: 'desktop' }
    const first = await post(0, tokenFor(1, club), '/connect', body)
    t.match(first, { status: 201, body: { data: { connection_id: body.connection_id, status: 'connected', user_id: 1, connected_at: /\.\d{3}Z$/ } } })
    const again = await post(1, tokenFor(1, club), '/connect', { connection_id: body.connection_id })
    t.match(again, { status: 200, body: { data: { connected_at: first.body.data.connected_at } } })
    t.match(await post(0, tokenFor(2, club), '/connect', body), { status: 409, body: { statusCode: 409, code: 'RT_CONNECTION_TAKEN' } })
    t.match(await post(0, tokenFor(2, newClub()), '/connect', body), { status: 201 }, 'another club’s ids are its own')
    t.match(await post(0, tokenFor(1, club), '/connect', {}), { status: 400, body: { code: 'FST_ERR_VALIDATION' } })
    const taken = await open(1, tokenFor(2, club), body.connection_id)
    t.match(await taken.next('error'), { code: 'RT_CONNECTION_TAKEN' })
  })

  test('heartbeat keeps a connection without a socket registered, and returns the same as stats', async (t) => {
    const club = newClub()
    await post(0, tokenFor(1, club), '/connect', { connection_id: 'beat' })
    const stats = { total_connections: 1, active_connections: 1, unique_users: 1, pending_events: 0, failed_events: 0 }
    t.strictSame((await post(1, tokenFor(1, club), '/heartbeat', { connection_id: 'beat' })).body, { data: stats })
    t.strictSame((await rest(at(0), tokenFor(2, club), 'GET', '/stats')).body, { data: stats })
    t.match(await post(1, tokenFor(2, club), '/heartbeat', { connection_id: 'beat' }), { status: 403, body: { code: 'RT_FORBIDDEN' } })
    t.match(await post(1, tokenFor(1, club), '/heartbeat', { connection_id: 'nobody' }), { status: 404, body: { code: 'RT_NOT_FOUND' } })
  })

  test('disconnect closes the socket with 4000, on whichever node it is', async (t) => {
    const club = newClub()
    const client = await open(0, tokenFor(1, club), 'mine')
    await client.next('authenticated')
    t.match(await post(1, tokenFor(2, club), '/disconnect', { connection_id: 'mine' }), { status: 403 })
    t.match(await post(1, tokenFor(1, club), '/disconnect', { connection_id: 'mine' }), { status: 200, body: { message: 'Disconnected successfully' } })
    t.equal(await client.closed, 4000)
    t.match(await post(0, tokenFor(1, club), '/disconnect', { connection_id: 'mine' }), { status: 404, body: { code: 'RT_NOT_FOUND' } })
  })

  test('the twenty-first connection of a user, over all nodes, replaces the oldest', async (t) => {
    const club = newClub()
    const clients: Client[] = []
    for (let i = 0; i < 21; i++) clients.push(await connect(at(i), tokenFor(1, club)))
    t.equal(await clients[0]?.closed, 4001)
    t.match((await rest(at(0), tokenFor(1, club), 'GET', '/stats')).body.data, { active_connections: 20, unique_users: 1 })
    t.match(await clients[1]?.request('ping'), { timestamp: String })
  })

  test('the same connection id opened again takes the place of the older socket', async (t) => {
    const token = tokenFor(1, newClub())
    const older = await open(0, token, 'tab')
    await older.next('authenticated')
    const newer = await open(1, token, 'tab')
    await newer.next('authenticated')
    t.equal(await older.closed, 4001)
    t.match(await newer.request('ping'), { timestamp: String })
    t.match((await rest(at(0), token, 'GET', '/stats')).body.data, { total_connections: 1 })
  })

  test('subscribe by REST works before the socket opens and wherever it is then', async (t) => {
    const club = newClub()
    const token = tokenFor(1, club)
    const sender = await connect(at(0), tokenFor(2, club))
    await post(0, token, '/connect', { connection_id: 'early' })
    const answer = await post(1, token, '/subscribe', { connection_id: 'early', channel: 'group.events.2' })
    t.match(answer, { status: 200, body: { message: 'Subscribed to channel', channel: 'group.events.2' } })
    const client = await open(1, token, 'early')
    t.ok((await client.next('authenticated')).channels.includes('group.events.2'))
    await sender.request('message:group', { channel: 'group.events.2', message: '1', conversationId: 'c' })
    t.match(await client.next('message:group'), { message: '1' })
    t.match(await post(0, token, '/subscribe', { connection_id: 'early', channel: 'group.late' }), { status: 200 })
    await sender.request('message:group', { channel: 'group.late', message: '2', conversationId: 'c' })
    t.match(await client.next('message:group'), { message: '2' })
    t.match(await post(0, token, '/unsubscribe', { connection_id: 'early', channel: 'group.late' }),
      { status: 200, body: { message: 'Unsubscribed from channel', channel: 'group.late' } })
    await sender.request('message:group', { channel: 'group.late', message: '3', conversationId: 'c' })
    await sender.request('message:group', { channel: 'group.events.2', message: '4', conversationId: 'c' })
    t.match(await client.next('message:group'), { message: '4' })
    t.match(await post(0, token, '/subscribe', { connection_id: 'early', channel: 'private-user.2' }), { status: 403, body: { code: 'RT_FORBIDDEN' } })
    t.match(await post(0, tokenFor(2, club), '/subscribe', { connection_id: 'early', channel: 'group.x' }), { status: 403 })
    t.match(await post(0, token, '/subscribe', { connection_id: 'nobody', channel: 'group.x' }), { status: 404 })
  })

  test('SIGTERM closes every socket with 1012 and ends the process in time', async (t) => {
    const { startHost } = await import('../hosts.js')
    const host = await startHost()
    const clients = await Promise.all([1, 2, 3].map(async (id) => await connect(host.url, tokenFor(id, 1))))
    const began = Date.now()
    const stopped = host.stop()
    t.strictSame(await Promise.all(clients.map(async ({ closed }) => await closed)), [1012, 1012, 1012])
    t.equal(await stopped, 0)
    t.ok(Date.now() - began < 10_000)
  })
})

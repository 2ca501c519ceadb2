import { connect, login, newClub, rest, tokenFor } from './client.js'
import { overTopologies } from './topologies.js'

overTopologies({}, (test, { at }) => {
  const get = async (i: number, token: string, path: string) => (await rest(at(i), token, 'GET', path)).body

  test('user:online and user:offline are sent once each, however many tabs a user has', async (t) => {
    const club = newClub()
    const watcher = await connect(at(0), tokenFor(9, club))
    const tabs = [await connect(at(0), tokenFor(1, club)), await connect(at(1), tokenFor(1, club))]
    t.match(await watcher.next('user:online'), { userId: 1, status: 'online', timestamp: /\.\d{3}Z$/ })
    await tabs[0]?.end()
    await tabs[1]?.end()
    const back = await connect(at(1), tokenFor(1, club))
    t.match((await get(0, tokenFor(9, club), '/online-users')).data.map((user: { user_id: number }) => user.user_id), [1, 9])
    await back.end()
    t.match(await watcher.next('user:offline'), { userId: 1, status: 'offline' })
    t.strictSame([await watcher.soFar('user:online'), await watcher.soFar('user:offline')], [[], []], 'and the reload was not sent')
    t.match(await get(1, tokenFor(9, club), '/online-users'), { data: [{ user_id: 9 }], total: 1, next_cursor: null })
    t.match(await get(0, tokenFor(9, club), '/presence/1'), { data: { status: 'offline', display_status: 'Offline', last_seen_at: /Z$/ } })
  })

  test('a status is sent to the tenant, and anyone in it can read it', async (t) => {
    const club = newClub()
    const [client, watcher] = [await connect(at(0), tokenFor(1, club)), await connect(at(1), tokenFor(2, club))]
    const ack = await client.request('user:presence', { status: 'away', device: 'mobile', lastMessage: 'Lunch break' })
    t.match(ack, { status: 'away', device: 'mobile', updatedAt: /\.\d{3}Z$/ })
    t.strictSame(await watcher.next('user:presence'),
      { userId: 1, status: 'away', device: 'mobile', lastMessage: 'Lunch break', data: null, timestamp: ack.updatedAt })
    const expected = { user_id: 1, status: 'away', device: 'mobile', display_status: 'Away for 0m', last_seen_at: /Z$/ }
    t.match(await get(1, tokenFor(2, club), '/presence/1'), { data: expected })
    const updated = await rest(at(1), tokenFor(1, club), 'POST', '/presence/update', { status: 'busy' })
    t.match(updated, { status: 200, body: { data: { status: 'busy', device: 'mobile', updated_at: /Z$/ } } })
    t.match(await watcher.next('user:presence'), { userId: 1, status: 'busy' })
    const many = await get(0, tokenFor(2, club), '/presence?user_ids=77,1,2')
    t.match(many.data, [
      { user_id: 77, status: 'offline', device: null, display_status: 'Offline', last_seen_at: null },
      { user_id: 1, status: 'busy', display_status: 'Busy' },
      { user_id: 2, status: 'online', display_status: /^Online on / }
    ])
    t.match(await rest(at(0), tokenFor(1, club), 'POST', '/presence/update', { status: 'asleep' }), { status: 400, body: { code: 'FST_ERR_VALIDATION' } })
    await t.rejects(client.request('user:presence', { status: 'asleep' }), { code: 'RT_INVALID_DATA', message: /status/ })
  })

  test('the online list pages by user id and knows names from login', async (t) => {
    const club = newClub()
    for (const userId of [3, 1, 2]) {
      const { token, ...rest } = await login(at(userId), { userId, clubId: club, name: `Name ${userId}` })
      t.strictSame(rest, { userId, clubId: club, name: `Name ${userId}` })
      await connect(at(userId), token)
    }
    const first = await get(0, tokenFor(1, club), '/online-users?limit=2')
    t.match(first, { data: [{ user_id: 1, name: 'Name 1', status: 'online', display_status: 'Online' }, { user_id: 2, name: 'Name 2' }], total: 3, next_cursor: 2 })
    t.match(await get(1, tokenFor(1, club), `/online-users?limit=2&cursor=${first.next_cursor}`), { data: [{ user_id: 3 }], total: 3, next_cursor: null })
  })

  test('the start and the stop of typing are sent to its audience', async (t) => {
    const club = newClub()
    const typist = await connect(at(0), tokenFor(1, club))
    const reader = await connect(at(1), tokenFor(2, club))
    await reader.request('subscribe', { channel: 'group.t' })
    await reader.request('subscribe', { channel: 'conversation.c3' })
    const ack = await typist.request('user:typing', { channel: 'group.t', conversationId: 'c1', isTyping: true })
    t.match(ack, { conversationId: 'c1', isTyping: true, expiresAt: /Z$/ })
    t.match(await reader.next('user:typing'), { userId: 1, isTyping: true, conversationId: 'c1', conversationType: 'group', timestamp: /Z$/ })
    await typist.request('user:typing', { channel: 'group.t', conversationId: 'c1', isTyping: true })
    t.match(await get(1, tokenFor(2, club), '/typing/c1'), { data: [{ user_id: 1, user_name: null, started_at: /Z$/ }], count: 1 })
    await typist.request('message:group', { channel: 'group.t', message: 'sent', conversationId: 'c1' })
    t.match(await reader.next('user:typing'), { userId: 1, isTyping: false, conversationId: 'c1' }, 'sending stops it')
    await typist.request('user:typing', { recipientId: 2, conversationId: 'c2', isTyping: true })
    t.match(await reader.next('user:typing'), { isTyping: true, conversationId: 'c2', conversationType: 'direct' })
    await typist.request('user:typing', { conversationId: 'c2', isTyping: false })
    t.match(await reader.next('user:typing'), { isTyping: false, conversationId: 'c2' }, 'saying so stops it')
    const post = await rest(at(1), tokenFor(1, club), 'POST', '/typing', { conversation_id: 'c3', conversation_type: 'group', is_typing: true })
    t.match(post, { status: 200, body: { data: { conversation_id: 'c3', is_typing: true, expires_at: /Z$/ } } })
    t.match(await reader.next('user:typing'), { isTyping: true, conversationId: 'c3' }, 'told to who subscribed to the conversation')
    await typist.request('user:typing', { channel: 'group.t', conversationId: 'c4', isTyping: true })
    t.match(await reader.next('user:typing'), { conversationId: 'c4', isTyping: true })
    await typist.end()
    t.match(await reader.next('user:typing'), { conversationId: 'c4', isTyping: false }, 'leaving stops it')
    await t.rejects(reader.request('user:typing', { channel: 'private-user.1', conversationId: 'c', isTyping: true }), { code: 'RT_FORBIDDEN' })
    t.strictSame(typist.frames.filter(({ event }) => event === 'user:typing' && true).filter(({ data }) => data.conversationId !== 'c3'), [], 'never to the connection that types')
  })

  test('typing expires 30 seconds after the last update, and the stop is sent once', async (t) => {
    const club = newClub()
    const [typist, reader] = [await connect(at(0), tokenFor(1, club)), await connect(at(1), tokenFor(2, club))]
    await typist.request('user:typing', { recipientId: 2, conversationId: 'c', isTyping: true })
    const began = Date.now()
    await reader.next('user:typing')
    t.match(await reader.next('user:typing', 35_000), { isTyping: false, conversationId: 'c' })
    t.ok(Date.now() - began >= 29_500)
    t.strictSame(await reader.soFar('user:typing'), [])
    t.match(await get(0, tokenFor(2, club), '/typing/c'), { data: [], count: 0 })
  })

  test('signs and updates are counted over REST and frames, and over the nodes, together', async (t) => {
    const club = newClub()
    const token = tokenFor(1, club)
    const client = await connect(at(0), token)
    for (let i = 0; i < 30; i++) {
      await client.request('user:typing', { recipientId: 2, conversationId: 'c', isTyping: true })
      await client.request('user:presence', { status: 'online' })
      await rest(at(1), token, 'POST', '/typing', { conversation_id: 'c', is_typing: true })
      await rest(at(1), token, 'POST', '/presence/update', { status: 'online' })
    }
    for (const [path, body] of [['/typing', { conversation_id: 'c', is_typing: true }], ['/presence/update', { status: 'online' }]] as const) {
      const refused = await rest(at(1), token, 'POST', path, body)
      t.match(refused, { status: 429, body: { statusCode: 429, code: 'RT_RATE_LIMITED', error: 'Too Many Requests' } })
      t.ok(Number(refused.headers.get('retry-after')) > 0)
    }
    await t.rejects(client.request('user:typing', { recipientId: 2, conversationId: 'c', isTyping: true }), { code: 'RT_RATE_LIMITED', retryAfter: Number })
    await t.rejects(client.request('user:presence', { status: 'online' }), { code: 'RT_RATE_LIMITED', retryAfter: Number })
  })
})

import { connect, newClub, rest, tokenFor, type Client } from './client.js'
import { overTopologies } from './topologies.js'

overTopologies({ FRAMES_PER_SECOND: '0' }, (test, { at }) => {
  const say = async (client: Client, channel: string, texts: string[]): Promise<number[]> =>
    await Promise.all(texts.map(async (message) => (await client.request('message:group', { channel, message, conversationId: 'c' })).messageId))

  test('since replays the events after it, oldest first, before live events', async (t) => {
    const club = newClub()
    const sender = await connect(at(0), tokenFor(1, club))
    const reader = await connect(at(1), tokenFor(2, club))
    const { position, epoch, channel, recovered } = await reader.request('subscribe', { channel: 'group.r' })
    t.match(epoch, /^[A-Za-z0-9_-]{1,32}$/)
    t.strictSame([position, channel, recovered], [0, 'group.r', undefined], 'nothing has come yet')
    const [first = 0] = await say(sender, 'group.r', ['1'])
    t.equal((await reader.next('message:group')).messageId, first)
    await reader.end()
    const missed = await say(sender, 'group.r', ['2', '3', '4'])
    const again = await connect(at(0), tokenFor(2, club))
    again.send('subscribe', { channel: 'group.r', since: first }, 'resume')
    await say(sender, 'group.r', ['5'])
    const reply = await again.take(({ id }) => id === 'resume')
    t.match(reply.data, { channel: 'group.r', recovered: true, position: Number })
    const got = [await again.next('message:group'), await again.next('message:group'), await again.next('message:group'), await again.next('message:group')]
    t.strictSame(got.map(({ message }) => message), ['2', '3', '4', '5'])
    t.strictSame(got.slice(0, 3).map(({ messageId }) => messageId), missed)
  })

  test('position is the next since', async (t) => {
    const club = newClub()
    const sender = await connect(at(0), tokenFor(1, club))
    const ids = await say(sender, 'group.p', ['1', '2'])
    const reader = await connect(at(1), tokenFor(2, club))
    const { position } = await reader.request('subscribe', { channel: 'group.p' })
    t.equal(position, ids.at(-1))
    t.match(await reader.request('subscribe', { channel: 'group.p', since: position }), { recovered: true, position })
  })

  test('a gap of more than 1000 events is reported, not hidden', async (t) => {
    const club = newClub()
    const sender = await connect(at(0), tokenFor(1, club))
    const ids = await say(sender, 'group.big', Array.from({ length: 1001 }, (_, i) => `${i}`))
    const reader = await connect(at(1), tokenFor(2, club))
    const reply = await reader.request('subscribe', { channel: 'group.big', since: 0 })
    t.match(reply, { recovered: false, position: ids.at(-1) })
    t.strictSame(await reader.soFar('message:group'), [])
    t.match(await reader.request('subscribe', { channel: 'group.big', since: ids[0] }), { recovered: true })
    for (let i = 1; i <= 1000; i++) t.equal((await reader.next('message:group')).messageId, ids[i])
  })

  test('GET /events pages with the same cursor', async (t) => {
    const club = newClub()
    const token = tokenFor(1, club)
    const sender = await connect(at(0), token)
    const ids = await say(sender, 'group.e', ['1', '2', '3'])
    const first = await rest(at(1), token, 'GET', '/events?channel=group.e&since=0&limit=2')
    t.match(first, { status: 200, body: { position: ids[1], recovered: true, more: true } })
    t.match(first.body.data, [{ event: 'message:group', data: { messageId: ids[0], message: '1' } }, { data: { messageId: ids[1] } }])
    const rest2 = await rest(at(0), token, 'GET', `/events?channel=group.e&since=${first.body.position}`)
    t.match(rest2.body, { data: [{ data: { messageId: ids[2] } }], position: ids[2], more: false })
    t.match(await rest(at(0), token, 'GET', '/events?channel=private-user.2'), { status: 403, body: { code: 'RT_FORBIDDEN' } })
  })

  test('user:me is the caller’s own private channel, and recovers direct messages', async (t) => {
    const club = newClub()
    const sender = await connect(at(0), tokenFor(1, club))
    const { messageId } = await sender.request('message:direct', { recipientId: 2, message: 'x', conversationId: 'c' })
    const reader = await connect(at(1), tokenFor(2, club))
    await reader.next('message:direct')
    t.match(await reader.request('subscribe', { channel: 'user:me', since: 0 }), { channel: 'private-user.2', recovered: true })
    t.equal((await reader.next('message:direct')).messageId, messageId)
  })
})

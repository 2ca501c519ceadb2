import { once } from 'node:events'
import t from 'tap'
import { WebSocket } from 'ws'
import { Client, rest, tokenOf, type Who } from './client.js'
import { clusterFor } from './cluster.js'
import { until } from './until.js'

const ORIGIN = 'https://chat.example.org'

t.test('What clients do, over two nodes', async (t) => {
  const { nodes: [a, b] } = await clusterFor(t, [{ env: { SOCKET_ALLOWED_ORIGINS: ORIGIN } }, {}])

  await t.test('frames sent with the upgrade, before the authentication is done, get their replies, in order', async (t) => {
    for (let turn = 0; turn < 10; turn++) {
      const socket = new WebSocket(a.wsUrl, { headers: { authorization: `Bearer ${tokenOf({ userId: 1 })}` } })
      const answers: Array<{ event: string, id?: number }> = []
      socket.on('message', (bytes: Buffer) => {
        const frame = JSON.parse(bytes.toString()) as typeof answers[number]
        // Activity of the conversation comes when it likes.
        if (frame.event !== 'conversation:activity') answers.push(frame)
      })
      await once(socket, 'open')
      for (let id = 1; id <= 10; id++) {
        const [event, data] = id % 2 === 1 ? ['subscribe', { channel: 'group.early' }] : ['message:group', { channel: 'group.early', message: String(id), conversationId: 'x' }]
        socket.send(JSON.stringify({ event, data, id }))
      }
      await until('all answers', 5000, () => answers.length === 11)
      t.strictSame(answers.map(({ event, id }) => id === undefined ? event : `${event} ${id}`),
        ['authenticated', ...Array.from({ length: 10 }, (_, i) => `ack ${i + 1}`)])
      socket.terminate()
    }
  })

  await t.test('permessage-deflate, which costs gigabytes of memory, is off even if a client offers it', async (t) => {
    const socket = new WebSocket(a.wsUrl, { perMessageDeflate: true })
    await once(socket, 'open')
    t.equal(socket.extensions, '')
    socket.terminate()
  })

  await t.test('typing is one start and one stop, whichever way it ends', async (t) => {
    const watcher = await Client.connect(b, { userId: 10 })
    await watcher.request('subscribe', { channel: 'group.typing' })
    const ends: Record<string, (client: Client) => Promise<unknown> | unknown> = {
      said: async (client) => await client.request('user:typing', { conversationId: 'said', isTyping: false }),
      sent: async (client) => await client.request('message:group', { channel: 'group.typing', message: 'x', conversationId: 'sent' }),
      closed: async (client) => { await client.close() },
      lost: (client) => { client.terminate() }
    }
    for (const [i, [conversationId, end]] of Object.entries(ends).entries()) {
      const client = await Client.connect(a, { userId: 20 + i })
      for (let sign = 0; sign < 10; sign++) await client.request('user:typing', { conversationId, isTyping: true, channel: 'group.typing' })
      await end(client)
      await watcher.next('user:typing', 2000, (data) => data.conversationId === conversationId && data.isTyping === false)
      const { data } = await rest(b, { userId: 10 }, `/typing/${conversationId}`)
      t.strictSame(data, [], conversationId)
    }
    for (const conversationId of Object.keys(ends)) {
      const emitted = watcher.all('user:typing').filter(({ data }) => data.conversationId === conversationId)
      t.strictSame(emitted.map(({ data }) => data.isTyping), [true, false], conversationId)
    }
  })

  await t.test('typing updates beyond 60 per minute, over all nodes, are refused and not sent', async (t) => {
    const clients = await Promise.all([a, b].map(async (node) => await Client.connect(node, { userId: 30 })))
    const codes = await Promise.all(Array.from({ length: 80 }, async (_, i) =>
      await (clients[i % 2] as Client).request('user:typing', { conversationId: `c${i}`, isTyping: true }).then(() => 'ok', (err: { code: string }) => err.code)))
    t.equal(codes.filter((code) => code === 'ok').length, 60)
    t.equal(codes.filter((code) => code === 'RT_RATE_LIMITED').length, 20)
  })

  await t.test('a page of another site cannot open a socket: only a whole origin is allowed', async (t) => {
    const outcome = async (origin: string): Promise<unknown> => {
      const socket = new WebSocket(a.wsUrl, { origin, headers: { authorization: `Bearer ${tokenOf({ userId: 40 })}` } })
      const first = await Promise.race([
        once(socket, 'message').then(([bytes]) => (JSON.parse(String(bytes)) as { event: string }).event),
        once(socket, 'close').then(([code]) => code as number)
      ])
      socket.terminate()
      return first
    }
    t.equal(await outcome(ORIGIN), 'authenticated')
    t.equal(await outcome(`http://127.0.0.1:${a.port}`), 'authenticated', 'its own')
    for (const origin of [`${ORIGIN}.evil.net`, 'https://evilchat.example.org', 'https://example.org', 'http://chat.example.org', `${ORIGIN}:8443`, 'null']) {
      t.equal(await outcome(origin), 4403, origin)
    }
  })

  await t.test('with the same names in two tenants, no event crosses from one to the other', async (t) => {
    const channel = 'group.same'
    const in51 = (userId: number): Who => ({ userId, clubId: 51, admin: true })
    const in52 = (userId: number): Who => ({ userId, clubId: 52, admin: true })
    const stranger = await Client.connect(b, in52(1), { connectionId: 'same' })
    const { position } = await stranger.request('subscribe', { channel })
    const [sender, member] = [await Client.connect(a, in51(1), { connectionId: 'same' }), await Client.connect(b, in51(2))]
    await member.request('subscribe', { channel })

    const key = { dedupeId: 'same-key', conversationId: 'x' }
    const { messageId } = await sender.request('message:group', { channel, message: 'secret', ...key })
    const other = await stranger.request('message:group', { channel, message: 'theirs', ...key })
    t.not(other.messageId, messageId, 'one key, two events')
    await sender.request('message:direct', { recipientId: 1, message: 'to myself', conversationId: 'x' })
    await sender.request('broadcast:message', { message: 'to all of us' })
    await sender.request('notification:send', { recipientIds: [1, 2], title: 'x', body: 'y' })
    await sender.request('user:typing', { conversationId: 'x', isTyping: true, channel })
    await sender.request('user:presence', { status: 'busy' })
    for (const event of ['message:group', 'broadcast:message', 'notification:received', 'user:typing', 'user:presence']) await member.next(event)

    const again = await stranger.request('subscribe', { channel, since: 0 })
    t.strictSame([position, again.position], [0, other.messageId], 'recovery knows the own events only')
    await stranger.request('message:direct', { recipientId: 1, message: 'my own', conversationId: 'x' })
    await stranger.next('message:direct')
    const crossed = stranger.frames.filter(({ event, data }) => event !== 'authenticated' && data.messageId !== other.messageId && data.message !== 'my own')
    t.strictSame(crossed, [])
    await t.rejects(stranger.request('message:delivered', { messageId }), { code: 'RT_NOT_FOUND' })
    t.strictSame((await rest(b, in52(1), `/events?channel=${channel}`)).data.length, 1)
    t.match(await rest(b, in52(1), '/online-users'), { total: 1, data: [{ user_id: 1, status: 'online' }] })
    t.match((await rest(b, in52(1), '/stats')).data, { total_connections: 1, unique_users: 1 })
    t.strictSame((await rest(b, in52(1), '/typing/x')).data, [])
    t.match((await rest(b, in52(1), '/presence/2')).data, { status: 'offline', last_seen_at: null })
  })
})

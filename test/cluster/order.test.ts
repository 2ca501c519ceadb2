import t from 'tap'
import { Client, rest, type Frame } from './client.js'
import { clusterFor } from './cluster.js'
import { until } from './until.js'

const group = (channel: string, message: string) => ({ channel, message, conversationId: 'x' })

t.test('Order, positions and subscriptions, over two nodes', async (t) => {
  const { cluster, nodes: [a, b] } = await clusterFor(t, [{}, {}])
  const subscriptions = async (channel: string): Promise<number> =>
    Number((await cluster.keys.pubsub('NUMSUB', `${cluster.prefix}channel:{1/${channel}}`) as [string, number])[1])

  await t.test('replies and messages of one connection keep the order of its frames, although handlers are async', async (t) => {
    const channels = ['group.order-1', 'group.order-2', 'group.order-3']
    const [sender, here, there] = await Promise.all([Client.connect(a, { userId: 1 }), Client.connect(a, { userId: 2 }), Client.connect(b, { userId: 3 })])
    for (const reader of [here, there]) await Promise.all(channels.map(async (channel) => await reader.request('subscribe', { channel })))
    const answered: number[] = []
    const sent = Array.from({ length: 300 }, (_, i) => ({ channel: channels[i % 3] as string, message: String(i) }))
    // Between the durable ones, frames that are answered at once and frames that ask the database or Redis first.
    const others = [['ping', {}], ['subscribe', { channel: 'group.other' }], ['user:typing', { conversationId: 'x', isTyping: true }], ['unsubscribe', { channel: 'group.other' }]] as const
    await Promise.all(sent.map(async ({ channel, message }, i) => {
      const [event, data] = others[i % others.length] as typeof others[number]
      const replies = [sender.request('message:group', group(channel, message)), sender.request(event, data)]
      await Promise.allSettled(replies.map(async (reply, j) => {
        await reply.catch(() => {}) // the rate of typing is no matter here
        answered.push(2 * i + j)
      }))
    }))
    t.strictSame(answered, Array.from({ length: 600 }, (_, i) => i), 'replies')
    for (const reader of [here, there]) {
      await reader.next('message:group', 5000, (data) => data.message === '299')
      await reader.next('message:group', 5000, (data) => data.message === '298')
      for (const channel of channels) {
        const got = reader.all('message:group').filter(({ data }) => data.channel === channel).map(({ data }) => data.message)
        t.strictSame(got, sent.filter((one) => one.channel === channel).map(({ message }) => message), channel)
      }
    }
  })

  await t.test('recovery works before the first event of a channel, and repeatedly: the reply has the position', async (t) => {
    const sender = await Client.connect(a, { userId: 1 })
    let reader = await Client.connect(b, { userId: 2 })
    let { position } = await reader.request('subscribe', { channel: 'group.quiet' })
    t.equal(position, 0)
    // Away and back on the other node, three times; without ever having seen an event live.
    for (const node of [a, b, a]) {
      reader.terminate()
      await reader.closed
      const missed: number[] = []
      for (const message of ['one', 'two']) missed.push((await sender.request('message:group', group('group.quiet', message))).messageId as number)
      reader = await Client.connect(node, { userId: 2 })
      const reply = await reader.request('subscribe', { channel: 'group.quiet', since: position })
      t.equal(reply.recovered, true)
      await until('both', 2000, () => reader.all('message:group').length === 2)
      t.strictSame(reader.all('message:group').map(({ data }) => data.messageId), missed)
      t.equal(reply.position, missed.at(-1))
      position = reply.position
    }
    const nothing = await reader.request('subscribe', { channel: 'group.quiet', since: position })
    t.match(nothing, { channel: 'group.quiet', position, recovered: true, epoch: String })
  })

  await t.test('a race of subscribe and unsubscribe leaves no orphan, and subscribers get each message once', async (t) => {
    const channel = 'group.race'
    const clients = await Promise.all(Array.from({ length: 12 }, async (_, i) => await Client.connect(i % 2 === 0 ? a : b, { userId: 10 + i })))
    const [leaving, dying, staying] = [0, 1, 2].map((kind) => clients.filter((_, i) => i % 3 === kind)) as [Client[], Client[], Client[]]
    const storm = (client: Client): void => {
      for (let i = 0; i < 50; i++) client.send(i % 2 === 0 ? 'subscribe' : 'unsubscribe', { channel })
    }
    for (const client of clients) storm(client)
    for (const client of dying) client.terminate() // in the middle of it
    await Promise.all(staying.map(async (client) => await client.request('subscribe', { channel })))
    await Promise.all(leaving.map(async (client) => await client.request('unsubscribe', { channel })))
    await until('one subscription per node', 3000, async () => await subscriptions(channel) === 2)

    const sender = await Client.connect(a, { userId: 1 })
    for (let i = 0; i < 5; i++) await sender.request('message:group', group(channel, String(i)))
    for (const client of staying) {
      await client.next('message:group', 2000, (data) => data.message === '4')
      t.strictSame(client.all('message:group').map(({ data }) => data.message), ['0', '1', '2', '3', '4'])
    }
    for (const client of leaving) t.strictSame(client.all('message:group'), [])

    for (const client of staying) storm(client)
    await Promise.all(staying.map(async (client) => await client.request('unsubscribe', { channel })))
    await until('none is left', 3000, async () => await subscriptions(channel) === 0)
    t.equal(await subscriptions(channel), 0)
  })

  await t.test('a client that moved to another node gets each message once, also those that arrive late from the former node', async (t) => {
    const [sender, old] = await Promise.all([Client.connect(a, { userId: 1 }), Client.connect(b, { userId: 5 })])
    const direct = async (message: string): Promise<void> => { await sender.request('message:direct', { recipientId: 5, message, conversationId: 'x' }) }
    await direct('before')
    const { data } = await old.next('message:direct')
    await old.request('message:delivered', { messageId: data.messageId })
    b.pause()
    old.terminate()
    for (const message of ['meanwhile 1', 'meanwhile 2']) await direct(message)
    const moved = await Client.connect(a, { userId: 5 })
    const confirm = ({ event, data }: Frame): void => { if (event === 'message:direct') moved.send('message:delivered', { messageId: data.messageId }) }
    // Some may have come together with `authenticated`.
    for (const frame of moved.all('message:direct')) confirm(frame)
    moved.onFrame = confirm
    await until('what waited', 3000, () => moved.all('message:direct').length >= 2)
    b.resume()
    await until('the former node continues', 5000, async () => (await rest(b, { userId: 1 }, '/stats')).data.pending_events === 0)
    await direct('after')
    await moved.next('message:direct', 2000, (data) => data.message === 'after')
    t.strictSame(moved.all('message:direct').map(({ data }) => data.message), ['meanwhile 1', 'meanwhile 2', 'after'])
  })
})

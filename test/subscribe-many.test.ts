import { allowAll, buildHost, buildNodes, connect, overBackends, user, type Client } from './helper.js'

/** Texts of what came on these channels, in the order in which it came. */
const textsOf = async (client: Client, count: number): Promise<string[]> => {
  const texts: string[] = []
  while (texts.length < count) texts.push((await client.next('message:group')).message as string)
  return texts
}

const say = async (client: Client, channel: string, message: string): Promise<number> =>
  (await client.request('message:group', { channel, message, conversationId: 'c' })).messageId as number

overBackends((test, backend) => {
  test('a client that resumes many channels sends one frame, and gets the missed events of each, one channel after the other, then live ones', async (t) => {
    const [a, b] = await buildNodes(t, { backend, options: allowAll })
    const sender = await connect(a, user(2))
    const first = await say(sender, 'group.a', 'a1')
    for (const text of ['a2', 'a3']) await say(sender, 'group.a', text)
    const last = await say(sender, 'group.b', 'b1')
    const client = await connect(b, user(1))
    const { epoch } = await client.request('subscribe', { channel: 'group.other' })
    const ack = await client.request('subscribe', {
      channels: [{ channel: 'group.b', since: first }, { channel: 'group.empty' }, { channel: 'group.a', since: first }, { channel: 'group.c', since: last }], epoch
    })
    t.strictSame(ack, {
      epoch,
      channels: [
        { channel: 'group.b', position: last, recovered: true },
        { channel: 'group.empty', position: ack.channels[1].position },
        { channel: 'group.a', position: ack.channels[2].position, recovered: true },
        { channel: 'group.c', position: ack.channels[3].position, recovered: true }
      ]
    })
    t.strictSame(await textsOf(client, 3), ['b1', 'a2', 'a3'])
    for (const channel of ['group.empty', 'group.c', 'group.a']) {
      await say(sender, channel, `live on ${channel}`)
      t.strictSame(await textsOf(client, 1), [`live on ${channel}`])
    }
    const stale = await client.request('subscribe', { channels: [{ channel: 'group.a', since: first }, { channel: 'group.new', since: last + 1000 }], epoch: 'another' })
    t.strictSame(stale.channels.map(({ recovered }: { recovered: boolean }) => recovered), [false, false])
    t.strictSame(await client.soFar('message:group'), [])
  })

  test('each of many is answered by itself: refused, ill-formed, one too many, or twice the same', async (t) => {
    const host = await buildHost(t, {
      backend, options: { authorize: ({ channel }) => channel !== 'group.secret' }, channels: { maxChannelsPerConnection: 2 }
    })
    const client = await connect(host, user(1))
    const { channels } = await client.request('subscribe', {
      channels: [{ channel: 'group.a' }, { channel: 'group.secret' }, 5, { channel: 'no channel!' }, { channel: 'group.a', since: -1 },
        { channel: 'user:me' }, { channel: 'group.a' }, { channel: 'group.b' }, { channel: 'group.c' }]
    })
    t.match(channels, [
      { channel: 'group.a', position: Number },
      { channel: 'group.secret', error: { code: 'RT_FORBIDDEN', message: String } },
      { channel: '', error: { code: 'RT_INVALID_DATA' } },
      { channel: 'no channel!', error: { code: 'RT_INVALID_DATA' } },
      { channel: 'group.a', error: { code: 'RT_INVALID_DATA' } },
      { channel: 'private-user.1', position: Number },
      { channel: 'group.a', position: Number },
      { channel: 'group.b', position: Number },
      { channel: 'group.c', error: { code: 'RT_LIMIT_EXCEEDED' } }
    ])
    t.equal(channels.length, 9)
    await say(client, 'group.a', 'x')
    for (const wrong of [[], Array.from({ length: 101 }, (_, i) => ({ channel: `group.${i}` })), 'group.a']) {
      await t.rejects(client.request('subscribe', { channels: wrong }), { code: 'RT_INVALID_DATA' })
    }
    client.send('subscribe', { channels: [{ channel: 'group.a' }, { channel: 'group.secret' }] })
    t.match(await client.next('subscribed'), {
      epoch: String, channels: [{ channel: 'group.a', position: Number }, { channel: 'group.secret', error: { code: 'RT_FORBIDDEN' } }]
    }, 'without an id it is one frame')
  })

  test('authorizeMany is called once for all channels, and if it fails no channel is subscribed', async (t) => {
    const asked: string[][] = []
    const one: string[] = []
    const host = await buildHost(t, {
      backend,
      options: {
        authorize: ({ channel }) => { one.push(channel); return true },
        authorizeMany: ({ identity, action, channels }) => {
          asked.push([String(identity.userId), action, ...channels])
          if (channels.includes('group.broken')) throw new Error('no')
          if (channels.includes('group.short')) return [true]
          return channels.map((channel) => channel !== 'group.b')
        }
      }
    })
    const client = await connect(host, user(1))
    const codesOf = async (...names: string[]): Promise<Array<string | null>> => {
      const { channels } = await client.request('subscribe', { channels: names.map((channel) => ({ channel })) })
      return channels.map(({ error }: { error?: { code: string } }) => error?.code ?? null)
    }
    t.strictSame(await codesOf('group.a', 'user:me', 'group.b', 'group.c', 'group.a'), [null, null, 'RT_FORBIDDEN', null, null])
    t.strictSame(asked.splice(0), [['1', 'subscribe', 'group.a', 'group.b', 'group.c']])
    t.strictSame(await codesOf('group.d', 'group.broken'), ['RT_UNAVAILABLE', 'RT_UNAVAILABLE'])
    t.strictSame(await codesOf('group.d', 'group.short'), ['RT_UNAVAILABLE', 'RT_UNAVAILABLE'])
    t.strictSame(one, [], 'nothing else was asked')
    t.strictSame(await codesOf('group.d'), [null])
    t.strictSame(one, ['group.d'])
  })
})

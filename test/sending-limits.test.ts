import { setTimeout as sleep } from 'node:timers/promises'
import { allowAll, buildHost, buildNodes, connect, overBackends, rest, rowsOf, until, user, type Host } from './helper.js'
import { stream } from './stream-client.js'

const group = { channel: 'group.x', message: 'x', conversationId: 'c' }
const groupBody = { channel: 'group.x', message: 'x', conversation_id: 'c' }
const direct = (recipientId: number) => ({ recipientId, message: 'x', conversationId: 'c' })
const notify = (...recipientIds: number[]) => ({ recipientIds, title: 't', body: 'b' })

/** Rates are counted by the minute: the test begins with one. */
function beginMinute ({ clock }: Host): void {
  clock.advance(60_000 - clock.now() % 60_000)
}

overBackends((test, backend) => {
  test('a user sends so many durable events a minute, frames and REST together; others and host code are not concerned', async (t) => {
    const host = await buildHost(t, { backend, options: allowAll, channels: { messagesPerMinute: 3, recipientsPerMinute: 0 } })
    const [ann, ben] = [await connect(host, user(1)), await connect(host, user(2))]
    beginMinute(host)
    await ann.request('message:group', group)
    await ann.request('message:direct', direct(2))
    t.match(await rest(host, user(1), 'POST', '/messages/group', groupBody), { status: 202 })
    await t.rejects(ann.request('message:group', group), { code: 'RT_RATE_LIMITED', retryAfter: Number })
    t.match(await rest(host, user(1), 'POST', '/messages/group', groupBody), { status: 429 })
    await ann.request('notification:send', notify(2, 3, 4, 5))
    await ben.request('message:group', group)
    for (let i = 0; i < 5; i++) await host.app.realtime.channels.group({ tenantId: user(1).tenantId, userId: 1, ...group })
    beginMinute(host)
    await ann.request('message:group', group)
  })

  test('a notification that does not fit into the recipients of a minute is refused as a whole', async (t) => {
    const host = await buildHost(t, { backend, options: allowAll, channels: { recipientsPerMinute: 5 } })
    const ann = await connect(host, user(1))
    beginMinute(host)
    await ann.request('notification:send', notify(2, 3, 4))
    await t.rejects(ann.request('notification:send', notify(2, 3, 4)), { code: 'RT_RATE_LIMITED' })
    t.match(await rest(host, user(1), 'POST', '/notifications', { recipient_ids: [2, 3, 4], title: 't', body: 'b' }), { status: 429 })
    await ann.request('notification:send', notify(2, 3))
    await t.rejects(ann.request('notification:send', notify(2, 2)), { code: 'RT_INVALID_DATA', message: /^recipientIds: / })
    t.equal((await rowsOf(host, 'websocket_events')).filter(({ event_type: type }) => type === 'notification:received').length, 5)
  })

  test('nodes learn within a moment how much a user sent on the others', async (t) => {
    const [first, second] = await buildNodes(t, { backend, options: allowAll, channels: { messagesPerMinute: 100 } })
    beginMinute(first)
    const [here, there] = [await connect(first, user(1)), await connect(second, user(1))]
    for (let i = 0; i < 99; i++) await here.request('message:group', group)
    let sent = 0
    await until('the other node refuses', async () => {
      await sleep(200)
      return await there.request('message:group', group).then(() => ++sent > 90, () => true)
    })
    t.ok(sent < 20, `${sent}`)
  })

  test('a tenant has its connections and its messages per second, over all nodes', async (t) => {
    let calls = 0
    const [first, second] = await buildNodes(t, {
      backend,
      options: {
        ...allowAll,
        tenantLimits: async () => {
          calls++
          return { connections: 3, messagesPerSecond: 5 }
        }
      }
    })
    const ann = await connect(first, user(1), { connectionId: 'a' })
    await connect(second, user(2), { connectionId: 'b' })
    t.match(await rest(first, user(3), 'POST', '/connect', { connection_id: 'c' }), { status: 201 })
    t.match(await rest(second, user(4), 'POST', '/connect', { connection_id: 'd' }), { status: 409, body: { code: 'RT_LIMIT_EXCEEDED' } })
    await t.rejects(connect(second, user(4)), /did not arrive/)
    await connect(second, user(2), { connectionId: 'b' })
    t.match(await rest(first, user(3), 'POST', '/disconnect', { connection_id: 'c' }), { status: 200 })
    await connect(second, user(5))
    const outcomes = await Promise.allSettled(Array.from({ length: 60 }, async () => await ann.request('message:group', group)))
    t.ok(outcomes.some((outcome) => outcome.status === 'rejected' && (outcome.reason as { code: string }).code === 'RT_RATE_LIMITED'))
    t.ok(outcomes.filter(({ status }) => status === 'fulfilled').length >= 5)
    t.ok(calls <= 2, `${calls}`)
  })

  test('of many who connect at once, by socket, stream and REST, a tenant gets as many as it may have', async (t) => {
    const [first, second] = await buildNodes(t, { backend, options: { ...allowAll, tenantLimits: () => ({ connections: 5 }) } })
    const outcomes = await Promise.all(Array.from({ length: 24 }, async (_, i) => {
      const node = i % 2 === 0 ? first : second
      if (i % 3 === 0) return await connect(node, user(1 + i)).then(() => true, () => false)
      if (i % 3 === 1) return await stream(node, user(1 + i)).then(() => true, () => false)
      return (await rest(node, user(1 + i), 'POST', '/connect', { connection_id: `c${i}` })).status === 201
    }))
    t.equal(outcomes.filter(Boolean).length, 5)
    const { body } = await rest(first, user(1), 'GET', '/stats') as { body: { data: object } }
    t.match(body.data, { total_connections: 5 })
  })

  test('with audit "durable", typing and presence leave no rows', async (t) => {
    const host = await buildHost(t, { backend, options: { ...allowAll, audit: 'durable' } })
    const ann = await connect(host, user(1))
    await ann.request('user:typing', { conversationId: 'c', isTyping: true, channel: 'group.x' })
    await ann.request('user:presence', { status: 'busy' })
    await ann.request('message:group', group)
    // Such rows are written behind, within a second.
    await sleep(1500)
    t.strictSame((await rowsOf(host, 'websocket_events')).map(({ event_type: type }) => type as string), ['message:group'])
  })

  test('of too much that waits for one recipient, the oldest of who sent most are given up', async (t) => {
    const host = await buildHost(t, { backend, options: allowAll, channels: { maxPending: 10 } })
    const failed: number[] = []
    host.app.realtime.events.on('failed', ({ messageId }) => { failed.push(messageId) })
    const [ann, ben] = [await connect(host, user(1)), await connect(host, user(2))]
    const flood: number[] = []
    for (let i = 0; i < 14; i++) flood.push((await ann.request('message:direct', direct(9))).messageId)
    const kept = flood.slice(7)
    for (let i = 0; i < 3; i++) kept.push((await ben.request('message:direct', direct(9))).messageId)
    host.clock.advance(60_000)
    const rows = await until('they are given up', async () => {
      const found = (await rowsOf(host, 'websocket_events')).filter(({ status }) => status === 'failed')
      return found.length >= 7 && failed.length >= 7 ? found : null
    })
    t.strictSame(rows.map(({ id }) => Number(id)), flood.slice(0, 7))
    t.match(rows[0], { error_message: 'too many waiting' })
    t.strictSame(failed.sort((a, b) => a - b), flood.slice(0, 7))
    const chloe = await connect(host, user(9))
    // Some may come twice, since their retries are due as well.
    const received = (): Set<number> => new Set(chloe.frames.filter(({ event }) => event === 'message:direct').map(({ data }) => data.messageId as number))
    await until('the others come', () => kept.every((id) => received().has(id)))
  })
})

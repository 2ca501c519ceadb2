import { Type } from '@sinclair/typebox'
import { internalsOf } from '../lib/internals.js'
import { allowAll, buildHost, buildNodes, connect, overBackends, rest, user } from './helper.js'

declare module '../plugins/channels/index.js' {
  interface HostEvents {
    'order:shipped': { order: number }
  }
}

const events = {
  'order:shipped': { data: Type.Object({ order: Type.Integer(), note: Type.Optional(Type.String()) }) },
  'board:moved': { data: Type.Object({ card: Type.String({ maxLength: 10 }) }), direction: 'both' },
  'cursor:moved': { data: Type.Object({ x: Type.Number() }), durable: false, direction: 'client' }
} as const
const group = { tenantId: 1, channel: 'group.x' }

overBackends((test, backend) => {
  test('a declared event of the host is validated, stored, sent with user and channel, and recovered', async (t) => {
    const [a, b] = await buildNodes(t, { backend, options: allowAll, channels: { events } })
    const client = await connect(b, user(1))
    await client.request('subscribe', { channel: 'group.x' })
    const { messageId, timestamp } = await a.app.realtime.channels.publish({ ...group, event: 'order:shipped', data: { order: 5 } })
    const emitted = { messageId, userId: 0, channel: 'group.x', order: 5, timestamp }
    t.strictSame(await client.next('order:shipped'), emitted)
    t.strictSame((await rest(b, user(1), 'GET', '/events?channel=group.x')).body.data, [{ event: 'order:shipped', data: emitted }])
    // @ts-expect-error -- the data are typed by HostEvents
    await t.rejects(a.app.realtime.channels.publish({ ...group, event: 'order:shipped', data: { order: 'five' } }), { code: 'RT_INVALID_DATA', message: /order/ })
    await t.rejects(client.request('order:shipped', { channel: 'group.x', order: 6 }), { code: 'RT_INVALID_FRAME' }, 'clients do not send it')
    t.throws(() => { a.app.realtime.channels.tell({ ...group, event: 'order:shipped', data: { order: 5 } }) }, /publish/)
  })

  test('a declared event of clients requires the right to publish, and loses undeclared fields', async (t) => {
    const [a, b] = await buildNodes(t, {
      backend, channels: { events }, options: { authorize: ({ action, channel }) => action === 'subscribe' || channel === 'group.x' }
    })
    const [sender, reader] = [await connect(a, user(1)), await connect(b, user(2))]
    for (const client of [sender, reader]) await client.request('subscribe', { channel: 'group.x' })
    const move = { channel: 'group.x', card: 'c1', dedupeId: 'k', extra: 'dropped' }
    const accepted = await sender.request('board:moved', move)
    t.strictSame(await reader.next('board:moved'), { ...accepted, userId: 1, channel: 'group.x', card: 'c1' })
    t.strictSame(await sender.request('board:moved', move), accepted, 'the same key, the same event')
    const { timestamp, ...rest } = await sender.request('cursor:moved', { channel: 'group.x', x: 1.5 })
    t.strictSame(rest, {}, 'ephemeral: no id')
    t.strictSame(await reader.next('cursor:moved'), { userId: 1, channel: 'group.x', x: 1.5, timestamp })
    t.strictSame([await sender.soFar('board:moved'), await sender.soFar('cursor:moved'), await reader.soFar('board:moved')], [[], [], []])
    for (const channel of ['group.y', 'presence', 'private-user.2']) {
      await t.rejects(sender.request('board:moved', { channel, card: 'c1' }), { code: 'RT_FORBIDDEN' }, channel)
    }
    await t.rejects(sender.request('board:moved', { channel: 'group.x', card: 'far too long' }), { code: 'RT_INVALID_DATA', message: /card/ })
    await t.rejects(a.app.realtime.channels.publish({ ...group, event: 'cursor:moved', data: { x: 1 } }), /clients/)
    t.strictSame((await reader.request('subscribe', { channel: 'group.x', since: 0 })).position, accepted.messageId)
  })

  test('declared events stand in the catalogue beside the built-in ones', async (t) => {
    const host = await buildHost(t, { backend, channels: { events } })
    const described = internalsOf(host.app).frames.catalogue.map(({ event, direction }) => `${direction} ${event}`)
    for (const line of ['server order:shipped', 'client board:moved', 'server board:moved', 'client cursor:moved']) t.ok(described.includes(line), line)
    t.notOk(described.includes('client order:shipped'))
  })
})

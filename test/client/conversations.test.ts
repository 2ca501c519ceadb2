import t from 'tap'
import { allowAll, buildHost, until, user } from '../helper.js'
import { clientOf, connected, doorTo } from './harness.js'

t.jobs = 2

const host = await buildHost(t, { backend: 'embedded', options: allowAll })

for (const [transport, one, two] of [['a socket', 1, 2], ['polling', 3, 4]] as const) {
  void t.test(`a chat screen has history, list, marks, edits and deletes by ${transport}`, { buffered: true }, async (t) => {
    const door = await doorTo(t, host)
    door.blocked = transport === 'polling'
    const received = clientOf(t, door, user(one), { pollInterval: 100 })
    const { client } = received
    await received.next('connected')
    const peer = await connected(t, host, user(two))
    const changes: Array<{ targetId: number, message?: string }> = []
    for (const event of ['message:edited', 'message:deleted'] as const) peer.client.on(event, (data) => { changes.push(data) })

    const ids: number[] = []
    for (const message of ['one', 'two', 'three']) ids.push((await client.send('message:direct', { recipientId: two, message, conversationId: 'c', data: { n: ids.length } })).messageId)
    t.match(await peer.client.history({ with: one, limit: 2 }), { data: [{ event: 'message:direct', data: { messageId: ids[1], message: 'two', data: { n: 1 } } }, { data: { messageId: ids[2] } }], more: true })
    t.match(await client.history({ with: two, before: ids[1] }), { data: [{ data: { messageId: ids[0] } }], more: false })
    t.match(await client.history({ with: two, conversationId: 'another' }), { data: [], more: false })
    await t.rejects(client.history({} as never), { code: 'RT_INVALID_DATA' })
    t.match(await peer.client.conversations({ limit: 1 }), { data: [{ with: one, unread: 3, read_up_to: 0, last: { data: { message: 'three' } } }], next_cursor: null })
    t.strictSame(await peer.client.markRead({ with: one }, ids[1] ?? 0), { unread: 1, readUpTo: ids[1] })

    const edited = await client.edit(ids[0] ?? 0, 'better')
    t.match(edited, { targetId: ids[0], messageId: Number, editedAt: String })
    t.match((await client.history({ with: two })).data[0]?.data, { message: 'better', data: { n: 0 }, editedAt: edited.editedAt }, 'data stay')
    await client.edit(ids[0] ?? 0, 'best', null)
    t.notOk('data' in ((await client.history({ with: two })).data[0]?.data ?? {}), 'null removes them')
    t.match(await client.delete(ids[2] ?? 0), { targetId: ids[2], messageId: Number })
    await until('the peer receives them', () => changes.length === 3)
    t.match(changes, [{ targetId: ids[0], message: 'better' }, { targetId: ids[0], message: 'best' }, { targetId: ids[2] }])
    t.match((await peer.client.conversations()).data, [{ with: one, unread: 0, last: { data: { message: 'two' } } }])
    await t.rejects(client.delete(ids[2] ?? 0), { code: 'RT_NOT_FOUND' })
    await t.rejects(peer.client.edit(ids[1] ?? 0, 'x'), { code: 'RT_FORBIDDEN' })
  })
}

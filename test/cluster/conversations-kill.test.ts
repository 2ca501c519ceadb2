import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { Client, rest } from './client.js'
import { clusterFor } from './cluster.js'
import { until } from './until.js'

const GROUP = 'group.killed'
const MESSAGES = 60

t.test('a node that is killed while messages are edited and deleted leaves each either done or not begun', async (t) => {
  const { cluster, nodes: [a, b] } = await clusterFor(t, [{}, {}])
  const reader = await Client.connect(b, { userId: 2 })
  await reader.request('subscribe', { channel: GROUP })
  const sender = await Client.connect(a, { userId: 1 })
  const ids = await Promise.all(Array.from({ length: MESSAGES }, async (_, i) =>
    (await sender.request('message:group', { channel: GROUP, message: `secret ${i}`, conversationId: 'c' }) as { messageId: number }).messageId))
  const last = ids.at(-1) ?? 0

  const edited = new Set<number>()
  const deleted = new Set<number>()
  const changes = ids.map(async (messageId, i) => {
    await sleep(i * 3)
    if (i % 2 === 0) await sender.request('message:edit', { messageId, message: `edited ${messageId}` }).then(() => edited.add(messageId), () => {})
    else {
      await sender.request('message:edit', { messageId, message: 'secret again' }).catch(() => {})
      await sender.request('message:delete', { messageId }).then(() => deleted.add(messageId), () => {})
    }
  })
  await until('some are acked', 10_000, () => edited.size + deleted.size >= 10)
  await a.kill()
  await Promise.race([Promise.all(changes), sleep(3000)])

  const rows = await cluster.rows('select id, event_type, payload, conversation, durable from websocket_events where channel = ? order by id', [GROUP])
  const payloadOf = (row: typeof rows[number]): Record<string, unknown> => JSON.parse(String(row.payload)) as Record<string, unknown>
  const events = rows.filter(({ id }) => Number(id) > last && !ids.includes(Number(id)))
  const targets = (type: string): Set<number> => new Set(events.filter((row) => row.event_type === type && row.durable === 1).map((row) => Number(payloadOf(row).targetId)))
  const [editEvents, deleteEvents] = [targets('message:edited'), targets('message:deleted')]
  t.ok(edited.size + deleted.size > 0, `${edited.size} edits and ${deleted.size} deletes were acked`)
  for (const id of edited) t.ok(editEvents.has(id), 'an acked edit is stored')
  for (const id of deleted) t.ok(deleteEvents.has(id), 'an acked delete is stored')
  for (const row of rows.filter(({ id }) => ids.includes(Number(id)))) {
    const id = Number(row.id)
    const isDeleted = row.conversation === null
    t.equal(isDeleted, deleteEvents.has(id), 'a message is empty if, and only if, its delete is stored')
    if (isDeleted) t.strictSame(payloadOf(row), {})
    else if (ids.indexOf(id) % 2 === 0) t.equal(payloadOf(row).editedAt !== undefined, editEvents.has(id), 'a message is changed if, and only if, its edit is stored')
  }
  const marks = await cluster.rows('select id from websocket_deleted_messages where conversation = ?', [GROUP])
  t.strictSame(new Set(marks.map(({ id }) => Number(id))), deleteEvents)

  // Everyone receives what is stored, at the latest from the node that takes over.
  for (const id of deleteEvents) await reader.next('message:deleted', 20_000, (data) => data.targetId === id)
  const { data } = await rest(b, { userId: 2 }, `/events?channel=${GROUP}&limit=1000`) as { data: Array<{ data: { messageId: number, targetId?: number, message?: string } }> }
  const hidden = data.filter(({ data }) => deleteEvents.has(data.messageId) || (data.message !== undefined && data.targetId !== undefined && deleteEvents.has(data.targetId)))
  t.strictSame(hidden, [], 'nothing of a deleted message is recovered')
})

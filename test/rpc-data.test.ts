import { readdirSync, readFileSync } from 'node:fs'
import t from 'tap'
import { internalsOf } from '../lib/internals.js'
import { buildHost, connect, user } from './helper.js'

/** What nodes ask of each other about users and connections, with data that is accepted. */
const requests = (id: unknown): Record<string, Record<string, unknown>> => ({
  'channels.subscribe': { tenantId: id, connectionId: 'a', channel: 'group.x' },
  'channels.unsubscribe': { tenantId: id, connectionId: 'a', channel: 'group.x' },
  'presence.watch': { tenantId: id, connectionId: 'a', userIds: [id] },
  'presence.unwatch': { tenantId: id, connectionId: 'a', userIds: null },
  'conversations.settle': { tenantId: id, userId: id },
  'conversations.forget': { tenantId: id, userIds: [id], conversation: 'group.x' },
  'conversations.toOwn': { tenantId: id, userId: id, connectionIds: ['a'], unless: 'group.x', event: 'conversation:read', data: {} },
  'connections.close': { tenantId: id, connectionId: 'none', code: 4000, reason: '' },
  'connections.closeUser': { tenantId: id, userId: id, code: 4000, reason: '' },
  'connections.of': { tenantId: id, userId: id },
  'connections.frames': { tenantId: id, connectionId: 'a', frames: ['{}'] }
})

const RUBBISH: unknown[] = [undefined, null, 7, 'text', [], {}, [{}], { __proto__: null, tenantId: {}, connectionId: {} }]
const WRONG: unknown[] = [undefined, {}, [[]], true, -1, 1.5, 'has a blank', '~user.1', '']
const FIELDS = ['tenantId', 'userId', 'userIds', 'channel', 'connectionIds', 'frames']

for (const [backend, id, other] of [['embedded', 1, 'text'], ['embedded with string ids', 'text', 1]] as const) {
  void t.test(`a node refuses what other nodes ask with data of a wrong shape, and continues: ${backend}`, async (t) => {
    const host = await buildHost(t, { backend, options: { authorize: () => true } })
    const client = await connect(host, user(1), { connectionId: 'a' })
    const { nodeId, rpc } = internalsOf(host.app)
    for (const [op, data] of Object.entries(requests(id))) {
      const wrong = [...RUBBISH, { ...data, tenantId: other }, ...FIELDS.filter((field) => field in data).flatMap((field) => WRONG.map((value) => ({ ...data, [field]: value })))]
      for (const rubbish of wrong) await t.rejects(rpc.call(nodeId, op, rubbish), { code: 'RT_INVALID_DATA' }, `${op} ${JSON.stringify(rubbish)}`)
    }
    await client.request('subscribe', { channel: 'group.y' })
    t.notOk(client.frames.some(({ event }) => event === 'error' || event.startsWith('conversation:')), 'nothing of it reached the client')
    t.equal((await internalsOf(host.app).health()).ok, true)
  })
}

void t.test('every request of the plugins is in this list', async (t) => {
  const handled = readdirSync('plugins', { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.ts'))
    .flatMap((name) => [...readFileSync(`plugins/${name}`, 'utf8').matchAll(/rpc\.handle\(/g)])
  t.equal(handled.length, Object.keys(requests(1)).length)
})

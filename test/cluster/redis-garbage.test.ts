import { randomBytes } from 'node:crypto'
import t from 'tap'
import type { OutgoingEvent } from '../../lib/backplane/contract.js'
import { sealEvents, sealText } from '../../lib/backplane/envelope.js'
import { Signer } from '../../lib/backplane/signer.js'
import { encodeFrame } from '../../lib/wire/protocol.js'
import { check } from './check.js'
import { Client } from './client.js'
import { bootIdOf, clusterFor, healthOf, type Node } from './cluster.js'
import { GROUP, startLoad } from './load.js'
import { until } from './until.js'

const envelope = (content: string | Buffer, mark = '-'): Buffer => Buffer.concat([Buffer.from(`rt1${mark}\n\0`), Buffer.from(content)])

/** What no node sends. */
const GARBAGE: Array<string | Buffer> = [
  'hello', 'rubbish', '', '\n', '0', '12\n', '!1700000000000', '{"kind":"question"}', '{}', '[]', 'null', '{"kind":"question","id":"1","from":"x","op":"__proto__"}',
  'rt', 'rt1', 'rt1-', 'rt1-\n', 'rt1+\n', 'rt1+99999999999999999999\n\0', 'rt2-\n\0later', 'rt1-\n\xff', '\u0000',
  ...[10, 100, 1000, 70_000].map((length) => randomBytes(length)),
  // Truncated, and with lengths that are not true.
  ...[1, 5, 9, 10, 13, 14, 20].map((length) => envelope(Buffer.alloc(length))),
  ...[1, 5, 9, 10, 13, 14, 20].map((length) => envelope(Buffer.alloc(length, 0xff))),
  envelope(Buffer.from('00000000000000000000ffffffff7b7d', 'hex')),
  // Mail of the wrong shape.
  ...['', 'hello', 'null', '7', '[]', '{}', '{"kind":"question"}', '{"kind":"answer"}', '{"kind":"other","id":"1"}', '!', '!x:1', '{"kind":"answer","id":7}',
    '{"kind":"answer","id":"1","error":7}', '{"kind":"question","id":"1","from":7,"op":"connections.close"}', '{"kind":"question","id":1,"from":"x","op":"x"}',
    '{"kind":"question","id":"1","from":"x","op":{}}', `{"kind":"question","id":"${'x'.repeat(10_000)}","from":"x","op":"x"}`, '{"__proto__":{"kind":"question"}}'
  ].map((text) => envelope(text)),
  // Mail of the right shape that asks for nothing that is there.
  ...['__proto__', 'constructor', 'hasOwnProperty', 'connections.close', 'channels.subscribe', 'channels.unsubscribe'].flatMap((op) =>
    [undefined, null, 7, 'text', [], {}, { __proto__: null, tenantId: 'x', connectionId: {} }].map((data) =>
      envelope(JSON.stringify({ kind: 'question', id: '1', from: 'nobody', op, data }))))
]

const rejectedBy = async ({ url }: Node): Promise<Record<string, number>> => {
  const text = await (await fetch(`${url}/metrics`)).text()
  return Object.fromEntries([...text.matchAll(/^realtime_backplane_rejected_total\{reason="(\w+)"\} (\d+)/gm)].map(([, reason, count]) => [reason, Number(count)]))
}

t.test('Somebody publishes garbage to the topics of channels and nodes', async (t) => {
  const { cluster, nodes } = await clusterFor(t, [{}, {}])
  const load = await startLoad(t, nodes, { count: 10, pause: 100 })
  const clients = await Promise.all(nodes.map(async (node, i) => await Client.connect(node, { userId: 2000 + i })))
  const bootIds = await Promise.all(clients.map(async ({ who }) => await bootIdOf(cluster, who)))
  for (const node of nodes) t.strictSame(await rejectedBy(node), { malformed: 0, version: 0, signature: 0 })

  const topics = [`${cluster.prefix}channel:{1/${GROUP}}`, ...bootIds.map((id) => `${cluster.prefix}node:${id}`)]
  for (const topic of topics) {
    const heardBy = await Promise.all(GARBAGE.map(async (one) => await cluster.keys.publish(topic, one)))
    t.ok(heardBy.every((nodes) => nodes > 0), `${topic} is received`)
  }

  for (const node of nodes) {
    const counts = await until('it is counted', 5000, async () => {
      const counts = await rejectedBy(node)
      return (counts.malformed ?? 0) >= 86 && counts
    })
    t.comment(counts)
    t.match(counts, { version: 2, signature: 0 }, 'once on the channel and once on its own topic')
    t.equal(await healthOf(node), 200)
    t.equal(node.output().split('Backplane dropped messages').length - 1, 1, 'logged once')
    t.notMatch(node.output(), /"level":(50|60)|uncaught/i, 'and no error')
  }
  await load.stopSending()
  const { problems } = await check(cluster, load)
  t.strictSame(problems, [], 'everyone got everything')
  t.strictSame(load.closeCodes, [])
  t.notOk(clients.some(({ isClosed }) => isClosed))
})

t.test('Someone without the secret publishes messages like those of a node', async (t) => {
  const secrets = ['first-secret-first-secret-first-secret', 'other-secret-other-secret-other-secret'] as const
  const env = { BACKPLANE_SECRET: secrets[0] }
  // The second node is where a change of the secret begins.
  const { cluster, nodes } = await clusterFor(t, [{ env }, { env: { BACKPLANE_SECRET: secrets.join() } }])
  const [a, b] = nodes
  const [sender, receiver] = await Promise.all([Client.connect(a, { userId: 1 }), Client.connect(b, { userId: 2 })])
  const bootId = await bootIdOf(cluster, receiver.who)
  for (const client of [sender, receiver]) await client.request('subscribe', { channel: GROUP })
  await sender.request('message:group', { conversationId: 'x', channel: GROUP, message: 'signed' })
  await receiver.next('message:group', 5000, (data) => data.message === 'signed')
  t.strictSame(await rejectedBy(b), { malformed: 0, version: 0, signature: 0 })

  const forged = (message: string): OutgoingEvent =>
    ({ payload: encodeFrame('message:group', { message, channel: GROUP, messageId: 7 }), messageId: 0, excludeConnectionId: null, isRetry: false })
  const topicOf = (clubId: number): string => `${cluster.prefix}channel:{${clubId}/${GROUP}}`
  const nobody = new Signer(['somebody-elses-secret-somebody-elses'])
  // What a node sent may be heard by whoever reads along: it must not work on another channel.
  const recorded = sealEvents([forged('of another club')], topicOf(9), false, new Signer(secrets))
  for (const message of [sealEvents([forged('unsigned')], topicOf(1), false, new Signer([])), sealEvents([forged('forged')], topicOf(1), false, nobody), recorded]) {
    t.equal(await cluster.keys.publish(topicOf(1), message), 2)
  }
  const close = JSON.stringify({ kind: 'question', id: '1', from: 'x', op: 'connections.close', data: { tenantId: 1, userId: 2, connectionId: 'x' } })
  const topic = `${cluster.prefix}node:${bootId}`
  for (const signer of [new Signer([]), nobody]) t.equal(await cluster.keys.publish(topic, sealText(close, topic, signer)), 1)

  await until('all are counted', 5000, async () => (await rejectedBy(b)).signature === 5)
  await sender.request('message:group', { conversationId: 'x', channel: GROUP, message: 'signed too' })
  await receiver.next('message:group', 5000, (data) => data.message === 'signed too')
  t.strictSame(receiver.all('message:group').map(({ data }) => data.message), ['signed', 'signed too'])
  t.notOk(receiver.isClosed)
  for (const node of nodes) t.equal(await healthOf(node), 200)
})

import { randomBytes } from 'node:crypto'
import t from 'tap'
import { check } from './check.js'
import { Client } from './client.js'
import { bootIdOf, clusterFor, healthOf, type Node } from './cluster.js'
import { GROUP, Load } from './load.js'
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

t.test('Somebody publishes garbage to the topics of channels and nodes', async (t) => {
  const { cluster, nodes } = await clusterFor(t, [{}, {}])
  const load = await Load.start({ senders: nodes, receivers: nodes, nodes: () => nodes, count: 10, pause: 100 })
  t.teardown(async () => { await load.close() })
  const clients = await Promise.all(nodes.map(async (node, i) => await Client.connect(node, { userId: 2000 + i })))
  const bootIds = await Promise.all(clients.map(async ({ who }) => await bootIdOf(cluster, who)))
  const rejectedBy = async ({ url }: Node): Promise<Record<string, number>> => {
    const text = await (await fetch(`${url}/metrics`)).text()
    return Object.fromEntries([...text.matchAll(/^realtime_backplane_rejected_total\{reason="(\w+)"\} (\d+)/gm)].map(([, reason, count]) => [reason, Number(count)]))
  }
  for (const node of nodes) t.strictSame(await rejectedBy(node), { malformed: 0, version: 0, signature: 0 })

  const topics = [`${cluster.prefix}channel:{1/${GROUP}}`, ...bootIds.map((id) => `${cluster.prefix}node:${id}`)]
  for (const topic of topics) {
    for (const one of GARBAGE) t.equal(await cluster.keys.publish(topic, one) > 0, true)
  }

  for (const node of nodes) {
    const counts = await until('it is counted', 5000, async () => {
      const counts = await rejectedBy(node)
      return (counts.malformed ?? 0) >= 86 && counts
    })
    t.comment(counts)
    t.match(counts, { version: 2, signature: 0 }, 'once on the channel and once on its own topic')
    t.equal(await healthOf(node), 200)
    t.equal(node.output().split('backplane dropped messages').length - 1, 1, 'logged once')
    t.notMatch(node.output(), /"level":(50|60)|uncaught/i, 'and no error')
  }
  await load.stopSending()
  const { problems } = await check(cluster, load)
  t.strictSame(problems, [], 'everybody got everything')
  t.strictSame(load.closeCodes, [])
  t.notOk(clients.some(({ isClosed }) => isClosed))
})

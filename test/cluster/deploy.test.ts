import t from 'tap'
import { WebSocket } from 'ws'
import { createClient } from '../../client/src/index.js'
import { check } from './check.js'
import { tokenOf } from './client.js'
import { clusterFor, type Node } from './cluster.js'
import { GROUP, Load } from './load.js'
import { until } from './until.js'

t.test('A deploy under load, one node after the other', async (t) => {
  const { cluster, nodes } = await clusterFor(t, [{}, {}])
  let alive: Node[] = [...nodes]

  // A client of the package, behind what would be a load balancer.
  let turn = 0
  const somewhere = (url: string | URL): string => {
    const { pathname, search, protocol } = new URL(url)
    return `${protocol}//${new URL((alive[turn++ % alive.length] as Node).url).host}${pathname}${search}`
  }
  class BalancedSocket extends WebSocket {
    constructor (url: string, protocols?: string[]) { super(somewhere(url), protocols) }
  }
  const client = createClient({
    baseUrl: 'http://balanced.test/api/websocket',
    token: () => tokenOf({ userId: 600 }),
    reconnectDelay: 200,
    polling: false,
    WebSocket: BalancedSocket,
    fetch: async (url, init) => await fetch(somewhere(url), init as RequestInit)
  })
  const received: number[] = []
  const codes: number[] = []
  const gaps: string[] = []
  client.on('message:group', ({ messageId }) => { received.push(messageId) })
  client.on('disconnected', ({ code }) => { codes.push(code) })
  client.on('gap', ({ channel }) => { gaps.push(channel) })
  const { position } = await client.subscribe(GROUP)
  t.teardown(async () => { await client.disconnect() })
  const load = await Load.start({ senders: nodes, receivers: nodes, nodes: () => alive })
  t.teardown(async () => { await load.close() })
  await until('messages flow', 10_000, () => load.acked.length > 200)

  for (const node of nodes) {
    alive = alive.filter((one) => one !== node)
    t.equal(await node.stop(), 0, 'it ends by itself')
    alive = [...alive, await cluster.start()]
    const acked = load.acked.length
    await until('messages flow', 20_000, () => load.acked.length > acked + 200)
  }
  await load.stopSending()
  const { problems, ...figures } = await check(cluster, load)
  t.comment(figures)
  t.strictSame(problems, [], 'nothing acked is lost, stored twice, or out of order')
  const stored = await cluster.rows("select id from websocket_events where channel = ? and event_type = 'message:group' and id > ? order by id", [GROUP, position])
  await until('the client has everything', 10_000, () => received.length >= stored.length)
  t.strictSame(received.toSorted((a, b) => a - b), stored.map(({ id }) => Number(id)), 'the client receives everything, and nothing twice')
  t.strictSame([gaps, codes.length > 0], [[], true], 'without a gap, though it was sent away')
  t.strictSame([...new Set([...codes, ...load.closeCodes])], [1012])
  t.ok(load.closeCodes.length >= 40, 'everyone was sent away, and came back')
  t.equal(load.receivers.reduce((sum, { unrecovered }) => sum + unrecovered, 0), 0, 'everyone could resume')
  const edges = await cluster.rows("select event_type, user_id, count(*) as times from websocket_events where event_type in ('user:online', 'user:offline') group by event_type, user_id")
  t.strictSame(edges.filter(({ event_type: type }) => type === 'user:offline').map(({ user_id: userId }) => userId), [], 'no user is reported offline')
  t.strictSame(edges.filter(({ times }) => Number(times) > 1).map(({ user_id: userId }) => userId), [], 'and nobody online a second time')
  t.ok(edges.length > 40, 'everyone was reported online')
})

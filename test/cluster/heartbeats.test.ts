import t from 'tap'
import { Client, rest, type Who } from './client.js'
import { clusterFor, type Cluster } from './cluster.js'
import { until } from './until.js'

const CLIENTS = 20
const who = (userId: number): Who => ({ userId })

/** Statements that wrote, since the server started. */
async function writes (cluster: Cluster): Promise<Record<string, number>> {
  const rows = await cluster.rows("show global status where variable_name in ('Com_insert', 'Com_update', 'Com_replace', 'Com_delete')")
  return Object.fromEntries(rows.map((row) => [String(row.Variable_name), Number(row.Value)]))
}

t.test('heartbeats write nothing to SQL', async (t) => {
  const { cluster, nodes: [a, b] } = await clusterFor(t, [{}, {}])
  const settled = async (): Promise<Record<string, number>> => {
    let last = ''
    let since = Date.now()
    return await until('what is written behind is written', 10_000, async () => {
      const now = await writes(cluster)
      if (JSON.stringify(now) !== last) since = Date.now()
      last = JSON.stringify(now)
      // Longer than anything waits to be written.
      return Date.now() - since > 1500 && now
    })
  }
  const clients = await Promise.all(Array.from({ length: CLIENTS }, async (_, i) => await Client.connect(i % 2 === 0 ? a : b, who(1 + i))))
  await Promise.all(clients.map(async ({ who }) => await rest(a, who, '/connect', { connection_id: `rest-${who.userId}` })))
  const before = await settled()

  await t.test('20 clients, 1000 pings, 200 heartbeats by REST: no INSERT and no UPDATE', async (t) => {
    for (let round = 0; round < 10; round++) {
      await Promise.all(clients.map(async (client) => {
        await Promise.all(Array.from({ length: 5 }, async () => await client.request('ping', {})))
        await rest(round % 2 === 0 ? a : b, client.who, '/heartbeat', { connection_id: `rest-${client.who.userId}` })
      }))
    }
    t.strictSame(await settled(), before)
  })

  await t.test('50 signs of typing in one conversation are one start: a statement or two', async (t) => {
    const [typist] = clients as [Client]
    for (let i = 0; i < 50; i++) await typist.request('user:typing', { conversationId: 'x', isTyping: true })
    const after = await settled()
    const inserts = (after.Com_insert ?? 0) - (before.Com_insert ?? 0)
    t.ok(inserts >= 1 && inserts <= 2, `${inserts} inserts: the row and its audit`)
    t.equal(after.Com_update, before.Com_update)
  })

  await t.test('20 changes of presence at once are written together', async (t) => {
    const start = await settled()
    await Promise.all(clients.map(async (client) => await client.request('user:presence', { status: 'busy' })))
    const after = await settled()
    const inserts = (after.Com_insert ?? 0) - (start.Com_insert ?? 0)
    // On each of the two nodes: presence rows, and audit rows; a batch may be split by its timer.
    t.ok(inserts >= 2 && inserts <= 8, `${inserts} inserts for 20 changes`)
    const [row] = await cluster.rows("select count(*) as busy from websocket_presence where status = 'busy'")
    t.equal(Number(row?.busy), CLIENTS)
  })
})

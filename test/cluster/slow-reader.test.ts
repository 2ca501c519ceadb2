import t from 'tap'
import { Client, rest } from './client.js'
import { clusterFor, memoryOf } from './cluster.js'
import { until } from './until.js'

const GROUP = 'group.flood'
/** Messages at once: 300 KB, well below what may wait. */
const LOT = 20
/** What the system buffers for a connection that is not read, and the megabyte that the node lets wait, at most. */
const ENOUGH = 16 * 1024 * 1024

/** Connections that a node closed for being too slow: each at the one frame that was too much. */
async function tooSlowOn ({ url }: { url: string }): Promise<number> {
  const text = await (await fetch(`${url}/metrics`)).text()
  return Number(/dropped_total\{[^}]*reason="too_slow"[^}]*\} (\d+)/.exec(text)?.[1])
}

t.test('a slow reader that responds to pings does not make memory grow', async (t) => {
  const { nodes: [a, b] } = await clusterFor(t, [{}, {}])
  const connect = async (userId: number, node = a): Promise<Client> => {
    const client = await Client.connect(node, { userId })
    await client.request('subscribe', { channel: GROUP })
    return client
  }
  const sender = await Client.connect(b, { userId: 1 })
  const others = await Promise.all([connect(2), connect(3), connect(4, b)])
  const [returning, gone] = await Promise.all([connect(10), connect(11)])
  const counts = new Map(others.map((client) => {
    client.keep = false
    const ids: number[] = []
    client.onFrame = ({ event, data }) => { if (event === 'message:group') ids.push(data.messageId as number) }
    return [client, ids]
  }))
  const ids: number[] = []
  let bytes = 0
  // Three bytes a character: the largest message is 15 KB.
  const message = '€'.repeat(5000)
  const send = async (): Promise<void> => {
    const acks = await Promise.all(Array.from({ length: LOT }, async () =>
      await sender.request('message:group', { channel: GROUP, message, conversationId: 'x' })))
    ids.push(...acks.map(({ messageId }) => messageId as number))
    bytes += LOT * 3 * message.length
  }
  // What the first megabytes cost the process once and for all.
  for (let i = 0; i < 20; i++) await send()
  const memoryBefore = memoryOf(a)

  for (const slow of [returning, gone]) slow.pause()
  let most = 0
  bytes = 0
  let tooSlow = 0
  while (bytes < ENOUGH || tooSlow < 2) {
    await send()
    most = Math.max(most, memoryOf(a) - memoryBefore)
    tooSlow = await tooSlowOn(a)
    // As soon as both are closed: a close is waited for 5 s only.
    if (tooSlow === 2) returning.resume()
  }
  const sentAt = Date.now()

  await t.test('it is closed with 4008, and comes back to everything it missed', async (t) => {
    const { code } = await returning.closed
    t.equal(code, 4008)
    t.comment(`${bytes} bytes sent, it read ${returning.all('message:group').length} of ${ids.length} messages`)
    const since = returning.all('message:group').at(-1)?.data.messageId as number
    const again = await Client.connect(b, { userId: 10 })
    const { recovered } = await again.request('subscribe', { channel: GROUP, since })
    t.equal(recovered, ids.length - ids.indexOf(since) - 1 <= 1000)
    if (recovered === true) await until('the rest', 10_000, () => again.all('message:group').length === ids.length - ids.indexOf(since) - 1)
    await again.close()
  })

  await t.test('others get everything, in order', async (t) => {
    for (const [client, got] of counts) {
      await until('all messages', 10_000, () => got.length >= ids.length)
      t.strictSame(got, ids)
      t.equal(client.isClosed, false)
    }
  })

  await t.test('memory stays bounded, and nothing of it is left in the figures, though it never answers', async (t) => {
    t.comment(`grew by at most ${Math.round(most)} MiB`)
    t.ok(most < 80, `grew by at most ${Math.round(most)} MiB`)
    await until('only the others are left', 10_000, async () =>
      (await rest(b, { userId: 1 }, '/stats')).data.total_connections === 4)
    t.comment(`let go of ${Date.now() - sentAt} ms after the last message`)
    gone.terminate()
  })

  await t.test('a burst of more than a megabyte closes no client that reads', async (t) => {
    await Promise.all(Array.from({ length: 5 }, async () => { await send() }))
    for (const [client, got] of counts) {
      await Promise.race([client.closed, until('all messages', 10_000, () => got.length >= ids.length)])
      t.strictSame(client.isClosed ? await client.closed : null, null)
    }
  })
})

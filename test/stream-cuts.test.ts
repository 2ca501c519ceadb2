import { setTimeout as sleep } from 'node:timers/promises'
import type { Test } from 'tap'
import { internalsOf } from '../lib/internals.js'
import { MovableClock } from '../plugins/testing.js'
import { startProxy, type Proxy } from './cluster/proxy.js'
import { allowAll, buildHost, connect, isEmbedded, overBackends, startNode, store, until, user, type Backend, type Host } from './helper.js'
import { seeded } from './seeded.js'
import { stream } from './stream-client.js'

const CHANNELS = ['group.a', 'group.b', 'group.c', 'group.d', 'group.e']
/** Written to while the stream is away, and while it is back. */
const [AWAY, BACK] = [['group.a', 'group.b', 'user:me'], ['group.c', 'group.d', 'group.e', 'broadcast']]
const SENDERS = 3
const ROUNDS = 4
/** Messages of each sender in a round, while the stream is away and while it is back. */
const [MISSED, LIVE] = [8, 8]
/** More than a cursor reads again: what a cursor says is seen and was not is lost. */
const OLD_MS = 16_000

interface Heard { id: number, sender: number, channel: string }
type Send = (channels: readonly string[], node?: number) => Promise<void>

/** One embedded host, or two nodes of which the second one reaches Redis through a proxy. */
async function nodesOf (t: Test, backend: Backend): Promise<{ nodes: [Host, Host], proxy: Proxy | null }> {
  if (isEmbedded(backend)) {
    const host = await buildHost(t, { backend, options: allowAll })
    return { nodes: [host, host], proxy: null }
  }
  const shared = await store(t, backend)
  const url = new URL(shared.redis as string)
  const proxy = await startProxy(Number(url.port))
  t.teardown(async () => { await proxy.close() })
  url.port = String(proxy.port)
  const clock = new MovableClock()
  const settings = { backend, options: allowAll }
  return { nodes: [await startNode(t, settings, shared, clock), await startNode(t, settings, { ...shared, redis: url.href }, clock)], proxy }
}

/** Publishes in a transaction of the host, which is committed by the function that it returns: when the event was handed on. */
async function publishLater ({ app }: Host): Promise<() => Promise<Heard>> {
  let commit = (): void => {}
  const released = new Promise<void>((resolve) => { commit = resolve })
  const { channels } = app.realtime
  const { database: { db } } = internalsOf(app)
  let done: Promise<number> = Promise.resolve(0)
  await new Promise<void>((resolve, reject) => {
    done = db.transaction().execute(async (transaction) => {
      const { messageId } = await channels.publish({ tenantId: 1, channel: 'group.a', event: 'order:paid', data: {}, transaction })
      resolve()
      await released
      return messageId
    })
    done.catch(reject)
  })
  return async () => {
    commit()
    const id = await done
    await until('it is handed on', async () => {
      const row = await db.selectFrom('websocket_events').select('handed_at').where('id', '=', id).executeTakeFirst()
      return row?.handed_at
    })
    return { id, sender: 0, channel: 'group.a' }
  }
}

overBackends((test, backend) => {
  test('streams that are cut at random moments, and come back to either node, miss nothing, and keep the order of each sender', async (t) => {
    const seed = Number(process.env.SEED ?? Date.now() % 1_000_000)
    t.comment(`SEED=${seed}`)
    const random = seeded(seed)
    const { nodes, proxy } = await nodesOf(t, backend)
    const someNode = () => nodes[random(2)] ?? nodes[0]
    const sent: Heard[] = []

    const senders = await Promise.all(Array.from({ length: SENDERS }, async (_, n): Promise<Send> => {
      const sender = 2 + n
      // They change between the nodes: their order has to hold all the same.
      const sockets = [await connect(nodes[0], user(sender)), await connect(nodes[1], user(sender))] as const
      let count = 0
      return async (channels, node = random(2)) => {
        const socket = sockets[node] ?? sockets[0]
        const channel = channels[random(channels.length)] ?? ''
        const text = { message: `${sender}/${count++}`, conversationId: 'c' }
        const { messageId } = channel === 'broadcast'
          ? await socket.request('broadcast:message', { message: text.message })
          : channel === 'user:me' ? await socket.request('message:direct', { recipientId: 1, ...text }) : await socket.request('message:group', { channel, ...text })
        sent.push({ id: messageId as number, sender, channel })
      }
    }))
    const sendAll = async (channels: readonly string[], each: number, pause: number, node?: number): Promise<void> => {
      await Promise.all(senders.map(async (send) => {
        for (let i = 0; i < each; i++) {
          await send(channels, node)
          if (pause > 0) await sleep(random(pause))
        }
      }))
    }
    const heard: Heard[] = []
    const ids = new Set<number>()
    let cursor: string | undefined
    let streams = 0
    /** Reads a stream until it is over, which is asked after each block and cursor: what follows is lost with the stream. */
    const read = async (node: Host, isOver: (blocks: number) => boolean): Promise<void> => {
      const client = await stream(node, user(1), `?channels=${CHANNELS.join(',')}`, cursor === undefined ? {} : { 'last-event-id': cursor })
      streams++
      let blocks = 0
      for (const deadline = performance.now() + 20_000; ;) {
        const block = client.blocks[blocks]
        if (block !== undefined) {
          blocks++
          cursor = block.id ?? cursor
          const { messageId: id, channel, senderId, userId, recovered } = block.data as { messageId?: number, channel?: string, senderId?: number, userId?: number, recovered?: boolean } ?? {}
          if (block.event === 'subscribed' && recovered === false) t.fail(`not recovered: ${JSON.stringify(block.data)}`)
          if (id !== undefined) {
            heard.push({ id, sender: senderId ?? userId ?? 0, channel: block.event === 'broadcast:message' ? 'broadcast' : channel ?? 'user:me' })
            ids.add(id)
          }
        }
        if (isOver(blocks)) break
        if (client.ended || performance.now() > deadline) throw new Error(`the stream ended, or is silent: ${sent.filter(({ id }) => !ids.has(id)).length} are missing`)
        if (client.blocks.length === blocks) await sleep(5)
      }
      client.cut()
    }

    // Before the first message, so that it belongs to the stream.
    await read(someNode(), () => cursor !== undefined)
    for (let round = 0; round < ROUNDS; round++) {
      // SQLite has one connection, which the transaction would hold.
      const late = isEmbedded(backend) ? null : await publishLater(someNode())
      await sendAll(AWAY, MISSED, 0)
      nodes[0].clock.advance(OLD_MS)
      let isDone = false
      const sending = sendAll(BACK, LIVE, 12).then(() => { isDone = true })
      while (!isDone) {
        const most = random(60)
        const until = performance.now() + random(60)
        await read(someNode(), (blocks) => blocks > most || performance.now() > until || isDone)
      }
      await sending
      if (late !== null) sent.push(await late())
    }

    if (proxy !== null) {
      // The second node misses what the first one hands on, and still hears its own senders. The next cursor is taken at its word.
      let before: string | undefined
      let isOver = false
      const isAllHeard = (): boolean => sent.every(({ id }) => ids.has(id))
      const outage = async (): Promise<void> => {
        const { backplane } = internalsOf(nodes[1].app)
        await until('the stream is up to date', isAllHeard)
        await proxy.refuse()
        proxy.cut()
        await until('Redis is away', () => !backplane.healthy)
        before = cursor
        await sendAll(AWAY, 2, 0, 0)
        nodes[0].clock.advance(OLD_MS)
        await sendAll(BACK, 2, 0, 1)
        await proxy.accept()
        while (!isOver) await sendAll(BACK, 1, 5, 0)
      }
      const over = outage()
      await read(nodes[1], () => before !== undefined && cursor !== before)
      isOver = true
      await over
    }

    await read(someNode(), () => sent.every(({ id }) => ids.has(id)))
    t.strictSame(sent.filter(({ id }) => !ids.has(id)), [], `nothing of ${sent.length} is missing after ${streams} streams`)
    t.ok(streams > 3)
    for (let sender = 2; sender < 2 + SENDERS; sender++) {
      for (const channel of [...AWAY, ...BACK]) {
        const is = (one: Heard): boolean => one.sender === sender && one.channel === channel
        const inOrder = [...new Set(heard.filter(is).map(({ id }) => id))]
        t.strictSame(inOrder, sent.filter(is).map(({ id }) => id), `${channel} of ${sender}`)
      }
    }
  })
})

import { setTimeout as sleep } from 'node:timers/promises'
import type { Test } from 'tap'
import { internalsOf } from '../lib/internals.js'
import { MovableClock } from '../plugins/testing.js'
import { startProxy, type Proxy } from './cluster/proxy.js'
import { allowAll, buildHost, connect, isEmbedded, overBackends, startNode, store, until, user, type Backend, type Host } from './helper.js'
import { seeded } from './seeded.js'
import { stream, type Block } from './stream-client.js'

const CHANNELS = ['group.a', 'group.b', 'group.c', 'group.d', 'group.e']
/** Written to while the streams are away, and while they are back. */
const [AWAY, BACK] = [['group.a', 'group.b', 'user:me'], ['group.c', 'group.d', 'group.e', 'broadcast']]
const [SENDERS, READERS] = [3, 4]
/** Messages of each sender in a round, while the streams are away and while they are back. */
const [MISSED, LIVE] = [10, 12]
/** More than a cursor reads again: what a cursor says is seen and was not is lost. */
const OLD_MS = 16_000
/** A replay is read in pages of a few events, so that others come meanwhile. */
const SETTINGS = { options: allowAll, connections: { maxBuffered: 32 * 1024, framesPerSecond: 0 }, channels: { messagesPerMinute: 0 } }

/** `to`: the user whose own channel it is on. */
interface Sent { id: number, sender: number, channel: string, to?: number }
type Send = (channels: readonly string[], node?: number) => Promise<void>

/** One embedded host, or two nodes of which the second one reaches Redis through a proxy. */
async function nodesOf (t: Test, backend: Backend): Promise<{ nodes: [Host, Host], proxy: Proxy | null }> {
  if (isEmbedded(backend)) {
    const host = await buildHost(t, { backend, ...SETTINGS })
    return { nodes: [host, host], proxy: null }
  }
  const shared = await store(t, backend)
  const url = new URL(shared.redis as string)
  const proxy = await startProxy(Number(url.port))
  t.teardown(async () => { await proxy.close() })
  url.port = String(proxy.port)
  const clock = new MovableClock()
  const settings = { backend, ...SETTINGS }
  return { nodes: [await startNode(t, settings, shared, clock), await startNode(t, settings, { ...shared, redis: url.href }, clock)], proxy }
}

/** Publishes in a transaction of the host, which is committed by the function that it returns: when the event was handed on. */
async function publishLater ({ app }: Host): Promise<() => Promise<Sent>> {
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

const newestOf = (sent: readonly Sent[]): number => Math.max(...sent.map(({ id }) => id))

/** Until the table says of every event that it was handed on; what waits for somebody who is away is not. */
async function untilMarked ({ app }: Host): Promise<void> {
  const { database: { db } } = internalsOf(app)
  await until('all are marked as handed on', async () => await db.selectFrom('websocket_events').select('id')
    .where('durable', '=', 1).where('handed_at', 'is', null).where('due_at', 'is not', null).executeTakeFirst() === undefined)
}

/** A user with one stream after the other, each of which begins where the last cursor says. */
class Reader {
  readonly user: number
  readonly heard: Sent[] = []
  readonly ids = new Set<number>()
  cursor: string | undefined
  streams = 0

  constructor (user: number) {
    this.user = user
  }

  /** The id in the last cursor. */
  get position (): number {
    return Number(this.cursor?.split('.')[1] ?? -1)
  }

  missing (sent: readonly Sent[]): Sent[] {
    return sent.filter(({ id, to = this.user }) => to === this.user && !this.ids.has(id))
  }

  /** Reads a stream until it is over, which is asked after each block and cursor: what follows is lost with the stream. */
  async read (node: Host, isOver: (blocks: number) => boolean): Promise<void> {
    const headers = this.cursor === undefined ? {} : { 'last-event-id': this.cursor }
    const client = await stream(node, user(this.user), `?channels=${CHANNELS.join(',')}`, headers)
    this.streams++
    let blocks = 0
    for (const deadline = performance.now() + 20_000; ;) {
      const block = client.blocks[blocks]
      if (block !== undefined) {
        blocks++
        this.#take(block)
      }
      if (isOver(blocks)) break
      if (client.ended || performance.now() > deadline) throw new Error('the stream ended, or is silent')
      if (client.blocks.length === blocks) await sleep(5)
    }
    client.cut()
  }

  #take ({ event, data, id: cursor }: Block): void {
    this.cursor = cursor ?? this.cursor
    const { messageId: id, channel, senderId, userId, recovered } = data as { messageId?: number, channel?: string, senderId?: number, userId?: number, recovered?: boolean } ?? {}
    if (event === 'subscribed' && recovered === false) throw new Error(`not recovered: ${JSON.stringify(data)}`)
    if (id === undefined) return
    this.heard.push({ id, sender: senderId ?? userId ?? 0, channel: event === 'broadcast:message' ? 'broadcast' : channel ?? 'user:me' })
    this.ids.add(id)
  }
}

overBackends((test, backend) => {
  const isEverything = !backend.endsWith('string ids')
  const rounds = isEverything ? 2 : 1

  test('streams that are cut at random moments, and resume on either node, miss nothing, and keep the order of each sender', async (t) => {
    const seed = Number(process.env.SEED ?? Date.now() % 1_000_000)
    t.comment(`SEED=${seed}`)
    const random = seeded(seed)
    const { nodes, proxy } = await nodesOf(t, backend)
    const someNode = () => nodes[random(2)] ?? nodes[0]
    const readers = Array.from({ length: READERS }, (_, i) => new Reader(11 + i))
    const sent: Sent[] = []

    const senders = await Promise.all(Array.from({ length: SENDERS }, async (_, n): Promise<Send> => {
      const sender = 2 + n
      // They change between the nodes: their order has to hold all the same.
      const sockets = [await connect(nodes[0], user(sender)), await connect(nodes[1], user(sender))] as const
      let count = 0
      return async (channels, node = random(2)) => {
        const socket = sockets[node] ?? sockets[0]
        const channel = channels[random(channels.length)] ?? ''
        const text = { message: `${sender}/${count++}`, conversationId: 'c' }
        const to = channel === 'user:me' ? readers[random(READERS)]?.user : undefined
        const { messageId } = channel === 'broadcast'
          ? await socket.request('broadcast:message', { message: text.message })
          : to !== undefined ? await socket.request('message:direct', { recipientId: to, ...text }) : await socket.request('message:group', { channel, ...text })
        sent.push({ id: messageId as number, sender, channel, ...to === undefined ? {} : { to } })
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
    /** A stream up to its first cursor, which is taken at its word. */
    const toCursor = async (reader: Reader, isDone = (): boolean => false): Promise<void> => {
      const before = reader.cursor
      // One that has the newest event gets no other cursor once nothing more is sent.
      await reader.read(someNode(), () => reader.cursor !== before || isDone())
    }
    const toSomewhere = async (reader: Reader, isDone: () => boolean): Promise<void> => {
      const [most, until] = [random(60), performance.now() + random(60)]
      await reader.read(someNode(), (blocks) => blocks > most || performance.now() > until || isDone())
    }

    // Before the first message, so that it belongs to the streams.
    await Promise.all(readers.map(async (reader) => { await toCursor(reader) }))
    for (let round = 0; round < rounds; round++) {
      await sendAll(AWAY, MISSED, 0)
      await untilMarked(nodes[0])
      // SQLite has one connection, which the transaction would hold.
      const late = isEmbedded(backend) ? null : await publishLater(someNode())
      nodes[0].clock.advance(OLD_MS)
      // One of them comes back before there is anything new, the others while messages come.
      await toCursor(readers[round] as Reader)
      let isDone = false
      const sending = sendAll(BACK, LIVE, 8).then(() => { isDone = true })
      await Promise.all(readers.map(async (reader) => {
        while (!isDone) await (random(2) === 0 ? toCursor(reader, () => isDone) : toSomewhere(reader, () => isDone))
        const newest = newestOf(sent)
        await reader.read(someNode(), () => reader.position >= newest)
      }))
      await sending
      if (late !== null) sent.push(await late())
    }

    if (proxy !== null && isEverything) {
      // The second node misses what the first one hands on, and still hears its own senders. The next cursor is taken at its word.
      const [reader] = readers as [Reader]
      let before: string | undefined
      let isOver = false
      const outage = async (): Promise<void> => {
        const { backplane } = internalsOf(nodes[1].app)
        await sendAll(BACK, 1, 0, 1)
        await until('the stream is up to date', () => reader.missing(sent).length === 0 && reader.position >= newestOf(sent))
        await proxy.refuse()
        proxy.cut()
        await until('Redis is away', () => !backplane.healthy)
        before = reader.cursor
        await sendAll(AWAY, 2, 0, 0)
        await untilMarked(nodes[0])
        nodes[0].clock.advance(OLD_MS)
        await sendAll(BACK, 2, 0, 1)
        await proxy.accept()
        while (!isOver) await sendAll(BACK, 1, 3, 0)
      }
      const over = outage()
      await reader.read(nodes[1], () => before !== undefined && reader.cursor !== before)
      isOver = true
      await over
    }

    for (const reader of readers) {
      await reader.read(someNode(), () => reader.missing(sent).length === 0).catch(() => {})
      t.strictSame(reader.missing(sent), [], `nothing of ${sent.length} is missing after ${reader.streams} streams`)
      t.ok(reader.streams > 3)
      for (let sender = 2; sender < 2 + SENDERS; sender++) {
        for (const channel of [...AWAY, ...BACK]) {
          const is = (one: Sent): boolean => one.sender === sender && one.channel === channel && (one.to ?? reader.user) === reader.user
          const inOrder = [...new Set(reader.heard.filter(is).map(({ id }) => id))]
          t.strictSame(inOrder, sent.filter(is).map(({ id }) => id), `${channel} of ${sender}`)
        }
      }
    }
  })
})

import { setTimeout as sleep } from 'node:timers/promises'
import { allowAll, buildNodes, connect, overBackends, user } from './helper.js'
import { seeded } from './seeded.js'
import { stream } from './stream-client.js'

const CHANNELS = ['group.a', 'group.b', 'group.c', 'group.d', 'group.e']
/** Written to while the stream is away, and while it is back. */
const [AWAY, BACK] = [['group.a', 'group.b', 'user:me'], ['group.c', 'group.d', 'group.e', 'broadcast']]
const SENDERS = 3
const ROUNDS = 5
/** Messages of each sender in a round, while the stream is away and while it is back. */
const [MISSED, LIVE] = [8, 8]
/** More than a cursor reads again: what a cursor says is seen and was not is lost. */
const OLD_MS = 16_000

interface Heard { id: number, sender: number, channel: string }

overBackends((test, backend) => {
  test('streams that are cut at random moments, and come back to either node, miss nothing, and keep the order of each sender', async (t) => {
    const seed = Number(process.env.SEED ?? Date.now() % 1_000_000)
    t.comment(`SEED=${seed}`)
    const random = seeded(seed)
    const nodes = await buildNodes(t, { backend, options: allowAll })
    const someNode = () => nodes[random(2)] ?? nodes[0]
    const sent: Heard[] = []

    const senders = await Promise.all(Array.from({ length: SENDERS }, async (_, n) => {
      const sender = 2 + n
      // One of them changes between the nodes: its order has to hold all the same.
      const sockets = [await connect(nodes[0], user(sender)), await connect(nodes[1], user(sender))] as const
      let count = 0
      return async (channels: readonly string[]): Promise<void> => {
        const socket = sockets[random(2)] ?? sockets[0]
        const channel = channels[random(channels.length)] ?? ''
        const text = { message: `${sender}/${count++}`, conversationId: 'c' }
        const { messageId } = channel === 'broadcast'
          ? await socket.request('broadcast:message', { message: text.message })
          : channel === 'user:me' ? await socket.request('message:direct', { recipientId: 1, ...text }) : await socket.request('message:group', { channel, ...text })
        sent.push({ id: messageId as number, sender, channel })
      }
    }))
    const sendAll = async (channels: readonly string[], each: number, pause: number): Promise<void> => {
      await Promise.all(senders.map(async (send) => {
        for (let i = 0; i < each; i++) {
          await send(channels)
          if (pause > 0) await sleep(random(pause))
        }
      }))
    }
    const heard: Heard[] = []
    let cursor: string | undefined
    let streams = 0
    const query = `?channels=${CHANNELS.join(',')}`
    const read = async (isOver: (ids: ReadonlySet<number>) => boolean): Promise<void> => {
      const client = await stream(someNode(), user(1), query, cursor === undefined ? {} : { 'last-event-id': cursor })
      streams++
      const take = (): ReadonlySet<number> => {
        for (const { event, data } of client.blocks.splice(0)) {
          const { messageId: id, channel, senderId, userId } = data as { messageId?: number, channel?: string, senderId?: number, userId?: number } ?? {}
          if (event === 'subscribed' && data.recovered === false) t.fail(`not recovered: ${JSON.stringify(data)}`)
          if (id !== undefined) heard.push({ id, sender: senderId ?? userId ?? 0, channel: event === 'broadcast:message' ? 'broadcast' : channel ?? 'user:me' })
        }
        return new Set(heard.map(({ id }) => id))
      }
      const deadline = performance.now() + 20_000
      for (;;) {
        const last = client.cursor
        const ids = take()
        cursor = last ?? cursor
        if (isOver(ids)) break
        if (client.ended || performance.now() > deadline) throw new Error(`the stream ended, or is silent: ${sent.filter(({ id }) => !ids.has(id)).length} are missing`)
        await sleep(5)
      }
      client.cut()
    }

    // Before the first message, so that it belongs to the stream.
    await read(() => cursor !== undefined)
    for (let round = 0; round < ROUNDS; round++) {
      await sendAll(AWAY, MISSED, 0)
      nodes[0].clock.advance(OLD_MS)
      let isDone = false
      const sending = sendAll(BACK, LIVE, 12).then(() => { isDone = true })
      while (!isDone) {
        const most = heard.length + random(30)
        const until = performance.now() + random(60)
        await read(() => heard.length > most || performance.now() > until || isDone)
      }
      await sending
    }
    await read((ids) => sent.every(({ id }) => ids.has(id)))
    const ids = new Set(heard.map(({ id }) => id))
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

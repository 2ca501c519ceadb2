import { get, type IncomingMessage } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { createParser } from '../stream-client.js'
import { Client, Lost, Refused, tokenOf, type Target } from './client.js'
import { clusterFor } from './cluster.js'
import { until } from './until.js'

const CHANNELS = ['group.one', 'group.two', 'group.three']
const [READERS, SENDERS] = [6, 4]
/** Milliseconds between two messages of a sender, and of load before each kill and at the end. */
const [PAUSE, PHASE] = [20, 2500]

/** What `EventSource` does: it reads a stream, and when that ends opens the next one with the last cursor. */
class EventReader {
  readonly ids = new Set<number>()
  readonly problems: string[] = []
  cursor: string | undefined
  streams = 0
  #isOver = false
  #response: IncomingMessage | null = null
  readonly #userId: number
  readonly #node: () => Target

  constructor (userId: number, node: () => Target) {
    this.#userId = userId
    this.#node = node
  }

  async run (): Promise<void> {
    while (!this.#isOver) {
      await this.#read().catch(() => {})
      await sleep(50)
    }
  }

  close (): void {
    this.#isOver = true
    this.#response?.destroy()
  }

  async #read (): Promise<void> {
    const parse = createParser(({ event, data, id }) => {
      this.cursor = id ?? this.cursor
      const { messageId, recovered } = data as { messageId?: number, recovered?: boolean } ?? {}
      if (recovered === false) this.problems.push(`not recovered: ${JSON.stringify(data)}`)
      if (event.startsWith('message:') && messageId !== undefined) this.ids.add(messageId)
    })
    await new Promise<void>((resolve, reject) => {
      get(`${this.#node().url}/api/websocket/stream?channels=${CHANNELS.join(',')}`, {
        agent: false, headers: { authorization: `Bearer ${tokenOf({ userId: this.#userId })}`, ...this.cursor === undefined ? {} : { 'last-event-id': this.cursor } }
      }, (response) => {
        this.#response = response
        if (response.statusCode === 200) this.streams++
        response.setEncoding('utf8').on('data', parse).on('error', reject).on('close', resolve)
      }).on('error', reject)
    })
  }
}

t.test('kill -9 of the node of all streams, then of the node of all senders, under load: the streams miss nothing that was acked', async (t) => {
  const { nodes: [streaming, sending, spare] } = await clusterFor(t, [{}, {}, {}])
  let [readAt, sendAt] = [streaming, sending]
  const readers = Array.from({ length: READERS }, (_, i) => new EventReader(101 + i, () => readAt))
  const running = readers.map(async (reader) => { await reader.run() })
  await until('all streams are open', 10_000, () => readers.every(({ cursor }) => cursor !== undefined))

  let isSending = true
  const acked: Array<{ id: number, to?: number }> = []
  const senders = Array.from({ length: SENDERS }, async (_, n) => {
    let client: Client | null = null
    for (let i = 0; isSending; i++) {
      try {
        if (client === null || client.isClosed) client = await Client.connect(sendAt, { userId: 1 + n })
        const text = { message: `${n}/${i}`, conversationId: 'c' }
        const to = 101 + i % READERS
        const { messageId } = i % 4 === 3
          ? await client.request('message:direct', { recipientId: to, ...text }) : await client.request('message:group', { channel: CHANNELS[i % 4], ...text })
        acked.push({ id: messageId as number, ...i % 4 === 3 ? { to } : {} })
      } catch (err) {
        if (!(err instanceof Lost || err instanceof Refused)) throw err
        await sleep(50)
      }
      await sleep(PAUSE)
    }
    await client?.close()
  })

  await sleep(PHASE)
  readAt = spare
  await streaming.kill()
  await sleep(PHASE)
  sendAt = spare
  await sending.kill()
  await sleep(PHASE)
  isSending = false
  await Promise.all(senders)

  const missing = () => readers.map((reader, i) => acked.filter(({ id, to = 101 + i }) => to === 101 + i && !reader.ids.has(id)))
  await until('all came', 15_000, () => missing().every(({ length }) => length === 0)).catch(() => {})
  t.strictSame(missing(), readers.map(() => []), `of ${acked.length} acked messages`)
  t.strictSame(readers.flatMap(({ problems }) => problems), [])
  t.ok(readers.every(({ streams }) => streams > 1))
  t.ok(acked.length > 100, `${acked.length} acked`)
  for (const reader of readers) reader.close()
  await Promise.all(running)
})

import { backends, buildNodes, connect, overBackends, rest, until, user, type Client, type Host } from './helper.js'
import { seeded } from './seeded.js'

/** Actions of one run, and between two comparisons. */
const ACTIONS = 60
const COMPARED_EVERY = 15

interface Told { messageId: number, targetId: number, message: string, editedAt?: string }

/** What a device shows: it knows what it was told, live and when it came back, in whatever order. */
class Device {
  client: Client | null = null
  /** By message, `editedAt` is empty until it is edited. Of several texts of one message, the newest counts. */
  readonly #texts = new Map<number, { text: string, editedAt: string }>()
  readonly #deleted = new Set<number>()
  /** Messages that were told themselves, not only their edits. */
  readonly #known = new Set<number>()
  /** Up to here it has everything: what waits to be confirmed may come before a replay that is lost. */
  #since = 0
  #newest = 0

  constructor (readonly userId: number) {}

  async online (host: Host): Promise<void> {
    this.client = await connect(host, user(this.userId))
    await this.client.request('subscribe', { channel: 'user:me', since: this.#since })
  }

  /** What came and was not looked at is lost, as when a page is closed. */
  async offline (looks: boolean): Promise<void> {
    if (looks) this.look()
    await this.client?.end()
    this.client = null
  }

  /** Takes in what has arrived. */
  look (): void {
    for (const frame of this.client?.frames.splice(0) ?? []) {
      const { event, data } = frame as unknown as { event: string, data: Told }
      if (event === 'message:direct') this.message(data.messageId, data.message, data.editedAt)
      else if (event === 'message:edited') this.text(data.targetId, data.message, data.editedAt)
      else if (event === 'message:deleted') this.deleted(data.targetId)
      else continue
      this.#newest = Math.max(this.#newest, data.messageId)
    }
  }

  message (id: number, text: string, editedAt?: string): void {
    this.#known.add(id)
    this.text(id, text, editedAt)
  }

  text (id: number, text: string, editedAt = ''): void {
    if (editedAt >= (this.#texts.get(id)?.editedAt ?? '')) this.#texts.set(id, { text, editedAt })
  }

  deleted (id: number): void {
    this.#deleted.add(id)
  }

  isComplete (): void {
    this.#since = this.#newest
  }

  get texts (): string[] {
    this.look()
    return [...this.#known].filter((id) => !this.#deleted.has(id)).toSorted((a, b) => a - b).map((id) => `${id} ${this.#texts.get(id)?.text}`)
  }
}

overBackends((test, backend) => {
  test('two users on two devices each see the same messages, marks and unread counts, whatever they do', async (t) => {
    const random = seeded(backends.indexOf(backend) + Number(process.env.SEED ?? 1))
    const nodes = await buildNodes(t, { backend, options: { presenceGrace: 0 } })
    const devices = [new Device(1), new Device(1), new Device(2), new Device(2)]
    const pick = <T>(list: readonly T[]): T => list[random(list.length)] as T
    const marks = new Map([[1, 0], [2, 0]])
    /** Messages that are not deleted: sender and text. */
    const table = new Map<number, { sender: number, text: string }>()
    let serial = 0
    for (const device of devices) await device.online(pick(nodes))

    const raise = (userId: number, id: number): void => { marks.set(userId, Math.max(marks.get(userId) ?? 0, id)) }
    const act: Record<string, (device: Device, client: Client) => Promise<void>> = {
      send: async (device, client) => {
        const text = `m${serial++}`
        const { messageId } = await client.request('message:direct', { recipientId: 3 - device.userId, message: text, conversationId: 'c' }) as { messageId: number }
        table.set(messageId, { sender: device.userId, text })
        device.message(messageId, text)
        raise(device.userId, messageId)
      },
      read: async (device, client) => {
        const ids = [...table.keys()]
        if (ids.length === 0) return
        const id = pick(ids)
        const { readUpTo } = await client.request('conversation:read', { with: 3 - device.userId, messageId: id }) as { readUpTo: number }
        raise(device.userId, id)
        t.ok(readUpTo >= id && readUpTo <= (marks.get(device.userId) ?? 0), `${readUpTo} is the mark`)
      },
      edit: async (device, client) => {
        const own = [...table].filter(([, { sender }]) => sender === device.userId)
        if (own.length === 0) return
        const [id, message] = pick(own)
        const text = `e${serial++}`
        const { editedAt } = await client.request('message:edit', { messageId: id, message: text }) as { editedAt: string }
        message.text = text
        device.text(id, text, editedAt)
      },
      delete: async (device, client) => {
        const own = [...table].filter(([, { sender }]) => sender === device.userId)
        if (own.length === 0) return
        const [id] = pick(own)
        await client.request('message:delete', { messageId: id })
        table.delete(id)
        device.deleted(id)
      },
      offline: async (device) => { await device.offline(random(2) === 0) }
    }

    const compare = async (): Promise<void> => {
      for (const device of devices) if (device.client === null) await device.online(pick(nodes))
      const expected = [...table].map(([id, { text }]) => `${id} ${text}`)
      for (const device of devices) {
        await until('the device shows what is in the table', () => JSON.stringify(device.texts) === JSON.stringify(expected)).catch(() => { t.strictSame(device.texts, expected, `a device of ${device.userId}`) })
        device.isComplete()
      }
      for (const userId of [1, 2]) {
        const unread = [...table].filter(([id, { sender }]) => sender !== userId && id > (marks.get(userId) ?? 0)).length
        for (const host of nodes) {
          const { body } = await rest(host, user(userId), 'GET', `/history?with=${3 - userId}&limit=200`) as { body: { data: Array<{ data: { messageId: number, message: string, deleted?: boolean } }> } }
          t.strictSame(body.data.filter(({ data }) => data.deleted !== true).map(({ data }) => `${data.messageId} ${data.message}`), expected, 'the history')
          if (serial === 0) continue
          const listed = async (): Promise<unknown> => {
            const [entry] = (await rest(host, user(userId), 'GET', '/conversations')).body.data as Array<{ unread: number, read_up_to: number }>
            return [entry?.unread ?? 0, entry?.read_up_to ?? 0]
          }
          const want = [unread, marks.get(userId) ?? 0]
          await until('the list agrees', async () => JSON.stringify(await listed()) === JSON.stringify(want)).catch(async () => { t.strictSame(await listed(), want, `the list of ${userId}`) })
        }
      }
    }

    for (let i = 1; i <= ACTIONS; i++) {
      const device = pick(devices)
      if (device.client === null) await device.online(pick(nodes))
      else await act[pick(['send', 'send', 'send', 'read', 'edit', 'edit', 'delete', 'offline'])]?.(device, device.client)
      if (i % COMPARED_EVERY === 0) await compare()
    }
    t.pass('all four agree with the table')
  })
})

import { backends, buildNodes, connect, overBackends, rest, until, user, type Client, type Host } from './helper.js'
import { seeded } from './seeded.js'

/** Actions of one run, and between two comparisons. */
const ACTIONS = 60
const COMPARED_EVERY = 15

/** `edit` is the id of the newest edit that was taken in: those of two devices may come in any order. */
interface Shown { text: string, edit: number }

/** What a device shows: it knows what it was told, live and when it came back. */
class Device {
  client: Client | null = null
  readonly shown = new Map<number, Shown>()
  /** Up to here it has everything: what waits to be confirmed may come before a replay that is lost. */
  #since = 0
  #newest = 0

  constructor (readonly userId: number) {}

  async online (host: Host): Promise<void> {
    this.client = await connect(host, user(this.userId))
    await this.client.request('subscribe', { channel: 'user:me', since: this.#since })
  }

  async offline (): Promise<void> {
    this.look()
    await this.client?.end()
    this.client = null
  }

  /** Takes in what has arrived. */
  look (): void {
    for (const frame of this.client?.frames.splice(0) ?? []) {
      const { event, data } = frame as unknown as { event: string, data: { messageId: number, targetId: number, message: string } }
      if (event === 'message:direct') this.shown.set(data.messageId, { text: data.message, edit: this.shown.get(data.messageId)?.edit ?? 0 })
      else if (event === 'message:edited') this.edited(data.targetId, data.message, data.messageId)
      else if (event === 'message:deleted') this.shown.delete(data.targetId)
      else continue
      this.saw(data.messageId)
    }
  }

  edited (id: number, text: string, edit: number): void {
    const known = this.shown.get(id)
    if (known !== undefined && edit > known.edit) this.shown.set(id, { text, edit })
  }

  saw (id: number): void {
    this.#newest = Math.max(this.#newest, id)
  }

  isComplete (): void {
    this.#since = this.#newest
  }

  get texts (): string[] {
    this.look()
    return [...this.shown].toSorted(([a], [b]) => a - b).map(([id, { text }]) => `${id} ${text}`)
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
        device.shown.set(messageId, { text, edit: 0 })
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
        const { messageId } = await client.request('message:edit', { messageId: id, message: text }) as { messageId: number }
        message.text = text
        device.edited(id, text, messageId)
      },
      delete: async (device, client) => {
        const own = [...table].filter(([, { sender }]) => sender === device.userId)
        if (own.length === 0) return
        const [id] = pick(own)
        await client.request('message:delete', { messageId: id })
        table.delete(id)
        device.shown.delete(id)
      },
      offline: async (device) => { await device.offline() }
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

import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { Client, Refused, type Frame, type Target } from './client.js'
import { clusterFor } from './cluster.js'
import { until, within } from './until.js'

/** Members of the room on the node that closes, 5000 in `ROOM=5000 npm run test:deploy`. */
const ROOM = Number(process.env.ROOM ?? 100)
/** Each of them receives the room and these. */
const CHANNELS = ['group.room', ...Array.from({ length: 97 }, (_, n) => `group.c${n}`), 'broadcast', 'user:me']
/** Half of what each statement takes longer. */
const SLOW_MS = 100

/** A user who comes back to where the load balancer leads, and resumes. */
class Member {
  readonly userId: number
  /** Ids of each channel, in the order in which they arrived. */
  readonly got = new Map<string, number[]>()
  readonly problems: string[] = []
  readonly goodbyes: Frame['data'][] = []
  #cursors = new Map<string, number>()
  #epoch: string | undefined
  isBack = false

  constructor (userId: number) {
    this.userId = userId
  }

  async open (node: Target, next: Target): Promise<Client> {
    const client = await Client.connect(node, { userId: this.userId })
    client.keep = false
    client.onFrame = (frame) => { this.#take(frame) }
    void client.closed.then(async ({ code }) => {
      if (code !== 1012) return
      await this.open(next, next).catch((err: unknown) => { this.problems.push(String(err)) })
      this.isBack = true
    })
    const places = CHANNELS.map((channel) => ({ channel, since: this.#cursors.get(channel) }))
    const answer = await client.request('subscribe', { channels: places, epoch: this.#epoch })
    this.#epoch = answer.epoch as string
    for (const [i, { channel, position, recovered, error }] of (answer.channels as Frame['data'][]).entries()) {
      if (error !== undefined || recovered === false) this.problems.push(`${channel}: ${JSON.stringify(error ?? 'not recovered')}`)
      const name = CHANNELS[i] ?? ''
      if (!this.#cursors.has(name)) this.#cursors.set(name, position as number)
    }
    return client
  }

  #take ({ event, data }: Frame): void {
    if (event === 'error') this.goodbyes.push(data)
    if (event === 'user:offline') this.problems.push(`user ${data.userId} was reported offline`)
    if (event !== 'message:group') return
    const { channel, messageId } = data as { channel: string, messageId: number }
    const ids = this.got.get(channel) ?? []
    if (messageId <= (ids.at(-1) ?? 0)) this.problems.push(`${messageId} on ${channel} after ${ids.at(-1)}`)
    ids.push(messageId)
    this.got.set(channel, ids)
    this.#cursors.set(channel, messageId)
  }
}

t.test('A node closes while the database takes 200 ms for each statement: its users reconnect, and miss nothing', async (t) => {
  const { nodes: [a, b] } = await clusterFor(t, [{ proxied: 'database' }, {}])
  const members = Array.from({ length: ROOM }, (_, n) => new Member(100 + n))
  for (let at = 0; at < ROOM; at += 25) await Promise.all(members.slice(at, at + 25).map(async (member) => await member.open(b, a)))
  const observer = new Member(10)
  await observer.open(a, a)
  // It never reads, and asks for all there is.
  const stuck = await Client.connect(a, { userId: 11 })
  stuck.pause()
  stuck.send('subscribe', { channels: CHANNELS.map((channel) => ({ channel, since: 0 })) })

  const sender = await Client.connect(a, { userId: 12 })
  const sent: Array<Promise<{ channel: string, id: number }>> = []
  let isSending = true
  const sending = (async () => {
    for (let n = 0; isSending; n++) {
      const channel = n % 2 === 0 ? 'group.room' : CHANNELS[1 + n % 97] ?? ''
      sent.push(sender.request('message:group', { channel, message: `${n}`, conversationId: 'c' }).then(({ messageId }) => ({ channel, id: messageId as number })))
      sent.at(-1)?.catch(() => {})
      await sleep(20)
    }
  })()
  await until('messages flow', 10_000, () => (observer.got.get('group.room')?.length ?? 0) > 20)
  a.proxy().delay(SLOW_MS)
  t.equal(await within(15_000, 'the close', b.stop()), 0)
  await until('everyone is back', 60_000, () => members.every(({ isBack }) => isBack))
  a.proxy().delay(0)
  isSending = false
  await sending
  const published = await Promise.all(sent)
  const expected = new Map<string, number[]>()
  for (const { channel, id } of published) expected.set(channel, [...expected.get(channel) ?? [], id])
  await until('everything has come', 30_000, () => [...members, observer].every(({ got, problems }) => problems.length > 0 || [...expected].every(([channel, ids]) => (got.get(channel)?.length ?? 0) >= ids.length)))
  for (const { userId, got, problems, goodbyes } of [...members, observer]) {
    t.strictSame(problems, [], `user ${userId}`)
    t.strictSame([...expected].filter(([channel, ids]) => String(got.get(channel)) !== String(ids)).map(([channel]) => channel), [], 'everything, once, in order')
    if (userId >= 100) t.match(goodbyes, [{ code: 'RT_UNAVAILABLE', retryAfter: Number }], 'with a retryAfter')
  }
  t.comment(`${published.length} messages, ${ROOM} members`)
  t.equal(await sender.request('ping', {}).then(() => true, (err: unknown) => err instanceof Refused ? err.code : String(err)), true)
  stuck.terminate()
})

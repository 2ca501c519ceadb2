import { setTimeout as sleep } from 'node:timers/promises'
import { realtime } from '../dialects.js'
import { frameOf, type RawClient } from '../raw-client.js'
import { JWT_SECRET, startRealtime, type Target } from '../servers.js'
import { clubOf, frame, subscribe, userOf } from './coming-back.js'

interface Load { users: number, rooms: number, rate: number }

/** Milliseconds: before the deploy, and after everybody is back. */
const [BEFORE, AFTER] = [3000, 3000]
/** Nobody is waited for any longer. */
const TIMEOUT = 60_000
const MESSAGE = /^{"event":"message:group","data":{"messageId":(\d+)/
const AT = /at=(\d+\.\d+)/
const RETRY_AFTER = /"retryAfter":(\d+)/

/** A user with a socket that comes back, in the way of the package's client. */
class User {
  readonly #index: number
  readonly #deploy: Deploy
  /** Ids of the events that arrived. */
  readonly received = new Set<number>()
  /** Events that arrived once more, and were dropped by their id as the protocol says. */
  repeats = 0
  /** Messages that were shown, by what makes each of them unique, and how many of them were shown again under another id. */
  readonly #shown = new Set<string>()
  shownTwice = 0
  #cursors: Map<string, number>
  #epoch: string | undefined
  #client: RawClient | null = null
  #retryAfter = 0
  #wasAway = false

  constructor (index: number, rooms: string[], deploy: Deploy) {
    this.#index = index
    this.#deploy = deploy
    this.#cursors = new Map(rooms.map((room) => [room, -1]))
  }

  async open (server: Target): Promise<void> {
    const client = await realtime.open(server.port, userOf(this.#index))
    this.#client = client
    const ended = new Promise<never>((_resolve, reject) => {
      client.onClose = (code) => {
        reject(new Error(`closed with ${code}`))
        void this.#comeBack(code === 1013 ? 5000 : 0)
      }
    })
    ended.catch(() => {})
    client.onFrame = (payload) => { this.#take(payload, server) }
    const places = [...this.#cursors].map(([channel, since]) => since < 0 ? { channel } : { channel, since })
    const { epoch, channels } = await Promise.race([subscribe(client, places, this.#epoch, 0, (payload) => { this.#take(payload, server) }), ended])
    this.#epoch = epoch
    for (const { channel, position, recovered, error } of channels) {
      if (error !== undefined || recovered === false) throw new Error(`not recovered: ${JSON.stringify({ channel, error })}`)
      if ((this.#cursors.get(channel) ?? 0) < 0) this.#cursors.set(channel, position)
    }
  }

  close (): void {
    if (this.#client === null) return
    this.#client.onClose = null
    this.#client.close()
  }

  #take (payload: Buffer, server: Target): void {
    const text = payload.toString('latin1')
    const id = Number(MESSAGE.exec(text)?.[1] ?? 0)
    if (id === 0) {
      if (text.startsWith('{"event":"error"')) this.#retryAfter = Number(RETRY_AFTER.exec(text)?.[1] ?? 0) * 1000
      return
    }
    if (this.received.has(id)) {
      this.repeats++
      return
    }
    this.received.add(id)
    const sentAt = AT.exec(text)?.[1] ?? ''
    if (this.#shown.has(sentAt)) this.shownTwice++
    this.#shown.add(sentAt)
    const channel = /"channel":"([^"]+)"/.exec(text)?.[1] ?? ''
    this.#cursors.set(channel, Math.max(this.#cursors.get(channel) ?? 0, id))
    // Events missed while away do not count as late.
    if (!this.#wasAway) this.#deploy.arrived(Number(sentAt), server)
  }

  async #comeBack (least: number): Promise<void> {
    const { deploy } = { deploy: this.#deploy }
    deploy.away++
    this.#wasAway = true
    for (let wait = Math.max(least, this.#retryAfter), tries = 0; ; wait = 0, tries++) {
      await sleep(wait + Math.random() * Math.max(1000 * 2 ** tries, wait))
      this.#retryAfter = 0
      try {
        await this.open(deploy.someNode())
        break
      } catch (err) {
        // Closed while it subscribed: the next attempt has been scheduled.
        if (String(err).includes('closed with')) return void deploy.away--
        if (deploy.isOver) return
      }
    }
    deploy.away--
    deploy.backAt = performance.now()
  }
}

class Deploy {
  nodes: Target[] = []
  away = 0
  backAt = 0
  isOver = false
  /** Of messages that reached members who were on the node that stayed all the time, while the other one was away. */
  readonly took: number[] = []
  staying: Target | null = null
  isMeasuring = false

  someNode (): Target {
    return this.nodes[Math.floor(Math.random() * this.nodes.length)] as Target
  }

  arrived (at: number, node: Target): void {
    if (this.isMeasuring && node === this.staying) this.took.push(performance.now() - at)
  }
}

/** Half of the users are on a node that is closed and started again. */
export async function deploy ({ users: count, rooms: perUser, rate }: Load, env: Record<string, string>): Promise<Record<string, number>> {
  const state = new Deploy()
  const staying = await startRealtime({ JWT_SECRET, ...env })
  const closing = await startRealtime({ JWT_SECRET, ...env })
  const started: Target[] = [staying, closing]
  const rooms = Array.from({ length: perUser }, (_, n) => `conversation.deploy${Date.now()}.${n}`)
  const users = Array.from({ length: count }, (_, i) => new User(i, rooms, state))
  const publishers: RawClient[] = []
  let [offline, sending] = [0, true]
  const published = new Map<number, number>()
  try {
    for (let club = 1; club <= clubOf(count - 1); club++) {
      const publisher = await realtime.open(staying.port, { id: 2_000_000 + club, club })
      publisher.send(frame('subscribe', { channel: 'presence' }))
      publisher.onFrame = (payload) => {
        const text = payload.toString('latin1')
        if (text.startsWith('{"event":"user:offline"')) offline++
        const id = /^{"event":"ack","id":7,"data":{"messageId":(\d+)/.exec(text)?.[1]
        if (id !== undefined) published.set(Number(id), club)
      }
      publishers.push(publisher)
    }
    for (let at = 0; at < count; at += 50) await Promise.all(users.slice(at, at + 50).map(async (user, n) => { await user.open(n % 2 === 0 ? staying : closing) }))
    await sleep(2000)
    state.staying = staying
    const send = async (): Promise<void> => {
      const began = performance.now()
      for (let n = 0; sending; n++) {
        const due = began + n * 1000 / rate
        if (due > performance.now()) await sleep(due - performance.now())
        publishers[n % publishers.length]?.send(frameOf(JSON.stringify({
          event: 'message:group', id: 7, data: { channel: rooms[n % rooms.length], message: `at=${due.toFixed(3)} ${'x'.repeat(100)}`, conversationId: 'bench' }
        })))
      }
    }
    const sent = send()
    await sleep(BEFORE)
    state.nodes = [staying]
    state.isMeasuring = true
    const closedAt = performance.now()
    const replaced = closing.close().then(async () => {
      const again = await startRealtime({ JWT_SECRET, ...env })
      started.push(again)
      state.nodes = [staying, again]
    })
    await sleep(1000)
    await replaced
    while (state.away > 0 && performance.now() - closedAt < TIMEOUT) await sleep(100)
    state.isMeasuring = false
    const seconds = state.away > 0 ? Infinity : (state.backAt - closedAt) / 1000
    await sleep(AFTER)
    sending = false
    await sent
    await sleep(1000)
    let [lost, twice, repeats] = [0, 0, 0]
    for (const [i, { received, shownTwice, repeats: dropped }] of users.entries()) {
      for (const [id, club] of published) if (club === clubOf(i) && !received.has(id)) lost++
      twice += shownTwice
      repeats += dropped
    }
    const sorted = state.took.toSorted((a, b) => a - b)
    return { 's until all are back': seconds, lost, 'told twice': twice, 'repeats dropped by id': repeats, 'told offline': offline, 'ms p99 on the other node': sorted[Math.floor(sorted.length * 0.99)] ?? NaN }
  } finally {
    state.isOver = true
    for (const user of users) user.close()
    for (const publisher of publishers) publisher.close()
    await Promise.all(started.map(async (server) => { await server.stop() }))
  }
}

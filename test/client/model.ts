import type * as Package from '../../client/src/index.js'
import type { ClientError } from '../../client/src/index.js'
import { seeded } from '../seeded.js'
import { Behaviour, FakeServer, nameOf, tokenOf, type Who } from './fake-server.js'
import { VirtualClock } from './virtual-clock.js'

/* Drives a client against a fake server through a random sequence and checks what must hold whatever happens. The same seed
   gives the same sequence. */

type Client = Package.WebSocketClient
export type Create = (options: Package.WebSocketClientOptions) => Client

const CHANNELS = ['group.a', 'group.b', 'group.c']
const PEER = 9
const ACTIONS = 25
/** Milliseconds within which a client is back when nothing is in its way any more: the longest delay, twice, and an attempt. */
const BACK_WITHIN = 120_000
const SPACING = 1000
const FINAL = new Set(['RT_FORBIDDEN', 'RT_UNAVAILABLE', 'RT_INVALID_DATA', 'RT_CLIENT_STOPPED', 'RT_IDENTITY_CHANGED', 'RT_INTERNAL', 'RT_OUTCOME_UNKNOWN', 'RT_QUEUE_FULL', 'RT_SOCKET_CLOSED', 'RT_UNAUTHENTICATED'])

interface Sent { text: string, lane: string, by: string | null, ack?: number, err?: ClientError, viaSocket: boolean }
/** What is known of a channel that is received: everything above `from` has to be delivered. */
interface Received { from: number, holders: number, last: number }

/** Listeners that the client has on the page. */
export class FakePage {
  readonly listeners = new Map<string, Set<(event: object) => void>>()
  hidden = false
  addEventListener = (type: string, listener: (event: object) => void): void => { this.listeners.set(type, (this.listeners.get(type) ?? new Set()).add(listener)) }
  removeEventListener = (type: string, listener: (event: object) => void): void => { this.listeners.get(type)?.delete(listener) }
  dispatch (type: string, event: object = {}): void { for (const listener of [...this.listeners.get(type) ?? []]) listener(event) }
  get count (): number { return [...this.listeners.values()].reduce((sum, { size }) => sum + size, 0) }
}

export const page = new FakePage()
Object.assign(globalThis, { document: page, addEventListener: page.addEventListener, removeEventListener: page.removeEventListener })

const unhandled: unknown[] = []
process.on('unhandledRejection', (err) => { unhandled.push(err) })

/** What was wrong in the sequence of this seed; nothing: all held. */
export async function runSequence (seed: number, create: Create): Promise<{ problems: string[], steps: string[] }> {
  const world = new World(seed, create)
  try {
    await world.run()
  } catch (err) {
    world.problem(`the model failed: ${(err as Error).stack}`)
  }
  return world
}

class World {
  readonly problems: string[] = []
  readonly steps: string[] = []
  readonly #random: (n: number) => number
  readonly #clock = new VirtualClock()
  readonly #server: FakeServer
  readonly #client: Client
  readonly #clientClock
  readonly #kind: 'token' | 'cookie'
  #who: Who = { tenant: 1, user: 1 }
  #serial = 0
  /** Who the client said it is, last. */
  #known: string | null = null
  /** What was asked for since `connect()` belongs to whoever that will be. */
  #isUnknown = true
  /** The next message makes its listener call `disconnect()`. */
  #endsAtNext = false
  #sends: Sent[] = []
  #received = new Map<string, Received>()
  #emitted = new Set<string>()
  #gaps = new Map<string, number>()
  #pending = 0
  #tokenCalls = 0
  #isStopped = false
  #stoppedAt = -1
  /** Requests of the client before it was stopped. */
  #sentBefore = 0
  #texts = 0

  constructor (seed: number, create: Create) {
    this.#random = seeded(seed)
    this.#server = new FakeServer(this.#clock, this.#chance(75))
    this.#server.does.latency = () => 1 + this.#random(40)
    this.#kind = this.#chance(80) ? 'token' : 'cookie'
    if (this.#kind === 'cookie') this.#server.cookie = this.#who
    const random = (): number => this.#random(1000) / 1000
    this.#clientClock = this.#clock.forClient(random)
    this.#client = create({
      baseUrl: 'http://server/api/websocket',
      ...(this.#kind === 'token' ? { token: async () => await this.#token() } : {}),
      ...this.#server.connectTo(),
      clock: this.#clientClock,
      autoConnect: false
    })
    this.#listen()
  }

  problem (what: string): void { this.problems.push(`${Math.round(this.#clock.time)} ms: ${what.replace(/x{20,}/g, 'x…')}`) }

  #chance (percent: number): boolean { return this.#random(100) < percent }
  #pick<T> (from: readonly T[]): T { return from[this.#random(from.length)]! }

  async #token (): Promise<string> {
    if (++this.#tokenCalls > 1) this.problem('the token function is asked while it is asked')
    const token = tokenOf(this.#who, this.#serial)
    const isSlow = this.#chance(5)
    await new Promise<void>((resolve) => { this.#clock.after(isSlow ? 20_000 : 1 + this.#random(50), resolve) })
    this.#tokenCalls--
    if (this.#chance(3)) throw new Error('no token now')
    return token
  }

  // Events of the client

  #listen (): void {
    const client = this.#client
    const identify = (name: string): void => {
      if (this.#known !== null && this.#known !== name) {
        this.#received.clear()
        this.#gaps.clear()
        // What it was sent long ago, and never confirmed, comes again: it has forgotten all of that user.
        for (const key of this.#emitted) if (key.startsWith(`${name}/`)) this.#emitted.delete(key)
      }
      this.#known = name
      this.#isUnknown = false
    }
    client.on('identity-changed', ({ userId, clubId }) => {
      identify(clubId === undefined ? this.#nameOnServer() : `${clubId}/${userId}`)
    })
    client.on('connected', ({ userId }) => {
      if (this.#isStopped) this.problem('connected after disconnect()')
      // What comes while it resumes, and what breaks then, is what mostly goes wrong.
      if (this.#chance(15)) {
        this.#others()
        this.#server.publish({ tenant: this.#who.tenant, user: PEER }, 'broadcast:message', 'broadcast', { message: `o${this.#texts++}` })
        if (this.#chance(50)) this.#clock.after(this.#random(120), () => { this.#server.drop() })
      }
      if (this.#known === null) this.#known = this.#nameOnServer()
      this.#isUnknown = false
      if (Number(this.#known.split('/')[1]) !== userId) this.problem(`connected as ${userId}, while ${this.#known} is known`)
    })
    client.on('subscribed', ({ channel, position }) => {
      const received = this.#received.get(channel)
      if (received === undefined) this.#received.set(channel, { from: position, holders: 0, last: 0 })
    })
    client.on('unsubscribed', ({ channel }) => { this.#received.delete(channel) })
    client.on('gap', ({ channel, position }) => {
      const key = `${this.#known}/${channel}`
      this.#gaps.set(key, (this.#gaps.get(key) ?? 0) + 1)
      this.#received.set(channel, { from: position, holders: 0, last: 0 })
    })
    for (const event of ['message:group', 'message:direct', 'broadcast:message'] as const) client.on(event, (data) => { this.#take(event, data as never) })
    client.on('error', ({ code }) => { if (!/^RT_[A-Z_]+$/.test(code)) this.problem(`an error without a code: ${code}`) })
  }

  #nameOnServer (): string { return this.#server.registered.get(this.#client.connectionId) ?? nameOf(this.#who) }

  #take (event: string, data: { messageId: number, tenant: number, channel?: string, senderId?: number, userId?: number, message: string }): void {
    const { messageId: id, message, tenant } = data
    if (this.#isStopped) this.problem(`${message} is delivered after disconnect()`)
    // With a new epoch the client forgets what it was sent.
    const key = `${this.#known}/${this.#client.epoch}/${id}/${message}`
    if (this.#emitted.has(key)) this.problem(`${message} is delivered twice`)
    this.#emitted.add(key)
    if (this.#known !== null && tenant !== Number(this.#known.split('/')[0])) this.problem(`${message} of tenant ${tenant} is delivered to ${this.#known}`)
    const own = this.#sends.find(({ text }) => text === message)
    if (own?.ack !== undefined && own.viaSocket && event === 'message:group') this.problem(`${message} is delivered though its ack came`)
    const channel = { 'message:group': data.channel, 'broadcast:message': 'broadcast' }[event]
    const received = this.#received.get(channel ?? `private-user.${this.#known?.split('/')[1]}`)
    if (received === undefined) return
    if (id < received.last && channel !== undefined) this.problem(`${message} (${id}) is delivered after ${received.last}`)
    received.last = Math.max(received.last, id)
    if (!this.#endsAtNext) return
    this.#endsAtNext = false
    this.#stop()
  }

  // What happens

  readonly #actions: Array<[number, string, () => void]> = [
    [6, 'connect', () => { this.#start() }],
    [2, 'disconnect', () => { this.#stop() }],
    [2, 'disconnect at the next message', () => { this.#endsAtNext = true }],
    [8, 'subscribe', () => { this.#subscribe(this.#pick(CHANNELS)) }],
    [3, 'unsubscribe', () => { this.#track(this.#client.unsubscribe(this.#pick(CHANNELS))) }],
    [12, 'send', () => { this.#send(this.#pick(CHANNELS)) }],
    [4, 'send directly', () => { this.#send(null) }],
    [2, 'send too much', () => { this.#send(this.#pick(CHANNELS), 'x'.repeat(70_000)) }],
    [14, 'others write', () => { this.#others() }],
    [2, 'others write much', () => { for (let i = 0; i < 60; i++) this.#others() }],
    [4, 'type', () => { this.#client.recordTyping('c', true, { channel: this.#pick(CHANNELS) }) }],
    [2, 'ask', () => { this.#track(this.#client.updatePresence('away')) }],
    [6, 'drop', () => { this.#server.drop() }],
    [4, 'close', () => { this.#server.drop(this.#pick([1012, 1013, 4008, 4429, 4401, 1001])) }],
    [4, 'server away', () => { this.#server.does.isDown = true; this.#server.drop() }],
    [6, 'server back', () => { this.#heal(false) }],
    [3, 'sockets blocked', () => { this.#server.does.sockets = this.#pick(['refused', 'forbidden', 'mute'] as const); if (this.#chance(50)) this.#server.drop() }],
    [2, 'silent', () => { this.#server.does.isSilent = true }],
    [3, 'slow', () => { this.#server.does.latency = () => 1 + this.#random(this.#pick([300, 3000, 12_000])) }],
    [3, 'unavailable', () => { this.#server.does.isUnavailable = true }],
    [3, 'rights cannot be asked', () => { this.#server.does.failing.add(this.#pick(CHANNELS)) }],
    [3, 'storage', () => { this.#server.does.storage = this.#pick(['none', 'unknown'] as const) }],
    [2, 'poison', () => { const n = this.#random(3); this.#server.does.poison = (text) => Number(text.slice(1)) % 3 === n }],
    [4, 'token expires', () => { this.#expire() }],
    [4, 'another user', () => { this.#switch() }],
    [2, 'another epoch', () => { if (this.#server.epoch !== null) { this.#server.restore(this.#random(4)); if (this.#chance(70)) this.#server.drop(this.#pick([null, 1012])) } }],
    [2, 'sleep', () => { this.#sleep(this.#random(2) === 0 ? 3600_000 : 60_000) }],
    [3, 'wake', () => { page.dispatch(this.#pick(['online', 'visibilitychange', 'pageshow'])) }],
    [1, 'into the cache', () => { page.dispatch('pagehide', { persisted: true }) }]
  ]

  async run (): Promise<void> {
    if (this.#chance(90)) this.#start()
    const total = this.#actions.reduce((sum, [weight]) => sum + weight, 0)
    for (let i = 0; i < ACTIONS; i++) {
      let at = this.#random(total)
      const [, name, act] = this.#actions.find(([weight]) => (at -= weight) < 0)!
      this.steps.push(`${Math.round(this.#clock.time)} ${name} [${this.#client.state} ${this.#client.transport} ${this.#known} ${this.#server.epoch}]`)
      act()
      await this.#clock.advance(this.#random(this.#pick([20, 300, 3000, 15_000])))
      this.#checkStopped()
    }
    await this.#settle()
    await this.#end()
  }

  #start (): void {
    if (this.#client.state === 'stopped') {
      this.#isStopped = false
      this.#isUnknown = true
    }
    this.#client.connect()
  }

  #stop (): void {
    this.#isStopped = true
    const stopped = this.#client.disconnect()
    this.#stoppedAt = this.#clock.time
    this.#sentBefore = this.#server.sent.length
    this.#track(stopped)
  }

  /** Only the end of a registration may follow. */
  #checkStopped (): void {
    if (!this.#isStopped) return
    const later = this.#server.sent.slice(this.#sentBefore).filter(({ what }) => what !== 'POST /disconnect')
    if (later.length > 0) this.problem(`sent after disconnect() at ${this.#stoppedAt}: ${later.map(({ what }) => what).join(', ')}`)
    this.#sentBefore = this.#server.sent.length
  }

  #subscribe (channel: string): void {
    this.#track(this.#client.subscribe(channel))
  }

  #send (channel: string | null, text = `m${this.#texts++}`): void {
    const sent: Sent = { text, lane: channel ?? 'peer', by: this.#isUnknown ? null : this.#known, viaSocket: false }
    const sending = channel === null
      ? this.#client.send('message:direct', { recipientId: PEER, message: text, conversationId: 'c' })
      : this.#client.send('message:group', { channel, message: text, conversationId: 'c' })
    this.#sends.push(sent)
    this.#track(sending.then(({ messageId }) => {
      sent.ack = messageId
      sent.viaSocket = this.#client.transport === 'websocket'
    }, (err: unknown) => {
      sent.err = err as ClientError
      if (!FINAL.has(sent.err.code)) this.problem(`a send is rejected with ${sent.err.code}: ${sent.err.message}`)
      if (text.length > 65_536 && !/INVALID_DATA|STOPPED|CHANGED|UNKNOWN/.test(sent.err.code)) this.problem(`a send that is too large is rejected with ${sent.err.code}`)
    }))
  }

  #others (): void {
    const who = this.#chance(80) ? this.#who : { tenant: 2, user: 1 }
    const from = { tenant: who.tenant, user: PEER }
    const message = `o${this.#texts++}`
    if (this.#chance(15)) this.#server.publish(from, 'broadcast:message', 'broadcast', { message })
    else if (this.#chance(70)) this.#server.publish(from, 'message:group', this.#pick(CHANNELS), { message, conversationId: 'c' })
    else this.#server.publish(from, 'message:direct', `private-user.${who.user}`, { message, conversationId: 'c' }, null, who.user)
  }

  /** After an hour the server has let go of a machine that slept: what was on its way never comes. */
  #sleep (ms: number): void {
    this.#clock.sleep(ms)
    if (ms > 60_000) this.#server.drop()
  }

  #expire (): void {
    const code = this.#pick(['RT_TOKEN_EXPIRED', 'RT_TOKEN_REVOKED', 'RT_UNAUTHENTICATED'])
    if (this.#kind === 'cookie') {
      for (const socket of [...this.#server.sockets]) {
        socket.deliver('error', { code: 'RT_TOKEN_EXPIRED', message: '' })
        socket.closedBy(4401)
      }
      return
    }
    this.#server.bad.set(tokenOf(this.#who, this.#serial++), code)
    const warned = this.#chance(50)
    for (const socket of [...this.#server.sockets]) {
      if (warned) {
        socket.deliver('token:expiring', { expiresAt: '' })
        continue
      }
      socket.deliver('error', { code, message: '' })
      socket.closedBy(4401)
    }
  }

  /** The application logs in as somebody else, and the client finds out by its next token. */
  #switch (): void {
    const before = nameOf(this.#who)
    // By REST an older server says nothing of the tenant.
    this.#who = this.#pick([{ tenant: 1, user: 1 }, { tenant: 1, user: 2 }, { tenant: this.#server.epoch === null ? 1 : 2, user: 1 }])
    if (nameOf(this.#who) === before) return
    this.#serial++
    if (this.#kind === 'cookie') this.#server.cookie = this.#who
    if (this.#chance(60)) this.#server.drop(this.#pick([null, 4401]))
  }

  #heal (isWhole: boolean): void {
    const { latency, isSilent, sockets } = this.#server.does
    // What was lost on the way does not come later: such a line is dead.
    if (isSilent || sockets === 'mute') this.#server.drop()
    this.#server.does = Object.assign(new Behaviour(), { latency: isWhole ? () => 1 + this.#random(40) : latency })
  }

  #track (promise: Promise<unknown>): void {
    this.#pending++
    promise.catch(() => {}).finally(() => { this.#pending-- })
  }

  // What must hold in the end

  async #settle (): Promise<void> {
    this.steps.push(`${Math.round(this.#clock.time)} heal`)
    this.#endsAtNext = false
    this.#heal(true)
    if (this.#kind === 'cookie') this.#server.cookie = this.#who
    // Who was disconnected permanently comes back by hand.
    this.#start()
    const healedAt = this.#clock.time
    while (this.#client.transport !== 'websocket' && this.#clock.time - healedAt < BACK_WITHIN) {
      await this.#clock.advance(5000)
      if (this.#client.state === 'stopped') this.#start()
    }
    if (this.#client.transport !== 'websocket') return this.problem(`not back within ${BACK_WITHIN} ms: ${this.#client.state} ${this.#client.transport}`)
    // What waits for its retry, and replays.
    await this.#clock.advance(90_000)
    if (this.#client.transport !== 'websocket') await this.#clock.advance(90_000)
    if (this.#pending > 0) this.problem(`${this.#pending} promises are not settled though all is well`)
    this.#checkSends()
    this.#checkTold()
  }

  #checkSends (): void {
    const ids = new Map<string, { id: number, text: string }>()
    for (const sent of this.#sends) {
      const rows = this.#server.log.filter(({ data }) => data.message === sent.text)
      if (rows.length > 1) this.problem(`${sent.text} is stored ${rows.length} times`)
      const [row] = rows
      if (sent.ack !== undefined && row === undefined && !this.#server.lost.has(sent.text)) this.problem(`${sent.text} is acked and not stored`)
      if (row === undefined) continue
      const by = nameOf({ tenant: row.tenant, user: row.sender })
      if (sent.by !== null && sent.by !== by) this.problem(`${sent.text} of ${sent.by} is stored as ${by}`)
      if (sent.err !== undefined && !/UNKNOWN|STOPPED|CHANGED|INTERNAL/.test(sent.err.code)) this.problem(`${sent.text} is stored and was rejected with ${sent.err.code}`)
      const lane = `${by}/${sent.lane}`
      const before = ids.get(lane)
      // One that failed by itself is overtaken by those behind it.
      if (before !== undefined && row.id < before.id && !this.#wasPoison) this.problem(`${sent.text} (${row.id}) is stored before ${before.text} (${before.id})`)
      if (sent.ack !== undefined) ids.set(lane, { id: row.id, text: sent.text })
    }
  }

  get #wasPoison (): boolean { return this.steps.some((step) => / (poison|unavailable) /.test(step)) }

  #checkTold (): void {
    const own = new Set(this.#sends.map(({ text }) => text))
    const [tenant, user] = (this.#known ?? '').split('/').map(Number)
    for (const [channel, { from }] of this.#received) {
      for (const row of this.#server.log) {
        if (row.channel !== channel || row.tenant !== tenant || row.id <= from) continue
        if (own.has(String(row.data.message))) continue
        if (![...this.#epochs()].some((epoch) => this.#emitted.has(`${this.#known}/${epoch}/${row.id}/${String(row.data.message)}`))) {
          this.problem(`${String(row.data.message)} (${row.id}) on ${channel} is never delivered to ${this.#known}, from ${from}`)
        }
      }
    }
    // A direct message that waited is sent, whenever the client came.
    for (const row of this.#server.log) {
      if (row.to === user && row.tenant === tenant && !row.confirmed) this.problem(`${String(row.data.message)} is never confirmed`)
    }
    for (const [key, count] of this.#gaps) {
      const reasons = (this.#server.gaps.get(key) ?? 0) + (this.#server.epoch === null ? 0 : Number(this.#server.epoch.slice(1)) - 1)
      if (count > reasons) this.problem(`${key}: ${count} gaps for ${reasons} reasons`)
    }
  }

  #epochs (): string[] {
    return this.#server.epoch === null ? ['undefined'] : Array.from({ length: Number(this.#server.epoch.slice(1)) }, (_, i) => `e${i + 1}`)
  }

  async #end (): Promise<void> {
    this.#stop()
    await this.#clock.advance(40_000)
    this.#checkStopped()
    if (this.#pending > 0) this.problem(`${this.#pending} promises are not settled after disconnect()`)
    if (this.#clientClock.pending > 0) this.problem(`${this.#clientClock.pending} timers are left`)
    if (page.count > 0) this.problem(`${page.count} listeners are left`)
    if ([...this.#server.sockets].length > 0) this.problem('a socket is left')
    const attempts = this.#server.sent.filter(({ what }) => what === 'socket').map(({ at }) => at)
    for (let i = 1; i < attempts.length; i++) if (attempts[i]! - attempts[i - 1]! < SPACING) this.problem(`two sockets within ${attempts[i]! - attempts[i - 1]!} ms`)
    for (const err of unhandled.splice(0)) this.problem(`unhandled rejection: ${String((err as Error).stack ?? err)}`)
    if (this.problems.length > 0) page.listeners.clear()
  }
}

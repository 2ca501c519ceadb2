import type { Fetch, RequestOptions, ResponseLike, SocketClass } from '../../client/src/index.js'
import type { VirtualClock } from './virtual-clock.js'

/* A server of fastify-realtime as far as a client can tell, in this process and in virtual time: it answers, fails, falls silent,
   restarts and loses its log as instructed. */

export interface Who { tenant: number, user: number }
interface Stored { id: number, tenant: number, sender: number, channel: string, event: string, data: Record<string, unknown>, to?: number, confirmed: boolean }
interface Frame { event: string, data?: Record<string, unknown>, id?: number }

export const MAX_REPLAY = 50

export const tokenOf = ({ tenant, user }: Who, serial = 0): string => `${tenant}.${user}.${serial}`
export const nameOf = ({ tenant, user }: Who): string => `${tenant}/${user}`

class Refusal extends Error {
  constructor (readonly code: string, readonly more: object = {}) { super(code) }
}

/** What the server does to whoever comes. */
export class Behaviour {
  /** Nobody listens. */
  isDown = false
  /** Sockets are refused on the way: with a close, or only with an error, as by the policy of a page. */
  sockets: 'open' | 'refused' | 'forbidden' | 'mute' = 'open'
  /** Nothing is answered; what comes is done. */
  isSilent = false
  /** Milliseconds from one side to the other. */
  latency = (): number => 5
  /** Channels whose rights cannot be asked for now; those that are refused. */
  failing = new Set<string>()
  forbidden = new Set<string>()
  /** `authenticate` fails. */
  isUnavailable = false
  /** What becomes of durable sends. */
  storage: 'works' | 'none' | 'unknown' = 'works'
  /** Texts that cannot be stored, and what the server says about them. */
  poison = (_text: string): boolean => false
  poisonCode = 'RT_INTERNAL'
  /** Characters of a frame. */
  maxFrame = 65_536
  /** Seconds after which rights can be asked for again. */
  retryAfter = (_channel: string): number => 1
  /** Answers requests in the server's place, or lets them through. */
  proxy = (_path: string): { status: number, body: string } | null => null
  /** Acks come twice. */
  repeats = false
}

export class FakeServer {
  readonly clock: VirtualClock
  does = new Behaviour()
  /** Null: an older server, which has none. */
  epoch: string | null
  log: Stored[] = []
  /** Those of acked sends that a restored backup lost. */
  readonly lost = new Set<unknown>()
  #nextId = 1
  #dedupe = new Map<string, { at: number, ack: object }>()
  readonly sockets = new Set<FakeSocket>()
  readonly registered = new Map<string, string>()
  /** Tokens that are no good any more, and why. */
  readonly bad = new Map<string, string>()
  /** Who the cookie says it is. */
  cookie: Who | null = null
  /** Everything a client sent, at the moment it did. */
  readonly sent: Array<{ at: number, what: string }> = []
  /** Reasons for a gap that a channel was given, by `user/channel`. */
  readonly gaps = new Map<string, number>()
  /** Users whose presence was set by a request. */
  readonly presence: string[] = []
  /** Answers what watches ask. */
  watch: (event: string, data: Record<string, unknown>) => object = () => { throw new Refusal('RT_INVALID_FRAME') }
  #cookies = 0

  constructor (clock: VirtualClock, isModern: boolean) {
    this.clock = clock
    this.epoch = isModern ? 'e1' : null
  }

  /** What a client is given instead of the network. */
  connectTo (): { fetch: Fetch, WebSocket: SocketClass } {
    const open = (): FakeSocket => new FakeSocket(this)
    return {
      fetch: async (url, init) => await this.#fetch(new URL(url), init),
      WebSocket: class { constructor () { return open() } } as unknown as SocketClass
    }
  }

  /** The server's own name for a connection that gave none. */
  nextName (): string { return `server-${++this.#cookies}` }

  // Time and trouble

  drop (code: number | null = null): void {
    for (const socket of [...this.sockets]) socket.closedBy(code)
  }

  /** As after a restored backup: the newest rows are gone, and the ids begin again far away. */
  restore (rows: number): void {
    const kept = Math.max(0, this.log.length - rows)
    for (const { id, data } of this.log.splice(kept)) {
      this.lost.add(data.message)
      for (const [key, { ack }] of this.#dedupe) if ((ack as { messageId: number }).messageId === id) this.#dedupe.delete(key)
    }
    this.#nextId += 1_000_000
    if (this.epoch !== null) this.epoch = `e${Number(this.epoch.slice(1)) + 1}`
  }

  // The log

  publish (who: Who, event: string, channel: string, data: Record<string, unknown>, except?: FakeSocket | null, to?: number): Stored {
    const stored: Stored = { id: this.#nextId++, tenant: who.tenant, sender: who.user, channel, event, data, confirmed: to === undefined, ...(to === undefined ? {} : { to }) }
    this.log.push(stored)
    for (const socket of this.sockets) {
      if (socket.who?.tenant !== who.tenant || socket === except) continue
      const isCopy = to !== undefined && socket.who.user === who.user && to !== who.user
      if (socket.channels.has(channel) || isCopy) socket.deliver(event, this.frameOf(stored))
    }
    return stored
  }

  frameOf ({ id, data, channel, sender, event, tenant, to }: Stored): Record<string, unknown> {
    return { messageId: id, ...data, tenant, ...(event === 'message:direct' ? { senderId: sender, ...(this.epoch === null ? {} : { recipientId: to }) } : { userId: sender, channel }) }
  }

  newest (tenant: number, channel: string): number {
    return this.log.findLast((one) => one.tenant === tenant && one.channel === channel)?.id ?? 0
  }

  /** What a subscriber missed, and where it is now. */
  after (who: Who, channel: string, since: number, epoch: string | undefined): { events: Stored[], recovered: boolean } {
    const head = this.#nextId - 1
    const events = this.log.filter((one) => one.tenant === who.tenant && one.channel === channel && one.id > since)
    const isOther = this.epoch !== null && epoch !== undefined && epoch !== this.epoch
    if (!isOther && since <= head && events.length <= MAX_REPLAY) return { events, recovered: true }
    const key = `${nameOf(who)}/${channel}`
    this.gaps.set(key, (this.gaps.get(key) ?? 0) + 1)
    return { events: [], recovered: false }
  }

  pendingFor ({ tenant, user }: Who): Stored[] {
    return this.log.filter((one) => one.tenant === tenant && one.to === user && !one.confirmed)
  }

  confirm ({ tenant, user }: Who, id: number): void {
    for (const one of this.log) if (one.id === id && one.tenant === tenant && one.to === user) one.confirmed = true
  }

  // Rules that frames and requests share

  authenticate (token: string | undefined): Who {
    if (this.does.isUnavailable) throw new Refusal('RT_UNAVAILABLE', { retryAfter: 2 })
    if (token === undefined) {
      if (this.cookie === null) throw new Refusal('RT_UNAUTHENTICATED')
      return this.cookie
    }
    const bad = this.bad.get(token)
    if (bad !== undefined) throw new Refusal(bad)
    const [tenant = 0, user = 0] = token.split('.').map(Number)
    return { tenant, user }
  }

  requireChannel (who: Who, channel: string): void {
    if (this.does.failing.has(channel)) throw new Refusal('RT_UNAVAILABLE', { retryAfter: this.does.retryAfter(channel) })
    if (this.does.forbidden.has(channel) || (channel.startsWith('private-user.') && channel !== `private-user.${who.user}`)) throw new Refusal('RT_FORBIDDEN')
  }

  /** A durable send. */
  accept (who: Who, event: string, data: Record<string, unknown>, from: FakeSocket | null): object {
    const { dedupeId, message, recipientId } = data as { dedupeId: string, message: string, recipientId?: number }
    const key = `${nameOf(who)}/${dedupeId}`
    const known = this.#dedupe.get(key)
    if (known !== undefined && this.clock.time - known.at < 300_000) return known.ack
    if (this.does.poison(message)) throw new Refusal(this.does.poisonCode)
    if (this.does.storage === 'none') throw new Refusal('RT_STORAGE_UNAVAILABLE', { retryAfter: 1, outcome: 'none' })
    const channel = recipientId === undefined ? String(data.channel) : `private-user.${recipientId}`
    const { id } = this.publish(who, event, channel, { message, conversationId: 'c' }, recipientId === who.user ? null : from, recipientId)
    const ack = { messageId: id, timestamp: '' }
    this.#dedupe.set(key, { at: this.clock.time, ack })
    if (this.does.storage === 'unknown') throw new Refusal('RT_STORAGE_UNAVAILABLE', { retryAfter: 1, outcome: 'unknown' })
    return ack
  }

  // REST

  async #fetch ({ pathname, searchParams }: URL, init: RequestOptions): Promise<ResponseLike> {
    const path = pathname.replace('/api/websocket', '')
    const signal = init.signal as AbortSignal | undefined
    this.sent.push({ at: this.clock.time, what: `${init.method ?? 'GET'} ${path}` })
    const wait = async (): Promise<void> => {
      await new Promise<void>((resolve, reject) => {
        const cancel = this.clock.after(this.does.latency(), resolve)
        signal?.addEventListener('abort', () => {
          cancel()
          reject(new Error('aborted'))
        })
      })
    }
    const begun = this.clock.time
    await wait()
    // Or its connection is long gone.
    if (this.does.isDown || this.clock.time - begun > 300_000) throw new TypeError('fetch failed')
    const proxied = this.does.proxy(path)
    if (proxied !== null) return { ok: proxied.status === 200, status: proxied.status, headers: { get: () => null }, json: async () => JSON.parse(proxied.body) as unknown }
    let status = 200
    let answer: object
    try {
      const body = init.body === undefined ? {} : JSON.parse(init.body) as Record<string, unknown>
      const token = init.headers?.authorization?.slice('Bearer '.length)
      answer = this.#answer(this.authenticate(token), path, body, searchParams)
    } catch (err) {
      if (!(err instanceof Refusal)) throw err
      status = { RT_FORBIDDEN: 403, RT_UNAVAILABLE: 503, RT_INTERNAL: 500, RT_STORAGE_UNAVAILABLE: 503, RT_NOT_FOUND: 404, RT_CONNECTION_TAKEN: 409 }[err.code] ?? 401
      answer = { statusCode: status, code: err.code, message: err.code, ...err.more }
    }
    if (this.does.isSilent) await new Promise((_, reject) => { signal?.addEventListener('abort', () => { reject(new Error('aborted')) }) })
    await wait()
    const { retryAfter } = answer as { retryAfter?: number }
    return { ok: status === 200, status, headers: { get: () => retryAfter === undefined ? null : String(retryAfter) }, json: async () => answer }
  }

  #answer (who: Who, path: string, body: Record<string, unknown>, query: URLSearchParams): object {
    const connectionId = body.connection_id as string
    if (path === '/connect') {
      if ((this.registered.get(connectionId) ?? nameOf(who)) !== nameOf(who)) throw new Refusal('RT_CONNECTION_TAKEN')
      this.registered.set(connectionId, nameOf(who))
      return { data: { connection_id: connectionId, user_id: who.user, ...(this.epoch === null ? {} : { club_id: who.tenant }) } }
    }
    if (path === '/disconnect') {
      if (!this.registered.delete(connectionId)) throw new Refusal('RT_NOT_FOUND')
      for (const socket of this.sockets) if (socket.connectionId === connectionId) socket.closedBy(4000)
      return { message: 'Disconnected successfully' }
    }
    if (path === '/heartbeat') {
      if (!this.registered.has(connectionId)) throw new Refusal('RT_NOT_FOUND')
      return { data: {} }
    }
    if (path === '/events') {
      const [channel, since, epoch] = [query.get('channel') ?? '', Number(query.get('since')), query.get('epoch') ?? undefined]
      this.requireChannel(who, channel)
      const isOther = this.epoch !== null && epoch !== undefined && epoch !== this.epoch
      const events = isOther ? [] : this.log.filter((one) => one.tenant === who.tenant && one.channel === channel && one.id > since)
      const page = events.slice(0, Number(query.get('limit')))
      const recovered = !isOther && since < this.#nextId
      return {
        data: page.map((one) => ({ event: one.event, data: this.frameOf(one) })),
        position: page.at(-1)?.id ?? (recovered ? since : this.newest(who.tenant, channel)),
        recovered,
        more: page.length < events.length,
        ...(this.epoch === null ? {} : { epoch: this.epoch })
      }
    }
    if (path === '/messages/delivered') {
      for (const id of body.message_ids as number[]) this.confirm(who, id)
      return { data: { delivered: body.message_ids } }
    }
    if (path === '/presence/update') this.presence.push(nameOf(who))
    const event = { '/messages/group': 'message:group', '/messages/direct': 'message:direct' }[path]
    if (event === undefined) return { data: {} }
    const ack = this.accept(who, event, { ...body, dedupeId: body.dedupe_id, recipientId: body.recipient_id }, null) as { messageId: number }
    return { data: { message_id: ack.messageId, timestamp: '' } }
  }
}

/** A socket, both of its ends. */
export class FakeSocket {
  who: Who | null = null
  connectionId = ''
  token: string | undefined
  readonly channels = new Set<string>()
  readonly #server: FakeServer
  readonly #listeners: Record<string, Array<(event: object) => void>> = { open: [], message: [], error: [], close: [] }
  #state: 'connecting' | 'open' | 'closed' = 'connecting'
  /** Nothing overtakes what was sent before it, in either direction. */
  #arrives = [0, 0]

  constructor (server: FakeServer) {
    this.#server = server
    server.sent.push({ at: server.clock.time, what: 'socket' })
    server.clock.after(server.does.latency(), () => { this.#open() })
  }

  get isClosed (): boolean { return this.#state === 'closed' }

  addEventListener (type: string, listener: (event: object) => void): void { this.#listeners[type]?.push(listener) }

  send (text: string): void {
    if (this.#state === 'connecting') throw new Error('still connecting')
    this.#server.sent.push({ at: this.#server.clock.time, what: (JSON.parse(text) as Frame).event })
    this.#pass(0, () => {
      if (this.isClosed || this.#server.does.sockets === 'mute') return
      if (text.length > this.#server.does.maxFrame) return this.closedBy(1009)
      this.#receive(JSON.parse(text) as Frame)
    })
  }

  /** By the client: no listener receives it before the peer has answered. */
  close (): void {
    if (this.#state === 'connecting') this.#server.clock.after(1, () => { this.#emit('close', { code: 1006, reason: '' }) })
    else if (!this.isClosed) this.#pass(0, () => { this.#end({ code: 1000, reason: '' }) })
    this.#server.sockets.delete(this)
    if (this.#state === 'connecting') this.#state = 'closed'
  }

  /** By the server, or with null by the network. */
  closedBy (code: number | null): void {
    this.#server.sockets.delete(this)
    if (code === null) this.#end({ code: 1006, reason: '' })
    else this.#pass(1, () => { this.#end({ code, reason: 'test' }) })
  }

  deliver (event: string, data: object, id?: number): void {
    this.#pass(1, () => {
      for (let times = event === 'ack' && this.#server.does.repeats ? 2 : 1; times > 0; times--) {
        if (this.#state === 'open' && !this.#server.does.isSilent) this.#emit('message', { data: JSON.stringify({ event, data, id }) })
      }
    })
  }

  #open (): void {
    const server = this.#server
    const { does } = server
    if (this.#state !== 'connecting') return
    if (does.isDown || does.sockets === 'refused') {
      this.#emit('error', {})
      return this.#end({ code: 1006, reason: '' })
    }
    if (does.sockets === 'forbidden') return this.#emit('error', {})
    this.#state = 'open'
    this.#server.sockets.add(this)
    this.#emit('open', {})
    if (does.sockets !== 'mute' && this.#server.cookie !== null) this.#answering(undefined, () => { this.#welcome(undefined, undefined, server.nextName(), undefined) })
  }

  #pass (direction: 0 | 1, task: () => void): void {
    const { clock, does } = this.#server
    const at = Math.max(this.#arrives[direction] ?? 0, clock.time + does.latency())
    this.#arrives[direction] = at
    clock.after(at - clock.time, task)
  }

  #end (how: { code: number, reason: string }): void {
    if (this.isClosed) return
    this.#state = 'closed'
    this.#server.sockets.delete(this)
    this.#emit('close', how)
  }

  #emit (type: string, event: object): void {
    for (const listener of this.#listeners[type] ?? []) listener(event)
  }

  #answering (id: number | undefined, task: () => void): void {
    try {
      task()
    } catch (err) {
      if (!(err instanceof Refusal)) throw err
      this.deliver('error', { code: err.code, message: err.code, ...err.more }, id)
      if (this.who === null) this.closedBy(/UNAVAIL/.test(err.code) ? 1013 : 4401)
    }
  }

  #receive ({ event, data = {}, id }: Frame): void {
    if (event === 'ping') return this.deliver('pong', {})
    this.#answering(id, () => {
      if (event === 'auth') return this.#auth(data as { token: string, connectionId: string }, id)
      if (this.who === null) throw new Refusal('RT_UNAUTHENTICATED')
      this.#dispatch(this.who, event, data, id)
    })
  }

  #auth ({ token, connectionId }: { token: string, connectionId: string }, id: number | undefined): void {
    const who = this.#server.authenticate(token)
    if (this.who !== null && nameOf(this.who) !== nameOf(who)) {
      this.deliver('error', { code: 'RT_IDENTITY_MISMATCH', message: '' }, id)
      return this.closedBy(4401)
    }
    if (this.who === null) return this.#welcome(token, id, connectionId, who)
    this.token = token
    this.deliver('ack', {}, id)
  }

  #welcome (token: string | undefined, id: number | undefined, connectionId: string, who = this.#server.authenticate(token)): void {
    const { epoch, registered } = this.#server
    this.who = who
    this.token = token
    this.connectionId = connectionId
    registered.set(connectionId, nameOf(who))
    for (const channel of [`private-user.${who.user}`, 'broadcast', 'presence']) this.channels.add(channel)
    const data = { status: 'ok', connectionId, userId: who.user, clubId: who.tenant, channels: [...this.channels], expiresAt: null, heartbeatInterval: 25_000, ...(epoch === null ? {} : { epoch }) }
    this.deliver(id === undefined ? 'authenticated' : 'ack', data, id)
    for (const one of this.#server.pendingFor(who)) this.deliver(one.event, this.#server.frameOf(one))
  }

  #dispatch (who: Who, event: string, data: Record<string, unknown>, id: number | undefined): void {
    const server = this.#server
    const ack = (answer: object): void => { this.deliver('ack', answer, id) }
    if (event === 'subscribe') return this.#subscribe(who, data, id)
    if (event === 'unsubscribe') {
      this.channels.delete(String(data.channel))
      return ack({ channel: data.channel })
    }
    if (event === 'message:delivered') {
      server.confirm(who, Number(data.messageId))
      return ack({})
    }
    if (event === 'message:group' || event === 'message:direct') return ack(server.accept(who, event, data, this))
    ack(event.startsWith('presence:') ? server.watch(event, data) : {})
  }

  #subscribe (who: Who, data: Record<string, unknown>, id: number | undefined): void {
    const server = this.#server
    const epoch = server.epoch === null ? {} : { epoch: server.epoch }
    const many = data.channels as Array<{ channel: string, since?: number }> | undefined
    const later: Array<() => void> = []
    const one = ({ channel, since }: { channel: string, since?: number }): object => {
      server.requireChannel(who, channel)
      this.channels.add(channel)
      const position = server.newest(who.tenant, channel)
      if (since === undefined) return { channel, position }
      const { events, recovered } = server.after(who, channel, since, data.epoch as string | undefined)
      for (const event of events) later.push(() => { this.deliver(event.event, server.frameOf(event)) })
      return { channel, position, recovered }
    }
    if (many === undefined) this.deliver('ack', { ...one(data as { channel: string }), ...epoch }, id)
    else {
      if (server.epoch === null) throw new Refusal('RT_INVALID_DATA')
      this.deliver('ack', {
        ...epoch,
        channels: many.map((wanted) => {
          try {
            return one(wanted)
          } catch (err) {
            return { channel: wanted.channel, error: { code: (err as Refusal).code, message: '', ...(err as Refusal).more } }
          }
        })
      }, id)
    }
    for (const replay of later) replay()
  }
}

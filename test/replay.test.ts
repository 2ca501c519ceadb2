import { mock } from 'node:test'
import t from 'tap'
import type { PageSource } from '../lib/delivery/replayer.js'
import type { ChannelKey } from '../lib/keys.js'
import { disordered, frameOf, lacking, Log, newHub, SlowReader, type Event, type Subscription } from './replay-model.js'
import { seeded, turn } from './suites.js'

const OWN: ChannelKey = '1/private-user.1'
const KEYS: ChannelKey[] = ['1/a', '1/b', OWN]
const SENDERS = [1, 2, 3, 4]
/** Each round is another seed. A long run: REPLAY_ROUNDS=20000. A single one: REPLAY_FIRST=17 REPLAY_ROUNDS=1. */
const FIRST = Number(process.env.REPLAY_FIRST ?? 0)
const ROUNDS = Number(process.env.REPLAY_ROUNDS ?? 400)

// A read that failed is tried again when a test says so.
t.before(() => { mock.timers.enable({ apis: ['setTimeout'] }) })
t.teardown(() => { mock.timers.reset() })

/** A node with slow readers, another node whose events arrive here too, and everything that can happen between them. */
class World {
  readonly random: (n: number) => number
  readonly log: Log
  readonly hub = newHub()
  readonly readers: SlowReader[]
  readonly subscriptions = new Map<string, Subscription>()
  /** In the order in which they were handed on, and on their way here. */
  readonly handed: Event[] = []
  readonly underWay: Event[] = []
  /** By channel with a gap: what should have come since. */
  readonly gaps = new Map<ChannelKey, Event[]>()
  /** What came to the members of each channel, live. */
  readonly accepted = new Map<string, Set<Event>>()
  /** Since when each has members here. */
  readonly since = new Map<string, number>()
  readonly originOf = new Map(SENDERS.map((sender) => [sender, sender % 2]))
  most = 0
  closed = 0
  #readers = 0

  constructor (seed: number) {
    this.random = seeded(seed)
    this.log = new Log(this.random)
    this.readers = [this.newReader(), this.newReader(), this.newReader()]
  }

  pick = <T>(from: readonly T[]): T => from[this.random(from.length)] as T

  newReader (): SlowReader {
    const reader: SlowReader = new SlowReader(`c${this.#readers++}`, this.log, (key, first) => {
      const subscription = this.subscriptions.get(`${reader.id}/${key}`)
      if (reader.closed || subscription === undefined) return
      subscription.isLate = true
      reader.replayer.begin(this.hub.join(key, reader) as Subscription['joining'], { first })
    })
    return reader
  }

  begin (): void {
    const sender = this.pick(SENDERS)
    // Who was answered may go on at another node.
    if (this.random(8) === 0 && !this.log.events.some((event) => event.sender === sender && event.handedAt === null)) this.originOf.set(sender, this.random(2))
    const key = this.pick(KEYS)
    this.log.events.push({
      id: this.log.events.length + 1,
      key,
      copyTo: sender === 1 && key !== OWN && this.random(2) === 0 ? OWN : null,
      sender,
      origin: this.originOf.get(sender) ?? 0,
      createdAt: this.log.now++,
      committed: false,
      handedAt: null,
      confirmed: false,
      sentAgain: false,
      except: null
    })
  }

  /** The next of one node: it commits and hands on in order. */
  #next (isNext: (event: Event) => boolean): Event | undefined {
    const origin = this.random(2)
    return this.log.events.find((event) => event.origin === origin && isNext(event))
  }

  commit (): void {
    const event = this.#next(({ committed }) => !committed)
    if (event !== undefined) event.committed = true
  }

  handOn (): void {
    const event = this.#next(({ handedAt }) => handedAt === null)
    if (event?.committed !== true) return
    event.handedAt = this.log.now++
    this.handed.push(event)
    this.underWay.push(event)
  }

  arrive (): void {
    const event = this.underWay.shift()
    if (event === undefined) return
    event.except = this.random(6) === 0 ? this.pick(this.readers).id : null
    for (const key of [event.key, event.copyTo]) {
      if (key === null) continue
      const gap = this.gaps.get(key)
      gap?.push(event)
      // A copy is on its sender's channel alone.
      if (gap !== undefined && key === event.key && this.random(2) === 0) continue
      if (gap === undefined) this.#accept(key, [event])
      this.hub.deliver(key, [frameOf(event, key, { excludeConnectionId: event.except })])
    }
    this.#letGoOfClosed()
  }

  hold (): void {
    // Copies stand on other channels of the log, and are not filled in.
    const key = this.pick(KEYS.filter((one) => one !== OWN))
    if (this.hub.startGap(key) !== null && !this.gaps.has(key)) this.gaps.set(key, [])
  }

  fill (): void {
    const [key, gap] = this.pick([...this.gaps]) ?? []
    if (key === undefined || gap === undefined) return
    this.gaps.delete(key)
    // Everything that is committed from there on, those that wait behind the gap and others that came already among it.
    const from = Math.min(...gap.map(({ id }) => id), this.log.events.length)
    const filled = this.log.committed.filter((event) => event.key === key && (event.handedAt === null || this.underWay.includes(event) ||
      (event.id >= from && event.handedAt >= (this.since.get(key) ?? 0))))
    this.#accept(key, [...filled, ...gap])
    this.hub.fillGap(key, filled.map((event) => frameOf(event, key)))
    this.#letGoOfClosed()
  }

  sendAgain (): void {
    const event = this.pick(this.handed)
    if (event === undefined || event.confirmed || this.underWay.includes(event)) return
    event.sentAgain = true
    this.hub.deliver(event.key, [frameOf(event, event.key, { isRetry: true })])
    this.#letGoOfClosed()
  }

  confirm (): void {
    const event = this.pick(this.handed)
    if (event !== undefined && !this.underWay.includes(event)) event.confirmed = true
  }

  subscribe (): void {
    const [reader, key] = [this.pick(this.readers), this.pick(KEYS)]
    const name = `${reader.id}/${key}`
    const known = this.subscriptions.get(name)
    // Elsewhere the client has seen some of what was handed on, in that order.
    const seen = this.handed.slice(0, known === undefined ? this.random(this.handed.length + 1) : 0).filter((event) => event.key === key).map(({ id }) => id)
    const since = Math.max(0, ...seen)
    const kind = this.random(3)
    const joining = this.hub.join(key, reader, kind === 2 ? since : 0) as Subscription['joining']
    const subscription = known ?? {
      reader, key, joining, startedBefore: 0, replies: [], seen: null, withWaiting: false, arrived: new Set(), isLate: false, heardBefore: reader.heard.get(key)?.length ?? 0
    }
    if (joining !== subscription.joining) subscription.startedBefore = Math.max(subscription.startedBefore, subscription.joining.start)
    subscription.joining = joining
    // Less what is on its way.
    if (!this.since.has(key)) this.since.set(key, this.underWay[0]?.handedAt ?? this.log.now++)
    this.subscriptions.set(name, subscription)
    if (kind === 0) {
      subscription.replies.push({})
    } else if (kind === 1) {
      if (known !== undefined || key !== OWN) {
        subscription.replies.push({})
        return
      }
      subscription.withWaiting = true
      subscription.replies.push({ first: this.#waiting(key) })
    } else {
      const isLate = this.log.isLate(key, since)
      const isBehind = isLate || this.log.committed.some((event) => event.key === key && event.id > since)
      subscription.seen = new Set(seen)
      subscription.replies.push(isBehind ? { since, isLate } : {})
    }
  }

  /** A stream comes back with one cursor over all channels, having heard what was handed on until some moment. */
  comeBack (): void {
    const reader = this.pick(this.readers)
    if ([...this.subscriptions.values()].some((one) => one.reader === reader)) return
    const before = this.handed.slice(0, this.random(this.handed.length + 1))
    const cursor = Math.max(0, ...before.map(({ id }) => id))
    const storedAt = this.log.events.find(({ id }) => id === cursor)?.createdAt ?? 0
    // Wherever reading begins: what is below it is read one by one.
    const since = Math.max(0, cursor - this.random(6))
    reader.replayer.beginTogether(KEYS.map((key) => {
      const joining = this.hub.join(key, reader, cursor) as Subscription['joining']
      if (!this.since.has(key)) this.since.set(key, this.underWay[0]?.handedAt ?? this.log.now++)
      const withWaiting = key === OWN && this.random(2) === 0
      this.subscriptions.set(`${reader.id}/${key}`, {
        reader, key, joining, startedBefore: cursor, replies: [], seen: new Set(before.filter((event) => event.key === key).map(({ id }) => id)), withWaiting,
        arrived: new Set(), isLate: false, heardBefore: reader.heard.get(key)?.length ?? 0
      })
      const late = this.log.committed.filter((event) => event.key === key && event.id <= since && (event.handedAt ?? Infinity) >= storedAt)
      return { joining, late: late.map(({ id }) => id), first: withWaiting ? this.#waiting(key) : undefined }
    }), since)
    this.#letGoOfClosed()
  }

  reply (): void {
    const waiting = [...this.subscriptions.values()].filter(({ replies }) => replies.length > 0)
    const subscription = this.pick(waiting)
    const reply = subscription?.replies.shift()
    if (subscription === undefined || reply === undefined) return
    if (reply.since !== undefined) subscription.heardBefore = subscription.reader.heard.get(subscription.key)?.length ?? 0
    subscription.reader.replayer.begin(subscription.joining, reply)
    this.#letGoOfClosed()
  }

  leave (): void {
    const [name, subscription] = this.pick([...this.subscriptions]) ?? []
    if (name === undefined || subscription === undefined) return
    this.subscriptions.delete(name)
    this.hub.leave(subscription.key, subscription.reader)
    this.#forget(subscription.key)
  }

  take (): void {
    this.pick(this.readers).take(this.random(400))
  }

  answer (): void {
    if (this.log.reads > 0) this.log.answer()
  }

  async retry (): Promise<void> {
    mock.timers.tick(2000)
    await turn()
  }

  /** Everything that began ends. */
  async settle (): Promise<void> {
    while (this.log.events.some(({ handedAt }) => handedAt === null)) {
      this.commit()
      this.handOn()
    }
    while (this.underWay.length > 0) this.arrive()
    while (this.gaps.size > 0) this.fill()
    while ([...this.subscriptions.values()].some(({ replies }) => replies.length > 0)) this.reply()
    this.log.fails = false
    for (let quiet = 0; quiet < 5;) {
      quiet = this.log.reads > 0 ? 0 : quiet + 1
      while (this.log.reads > 0) this.log.answer()
      for (const reader of this.readers) reader.take(Infinity)
      await this.retry()
      await turn()
    }
    this.hub.flush()
    this.#letGoOfClosed()
  }

  problems (): string[] {
    return [...this.subscriptions].flatMap(([name, subscription]) => {
      const { reader, joining } = subscription
      const missing = lacking(subscription, this.log)
      return [
        ...missing.length > 0 ? [`${name} lacks ${missing.join()}: joining is ${JSON.stringify({ over: joining.isOver, due: joining.isDue })}`] : [],
        ...disordered(subscription).map((what) => `${name} heard ${what}`),
        ...joining.isOver ? [] : [`${name} is not live`],
        ...reader.aside !== 0 ? [`${name} still has ${reader.aside} bytes set aside`] : []
      ]
    }).concat(this.readers.filter(({ most, capacity }) => most > capacity).map(({ id, most }) => `for ${id} ${most} bytes waited`))
  }

  #waiting (key: ChannelKey): PageSource {
    let position = 0
    return {
      read: async () => await this.log.waiting(key, position),
      written: ({ ids }, count) => { position = ids[count - 1] ?? position },
      skip: () => {}
    }
  }

  #accept (key: ChannelKey, events: readonly Event[]): void {
    const subscriptions = this.#on(key)
    if (subscriptions.length === 0) return
    const accepted = this.accepted.get(key) ?? new Set()
    this.accepted.set(key, accepted)
    for (const event of events) {
      if (!accepted.has(event)) for (const { arrived } of subscriptions) arrived.add(event)
      accepted.add(event)
    }
  }

  /** A channel without members knows nothing. */
  #forget (key: ChannelKey): void {
    if (this.#on(key).length > 0) return
    this.gaps.delete(key)
    this.accepted.delete(key)
    this.since.delete(key)
  }

  #on (key: ChannelKey): Subscription[] {
    return [...this.subscriptions.values()].filter((subscription) => subscription.key === key)
  }

  /** Who was too slow is gone, and another comes. */
  #letGoOfClosed (): void {
    for (const [at, reader] of this.readers.entries()) {
      this.most = Math.max(this.most, reader.most)
      if (!reader.closed) continue
      this.closed++
      for (const key of KEYS) {
        if (this.subscriptions.delete(`${reader.id}/${key}`)) this.hub.leave(key, reader)
        this.#forget(key)
      }
      this.readers[at] = this.newReader()
    }
  }
}

t.test('However commits, gaps, slow reads and slower readers interleave, each reader gets everything, in order, within its room', async (t) => {
  let heard = 0
  let closed = 0
  for (let round = FIRST; round < FIRST + ROUNDS; round++) {
    const world = new World(round)
    const steps: Array<() => void | Promise<void>> = [
      ...Array.from({ length: 4 }, () => [() => { world.begin() }, () => { world.commit() }, () => { world.handOn() }, () => { world.arrive() }, () => { world.answer() }, turn]).flat(),
      () => { world.subscribe() }, () => { world.subscribe() }, () => { world.reply() }, () => { world.reply() }, () => { world.reply() },
      () => { world.take() }, () => { world.take() }, () => { world.take() },
      () => { world.leave() }, () => { world.hold() }, () => { world.fill() }, () => { world.fill() }, () => { world.sendAgain() },
      () => { world.confirm() }, () => { world.comeBack() }, async () => { await world.retry() }
    ]
    for (let step = 0; step < 400; step++) await world.pick(steps)()
    await world.settle()
    heard += world.readers.reduce((sum, reader) => sum + [...reader.heard.values()].reduce((count, events) => count + events.length, 0), 0)
    closed += world.closed
    const problems = world.problems()
    if (problems.length > 0) return t.fail(`round ${round}: ${problems.join('\n')}`)
  }
  t.comment(`${heard} events heard, ${closed} readers were too slow`)
  t.ok(heard > 25 * ROUNDS, `${heard} events were heard in all`)
})

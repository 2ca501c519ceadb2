import type { Test } from 'tap'
import { COUNTER_TTL_MS, SequenceTracker, type Counter } from '../../lib/backplane/sequence-tracker.js'
import { seeded } from '../suites.js'

const KEY = '1/a'
const COMPARE = 10_000

/** A counter as Redis keeps it, messages that may be lost on the way, and a node that receives the others. */
class World {
  now = 1_000_000
  /** Redis cannot be asked. */
  away = false
  counter: { number: number, endsAt: number } | null = null
  readonly sequences = new SequenceTracker(
    async (keys) => {
      if (this.away) throw new Error('away')
      return keys.map(() => this.read())
    },
    () => this.now,
    async (ms) => { this.now += ms })

  read (): Counter {
    if (this.counter !== null && this.counter.endsAt <= this.now) this.counter = null
    return this.counter === null ? { number: 0, ttl: -2 } : { number: this.counter.number, ttl: this.counter.endsAt - this.now }
  }

  /** Numbers a message as the script does. */
  next (): { number: number, first: boolean } {
    this.now++
    this.read()
    const first = this.counter === null
    // Sometimes more is left of it.
    this.counter = { number: this.counter === null ? this.now * 1000 : this.counter.number + 1, endsAt: this.now + COUNTER_TTL_MS + this.now % 15_000 }
    return { number: this.counter.number, first }
  }

  /** A message that arrives; false: the node says that one before it was missed. */
  received (): boolean {
    const { number, first } = this.next()
    return this.sequences.accept(KEY, number, first)
  }

  /** Time passes, with the comparisons that fall into it; what they found. */
  async pass (ms: number): Promise<string[]> {
    const found: string[] = []
    for (const end = this.now + ms; this.now < end;) {
      this.now = Math.min(this.now + COMPARE, end)
      found.push(...await this.sequences.findGaps().catch(() => []))
    }
    return found
  }

  async begin (): Promise<void> {
    this.sequences.add(KEY)
    await this.sequences.initialise([KEY])
  }
}

export function sequences (t: Test): void {
  t.test('a counter that expired because it was not used is not a gap, however often', async (t) => {
    const world = new World()
    await world.begin()
    for (const idle of [0, 1000, COUNTER_TTL_MS - 1, COUNTER_TTL_MS, COUNTER_TTL_MS + 1, COUNTER_TTL_MS + COMPARE, 3 * COUNTER_TTL_MS, 0, 20 * COUNTER_TTL_MS]) {
      t.strictSame(await world.pass(idle), [], `${idle} ms`)
      t.ok(world.received(), `after ${idle} ms`)
    }
    for (let at = -COMPARE; at <= COMPARE; at += 997) {
      t.strictSame(await world.pass(COUNTER_TTL_MS + at), [])
      t.ok(world.received(), `${at} ms from its end`)
    }
  })

  t.test('a counter that expires just after a node subscribed is not a gap either', async (t) => {
    for (const left of [COUNTER_TTL_MS, 5000, 100, 1, 0]) {
      const world = new World()
      world.next()
      world.now += COUNTER_TTL_MS - left
      await world.begin()
      t.strictSame(await world.pass(COUNTER_TTL_MS), [])
      t.ok(world.received(), `${left} ms`)
    }
  })

  t.test('an evicted counter is a gap, noticed by the next message or the next comparison', async (t) => {
    const world = new World()
    await world.begin()
    t.ok(world.received())
    await world.pass(COMPARE)
    world.counter = null
    t.notOk(world.received(), 'by the next message')
    t.ok(world.received())
    world.counter = null
    t.strictSame(await world.pass(COMPARE), [KEY], 'by the next comparison')
    t.strictSame(await world.pass(COMPARE), [])
    t.ok(world.received(), 'then a new one begins')
  })

  t.test('a message that arrives after its number was read from Redis is not a gap', async (t) => {
    const world = new World()
    world.next()
    const onItsWay = [world.next(), world.next()]
    await world.begin()
    for (const { number, first } of onItsWay) t.ok(world.sequences.accept(KEY, number, first), `message ${number}`)
    t.ok(world.received(), 'the next one')
    world.next()
    t.notOk(world.received(), 'after a loss')
  })

  t.test('a loss just before the counter expired is a gap, even if Redis could not be reached for long', async (t) => {
    const world = new World()
    await world.begin()
    t.ok(world.received())
    world.away = true
    await world.pass(COMPARE)
    world.next()
    await world.pass(2 * COUNTER_TTL_MS)
    t.notOk(world.received(), 'by the next message')
    world.next()
    await world.pass(2 * COUNTER_TTL_MS)
    world.away = false
    t.strictSame(await world.pass(COMPARE), [KEY], 'by the next comparison')
  })

  t.test('with losses, evictions and outages in any order, each loss is noticed, and nothing without a loss', async (t) => {
    for (let seed = 1; seed <= 300; seed++) {
      const random = seeded(seed)
      const world = new World()
      await world.begin()
      const calm = seed % 3 === 0
      let missing = 0
      // The messages of the counter that there is were all lost, and no comparison has shown it: once it is evicted too, nothing does.
      let fragile = false
      for (let step = 0; step < 200; step++) {
        const what = random(10)
        if (what < 5) {
          const follows = world.received()
          if (missing > 0 && follows) return t.fail(`seed ${seed}, step ${step}: a loss was passed over`)
          if (calm && missing === 0 && !follows) return t.fail(`seed ${seed}, step ${step}: a gap where there is none`)
          missing = 0
          fragile = false
        } else if (what < 6) {
          if (world.next().first) fragile = missing === 0
          missing++
        } else if (what < 7 && !calm) {
          world.counter = null
          if (fragile) missing = 0
          fragile = false
        } else if (what < 8 && !calm) {
          world.away = !world.away
        } else {
          const found = await world.pass(random(4) === 0 ? random(3 * COUNTER_TTL_MS) : random(3 * COMPARE))
          if (calm && missing === 0 && found.length > 0) return t.fail(`seed ${seed}, step ${step}: a loss where there is none`)
          if (found.length > 0) missing = 0
          if (!world.away) fragile = false
        }
      }
      world.away = false
      const found = await world.pass(2 * COMPARE)
      if (missing > 0 && found.length === 0) return t.fail(`seed ${seed}: a loss was never found`)
    }
    t.pass()
  })
}

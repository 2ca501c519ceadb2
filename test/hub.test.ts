import { mock } from 'node:test'
import t from 'tap'
import type { OutgoingEvent } from '../lib/backplane/contract.js'
import { Batch } from '../lib/delivery/batch.js'
import { channelKey, type ChannelKey } from '../lib/keys.js'
import { frameOn, Listener, Model, newHub } from './hub-model.js'
import { seeded, turn } from './suites.js'

const KEYS: ChannelKey[] = ['1/a', '1/b', '2/a']

// Rests end when a test says so.
t.before(() => { mock.timers.enable({ apis: ['setTimeout'] }) })
t.teardown(() => { mock.timers.reset() })
/** Longer than any rest, and than the one after it. */
const rested = (): void => {
  for (let i = 0; i < 3; i++) mock.timers.tick(15)
}

for (const [count, rounds, size] of [['few', 300, 5], ['enough that channels pause', 40, 100]] as const) t.test(`However frames, gaps, joins, leaves, replies and turns interleave, each member receives its frames in order, once: ${count}`, async (t) => {
  let received = 0
  for (let round = 0; round < rounds; round++) {
    const random = seeded(round)
    const { hub, subscribed } = newHub(async () => { for (let turns = random(3); turns > 0; turns--) await turn() })
    const model = new Model()
    const members = Array.from({ length: size }, (_, i) => new Listener(`c${i}`))
    const pick = <T>(from: readonly T[]): T => from[random(from.length)] as T
    let serial = 0
    const someFrames = (key: string): OutgoingEvent[] => Array.from({ length: random(4) }, () => frameOn(key, String(serial++), {
      messageId: random(3) === 0 ? 0 : random(30) + 1, excludeConnectionId: random(3) === 0 ? pick(members).id : null, isRetry: random(5) === 0
    }))
    const deliver = (): void => {
      const key = pick(KEYS)
      const frames = someFrames(key)
      hub.deliver(key, frames)
      model.delivered(key, frames)
    }
    const steps: Array<() => void | Promise<void>> = [
      deliver, deliver, deliver, deliver, deliver,
      () => { hub.flush() },
      turn,
      () => { mock.timers.tick(1) },
      rested,
      () => {
        const [key, member] = [pick(KEYS), pick(members)]
        const waiting = model.joined(key, member)
        void Promise.resolve(hub.join(key, member)).then((joining) => { waiting.joinings.push(joining) })
      },
      () => {
        const ready = [...model.places].flatMap(([key, { waiting }]) =>
          [...waiting].flatMap(([member, { joinings }]) => joinings.length === 0 ? [] : [{ key, member, joinings }]))
        if (ready.length === 0) return
        const { key, member, joinings } = pick(ready)
        joinings.pop()?.replied()
        model.replied(key, member)
      },
      () => {
        const key = pick(KEYS)
        hub.startGap(key)
        model.held(key)
      },
      () => {
        const key = pick(KEYS)
        const missed = someFrames(key)
        hub.fillGap(key, missed)
        model.filled(key, missed)
      },
      () => {
        const [key, member] = [pick(KEYS), pick(members)]
        hub.leave(key, member)
        model.left(key, member)
      },
      () => {
        const member = pick(members)
        const reply = frameOn('direct', String(serial++), { messageId: 1 })
        hub.flushFor(member)
        member.write(Batch.ofReply(reply.payload))
        model.wrote(member, { on: 'direct', text: String(serial - 1) })
      }
    ]
    // A place for each, then any step; most are members of most channels where they are many.
    for (const key of size > 5 ? KEYS : []) {
      for (const member of members) {
        model.joined(key, member)
        const joining = await hub.join(key, member)
        joining.replied()
        model.replied(key, member)
      }
    }
    for (let step = 0; step < 120; step++) await pick(steps)()
    await turn()
    rested()
    received += members.reduce((sum, { lines }) => sum + lines.length, 0)
    const differences = model.differences(members, KEYS)
    if (differences.length > 0) return t.fail(`round ${round}: ${differences.join('\n')}`)
    if ([...subscribed].sort().join() !== [...model.places.keys()].sort().join()) return t.fail(`round ${round}: subscribed to ${[...subscribed].join()}`)
  }
  t.ok(received > 10_000, `${received} frames were heard in all`)
})

const joined = async (...ids: string[]) => {
  const { hub, subscribed } = newHub()
  const members = ids.map((id) => new Listener(id))
  for (const member of members) (await hub.join('1/a', member)).replied()
  return { hub, subscribed, members }
}

t.test('Events of one turn are one write for each member', async (t) => {
  const { hub, members: [a, b] } = await joined('a', 'b')
  for (const text of ['1', '2', '3']) hub.deliver('1/a', [frameOn('1/a', text)])
  hub.deliver('1/a', [frameOn('1/a', '4', { messageId: 9 })])
  t.strictSame(a?.writes, [], 'not before the turn ends')
  await turn()
  t.strictSame(a?.writes, [{ count: 4, ephemeral: false }])
  t.strictSame(b?.texts(), ['1', '2', '3', '4'])
  hub.deliver('1/a', [frameOn('1/a', '5')])
  await turn()
  t.strictSame(a?.writes.at(-1), { count: 1, ephemeral: true })
  t.equal(hub.delivered, 10)
})

t.test('Each sender misses its own frames of a batch, and only these', async (t) => {
  const { hub, members: [a, b, c] } = await joined('a', 'b', 'c')
  hub.deliver('1/a', [frameOn('1/a', 'of a', { excludeConnectionId: 'a', messageId: 1 }), frameOn('1/a', 'of b', { excludeConnectionId: 'b' }),
    frameOn('1/a', 'of nobody'), frameOn('1/a', 'of a again', { excludeConnectionId: 'a' })])
  await turn()
  t.strictSame(a?.texts(), ['of b', 'of nobody'])
  t.strictSame(b?.texts(), ['of a', 'of nobody', 'of a again'])
  t.strictSame(c?.texts(), ['of a', 'of b', 'of nobody', 'of a again'])
  t.strictSame(a?.writes, [{ count: 2, ephemeral: true }], 'what is left for a is ephemeral')
  t.strictSame(b?.writes, [{ count: 3, ephemeral: false }])
  hub.deliver('1/a', [frameOn('1/a', 'alone', { excludeConnectionId: 'a' })])
  await turn()
  t.equal(a?.writes.length, 1, 'nothing at all is no write')
})

t.test('An id that comes again is dropped, unless it is sent again on purpose', async (t) => {
  const { hub, members: [a] } = await joined('a')
  const one = frameOn('1/a', 'one', { messageId: 1 })
  for (const frames of [[one, one], [one], [{ ...one, isRetry: true }], [frameOn('1/a', 'none'), frameOn('1/a', 'none')]]) {
    hub.deliver('1/a', frames)
    await turn()
  }
  t.strictSame(a?.texts(), ['one', 'one', 'none', 'none'])
  for (let id = 2; id <= 1025; id++) hub.deliver('1/a', [frameOn('1/a', 'x', { messageId: id })])
  hub.deliver('1/a', [frameOn('1/a', 'of late', { messageId: 2 }), frameOn('1/a', 'long ago', { messageId: 1 })])
  await turn()
  t.strictSame(a?.texts().slice(-2), ['x', 'long ago'], 'memory is bounded: only ids of late are known')
})

t.test('A member that joins receives nothing live before its reply, then the events that waited', async (t) => {
  const { hub, members: [a] } = await joined('a')
  const b = new Listener('b')
  hub.deliver('1/a', [frameOn('1/a', 'before', { messageId: 1 })])
  const joining = await hub.join('1/a', b)
  const frames = [2, 3, 4].map((id) => frameOn('1/a', String(id), { messageId: id }))
  hub.deliver('1/a', [...frames, frameOn('1/a', 'own', { excludeConnectionId: 'b' }), frameOn('1/a', 'typing')])
  await turn()
  t.strictSame(b.lines, [])
  joining.replied()
  t.strictSame(b.texts(), ['2', '3', '4', 'typing'], 'at once')
  hub.deliver('1/a', [frameOn('1/a', 'after')])
  await turn()
  t.strictSame(b.texts(), ['2', '3', '4', 'typing', 'after'])
  t.strictSame(a?.texts(), ['before', '2', '3', '4', 'own', 'typing', 'after'], 'the others are not held up')
})

t.test('A member that leaves while joining receives nothing more, and the last one ends the subscription', async (t) => {
  const { hub, subscribed, members: [a] } = await joined('a')
  const b = new Listener('b')
  const joining = await hub.join('1/a', b)
  hub.deliver('1/a', [frameOn('1/a', '1')])
  hub.leave('1/a', b)
  joining.replied()
  hub.deliver('1/a', [frameOn('1/a', '2')])
  if (a !== undefined) hub.leave('1/a', a)
  t.strictSame([b.texts(), a?.texts()], [[], ['1', '2']], 'what came before a left is still a’s')
  t.strictSame([[...subscribed], hub.size], [[], 0])
  hub.deliver('1/a', [frameOn('1/a', '3')])
  await turn()
  t.strictSame([b.texts(), a?.texts()], [[], ['1', '2']])
})

t.test('Frames after a gap wait until it is filled, and follow the missed ones', async (t) => {
  const { hub, members: [a] } = await joined('a')
  const frame = (id: number): OutgoingEvent => frameOn('1/a', String(id), { messageId: id })
  hub.deliver('1/a', [frame(1)])
  t.type(hub.startGap('1/a'), 'number')
  hub.deliver('1/a', [frame(4)])
  await turn()
  t.strictSame(a?.texts(), ['1'])
  hub.fillGap('1/a', [frame(1), frame(2), frame(3), frame(4)])
  hub.deliver('1/a', [frame(5)])
  await turn()
  t.strictSame(a?.texts(), ['1', '2', '3', '4', '5'])
  t.equal(hub.startGap('1/none'), null, 'a channel without members has no gap')
})

t.test('A gap ends when the missed frames are written, whichever channel is written first', async (t) => {
  const { hub } = newHub()
  const gaps: boolean[] = []
  class Cursor extends Listener {
    override write (batch: Batch): void {
      super.write(batch)
      gaps.push(hub.hasGap(1, ['a', 'b']))
    }
  }
  const member = new Cursor('a')
  const keys: ChannelKey[] = ['1/a', '1/b']
  for (const key of keys) {
    (await hub.join(key, member)).replied()
    hub.startGap(key)
  }
  hub.deliver('1/b', [frameOn('1/b', 'live', { messageId: 9 })])
  hub.fillGap('1/b', [])
  hub.fillGap('1/a', [frameOn('1/a', 'missed', { messageId: 1 })])
  t.notOk(hub.hasGap(1, ['a', 'b']))
  await turn()
  t.strictSame([member.texts(), gaps], [['live', 'missed'], [true, true]])
})

t.test('The latest id of a channel is known once the log was read, and grows with each event', async (t) => {
  const { hub } = await joined('a')
  t.equal(hub.latestId('1/a'), null)
  hub.deliver('1/a', [frameOn('1/a', 'x', { messageId: 5 })])
  t.equal(hub.latestId('1/a'), null, 'older ones of other nodes may be larger')
  hub.noteLatestId('1/a', 7)
  hub.deliver('1/a', [frameOn('1/a', 'x', { messageId: 9 }), frameOn('1/a', 'x', { messageId: 8 })])
  t.equal(hub.latestId('1/a'), 9)
  hub.noteLatestId('1/a', 3)
  t.equal(hub.latestId('1/a'), 9, 'what the log said late takes nothing back')
  t.equal(hub.newest, 9)
})

t.test('After a write to many that carried more than one frame a channel rests until as many wait, or its time is over', async (t) => {
  const { hub, members } = await joined(...Array.from({ length: 100 }, (_, i) => `c${i}`))
  const [a, b] = members
  const deliver = async (...texts: string[]): Promise<void> => {
    hub.deliver('1/a', texts.map((text) => frameOn('1/a', text)))
    await turn()
  }
  const writes = (): number[] | undefined => b?.writes.map(({ count }) => count)
  await deliver('1')
  await deliver('2')
  t.same(writes(), [1, 1], 'a lone publisher waits for nobody')
  await deliver('3', '4', '5')
  await deliver('6')
  if (a !== undefined) hub.flushFor(a)
  await deliver('7')
  t.strictSame(a?.texts(), ['1', '2', '3', '4', '5', '6'], 'who is written something else gets what came before it')
  t.strictSame(b?.texts(), ['1', '2', '3', '4', '5'])
  rested()
  t.same(writes(), [1, 1, 3, 2], 'its time is over')
  await deliver('8', '9')
  await deliver('10')
  t.same(writes(), [1, 1, 3, 2, 2])
  await deliver('11')
  t.same(writes(), [1, 1, 3, 2, 2, 2], 'as many wait as were written before')
  for (const member of members) t.strictSame(member.texts(), Array.from({ length: 11 }, (_, i) => String(i + 1)))
})

t.test('A reply waits for no one else: only its own member is written before it, unless many channels are due', async (t) => {
  const { hub, members: [a, b] } = await joined('a', 'b')
  hub.deliver('1/a', [frameOn('1/a', '1')])
  if (a !== undefined) hub.flushFor(a)
  t.strictSame([a?.texts(), b?.texts()], [['1'], []])
  await turn()
  t.strictSame([a?.texts(), b?.texts()], [['1'], ['1']])

  const many = Array.from({ length: 20 }, (_, i) => channelKey(1, `many.${i}`))
  for (const key of many) {
    if (b !== undefined) (await hub.join(key, b)).replied()
    hub.deliver(key, [frameOn(key, key)])
  }
  if (a !== undefined) hub.flushFor(a)
  t.strictSame(b?.texts(), ['1', ...many])
})

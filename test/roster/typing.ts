import type { Test } from 'tap'
import type { TypingEntry } from '../../lib/roster/contract.js'
import type { TestClock } from '../suites.js'
import { nothing, SOON, sweepBoth, type OpenWorld } from './world.js'

const TYPING = 30_000

const sign = (clock: TestClock, rest: Partial<TypingEntry> = {}): TypingEntry => ({
  tenantId: 1, userId: 7, conversationId: '42', conversationType: 'group', channels: ['group.42'], connectionId: 'a',
  startedAt: clock.now(), expiresAt: clock.now() + TYPING, ...rest
})

/** Typing begins once, is kept alive by further signs, and ends once. */
export function typing (t: Test, open: OpenWorld): void {
  t.test('the first typing update is a start, further ones are not, on any node', async (t) => {
    const { clock, here, there } = await open(t)
    t.equal(await here.startTyping(sign(clock)), true)
    clock.advance(5000)
    t.equal(await there.startTyping(sign(clock, { connectionId: 'b' })), false)
    t.equal(await here.startTyping(sign(clock, { userId: 8 })), true)
    t.equal(await there.startTyping(sign(clock, { conversationId: '43' })), true)
  })

  t.test('one of two simultaneous typing updates is the start', async (t) => {
    const { clock, here, there } = await open(t)
    const started = await Promise.all(Array.from({ length: 10 }, async (_, i) => await (i % 2 === 0 ? here : there).startTyping(sign(clock))))
    t.equal(started.filter((first) => first).length, 1)
  })

  t.test('a typing update after a stop on another node is a start again, and expires', async (t) => {
    const world = await open(t)
    const { clock, here, there } = world
    await here.startTyping(sign(clock))
    await here.startTyping(sign(clock, { userId: 8, expiresAt: clock.now() + 5000 }))
    t.equal((await there.stopTyping([{ tenantId: 1, userId: 7, conversationId: '42' }])).length, 1)
    clock.advance(5000 + SOON)
    t.match(await sweepBoth(world), { typing: [{ userId: 8 }] }, 'nothing of the tenant is due any more')
    t.equal(await here.startTyping(sign(clock)), true)
    t.equal(await here.startTyping(sign(clock)), false)
    clock.advance(TYPING + SOON)
    t.match(await sweepBoth(world), { typing: [{ userId: 7 }] })
  })

  t.test('typing expires once in the cluster, with everything that the stop event needs', async (t) => {
    const world = await open(t)
    const { clock, here } = world
    const entry = sign(clock, { channels: ['group.42', 'private-user.8'], connectionType: 'group' } as Partial<TypingEntry>)
    await here.startTyping(entry)
    clock.advance(TYPING - SOON)
    t.strictSame(await sweepBoth(world), nothing)
    clock.advance(2 * SOON)
    const told = await sweepBoth(world)
    t.equal(told.typing.length, 1)
    t.match(told.typing[0], {
      tenantId: 1, userId: 7, conversationId: '42', conversationType: 'group', channels: ['group.42', 'private-user.8'], connectionId: 'a'
    })
    clock.advance(TYPING)
    t.strictSame(await sweepBoth(world), nothing)
    t.strictSame(await here.stopTyping([entry]), [], 'there is nothing left to stop')
    t.equal(await here.startTyping(sign(clock)), true)
  })

  t.test('a further typing update on any node extends the typing', async (t) => {
    const world = await open(t)
    const { clock, here, there } = world
    for (let i = 0; i < 4; i++) {
      t.equal(await (i % 2 === 0 ? here : there).startTyping(sign(clock)), i === 0)
      clock.advance(TYPING - SOON)
      t.strictSame(await sweepBoth(world), nothing)
      t.equal((await here.typing(1, '42')).length, 1)
    }
    clock.advance(2 * SOON)
    t.equal((await sweepBoth(world)).typing.length, 1)
  })

  t.test('typing users are listed by their start, until the typing expires', async (t) => {
    const { clock, here, there } = await open(t)
    for (const userId of [9, 7, 8]) {
      await here.startTyping(sign(clock, { userId }))
      clock.advance(5000)
    }
    await here.startTyping(sign(clock, { userId: 10, conversationId: '43' }))
    const newest = sign(clock, { userId: 9 })
    await there.startTyping(newest)
    const listed = await there.typing(1, '42')
    t.strictSame(listed.map(({ userId }) => userId), [9, 7, 8])
    t.equal(listed[0]?.expiresAt, newest.expiresAt, 'until its newest sign ends')
    clock.advance(TYPING - SOON)
    t.strictSame((await there.typing(1, '42')).map(({ userId }) => userId), [9])
    t.strictSame(await there.typing(1, 'none'), [])
  })

  t.test('a stop returns the entry once, with everything that the stop event needs, and omits unknown entries', async (t) => {
    const world = await open(t)
    const { clock, here, there } = world
    const [one, other] = [sign(clock), sign(clock, { userId: 8, channels: ['private-user.9'] })]
    for (const entry of [one, other]) await here.startTyping(entry)
    const stopped = await there.stopTyping([other, sign(clock, { userId: 404 }), one])
    t.match(stopped.toSorted((a, b) => a.userId - b.userId), [{ userId: 7, channels: ['group.42'] }, { userId: 8, channels: ['private-user.9'] }])
    t.equal(stopped.length, 2)
    for (const node of [here, there]) t.strictSame(await node.stopTyping([one, other]), [])
    t.strictSame(await here.stopTyping([]), [])
    clock.advance(2 * TYPING)
    t.strictSame(await sweepBoth(world), nothing)
    t.equal(await here.startTyping(sign(clock)), true)
  })

  t.test('a user whose typing was stopped on another node starts again', async (t) => {
    const { clock, here, there } = await open(t)
    for (const [typed, stopped] of [[here, there], [there, here]] as const) {
      t.equal(await typed.startTyping(sign(clock)), true)
      clock.advance(SOON)
      t.equal((await stopped.stopTyping([sign(clock)])).length, 1)
      clock.advance(SOON)
      t.equal(await typed.startTyping(sign(clock)), true)
      t.equal((await typed.typing(1, '42')).length, 1)
      t.equal((await stopped.stopTyping([sign(clock)])).length, 1)
    }
  })

  t.test('one of two simultaneous stops returns the entry', async (t) => {
    const { clock, here, there } = await open(t)
    await here.startTyping(sign(clock))
    const stopped = await Promise.all([here, there].map(async (node) => await node.stopTyping([sign(clock)])))
    t.equal(stopped.flat().length, 1)
  })

  t.test('a conversation id may have any characters', async (t) => {
    const { clock, here, there } = await open(t)
    for (const conversationId of ['a:b:c', '7:42', 'ž 日本 {x}', '*', '%s']) {
      t.equal(await here.startTyping(sign(clock, { conversationId })), true, conversationId)
      t.match(await there.typing(1, conversationId), [{ userId: 7, conversationId }])
      t.match(await there.stopTyping([sign(clock, { conversationId })]), [{ conversationId }])
      t.strictSame(await here.typing(1, conversationId), [])
    }
  })

  t.test('hundreds of conversations of one user expire separately', async (t) => {
    const world = await open(t)
    const { clock, here } = world
    const ids = Array.from({ length: 600 }, (_, i) => String(i))
    await Promise.all(ids.map(async (conversationId) => await here.startTyping(sign(clock, { conversationId }))))
    clock.advance(TYPING + SOON)
    const told: string[] = []
    for (let i = 0; i < 4; i++) told.push(...(await sweepBoth(world)).typing.map(({ conversationId }) => conversationId))
    t.strictSame(told.toSorted(), ids.toSorted())
  })
}

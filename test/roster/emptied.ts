import type { Redis } from 'ioredis'
import type { Test } from 'tap'
import type { TypingEntry } from '../../lib/roster/contract.js'
import { hereDies, type OpenRedisWorld } from './redis.js'
import { enter, LIMIT, nothing, quiet, saying, socket, SOON, sweepBoth, times } from './world.js'

/** What only a Redis of one's own can show, since it is emptied. */
export function emptied (t: Test, open: OpenRedisWorld): void {
  t.test('after Redis was emptied each node writes back what it holds, and only who had left is told offline', async (t) => {
    const world = await open(t)
    const { clock, here, there, redis } = world
    const [a, b] = [await enter(here, 'a', { connectedAt: 3 }), await enter(there, 'b', { userId: 8 })]
    const left = await enter(here, 'left', { userId: 9 })
    await here.setPresence(1, 7, saying('busy', { lastMessage: 'ž' }))
    await here.setPresence(1, 8, saying('offline'))
    await here.leave(left)
    await (redis.commands as Redis).flushall()
    t.strictSame(await there.presence(1, [7, 8]), [null, null])
    t.strictSame([await here.renew(), await there.renew()], [quiet, quiet])
    t.match([await there.find(1, 'a'), await here.find(1, 'b'), await here.find(1, 'left')], [a, b, null])
    t.match(await there.presence(1, [7, 8, 9]), [{ status: 'busy', lastMessage: 'ž' }, {}, null])
    t.strictSame(await here.counts(1), { total: 2, active: 2, users: 2 })
    t.strictSame(await here.renew(), quiet)
    t.equal(await here.leave(a), true, 'under the generation it had')
    await hereDies(world)
    await there.reap()
    clock.advance(times.offlineDelay + SOON)
    t.strictSame((await sweepBoth(world)).offline.toSorted(), [7, 9], 'who was in the grace is not forgotten')
  })

  t.test('of what a user said on two nodes the newest is kept, whichever node writes back first', async (t) => {
    for (const first of ['here', 'there'] as const) {
      const { clock, here, there, redis } = await open(t)
      await enter(here, 'a')
      await enter(there, 'b')
      await here.setPresence(1, 7, saying('busy', { seenAt: clock.now() }))
      clock.advance(SOON)
      await there.setPresence(1, 7, saying('away', { seenAt: clock.now() }))
      await (redis.commands as Redis).flushall()
      for (const node of first === 'here' ? [here, there] : [there, here]) await node.renew()
      t.match(await here.presence(1, [7]), [{ status: 'away' }], `${first} first`)
    }
  })

  t.test('typing that goes on is written back too, and ends once', async (t) => {
    const world = await open(t)
    const { clock, here, there, redis } = world
    const sign = (): TypingEntry => ({
      tenantId: 1, userId: 7, conversationId: '42', conversationType: 'group', channels: ['group.42'], connectionId: 'a',
      startedAt: clock.now(), expiresAt: clock.now() + 30_000
    })
    await here.startTyping(sign())
    await (redis.commands as Redis).flushall()
    await here.renew()
    t.match(await there.typing(1, '42'), [{ userId: 7, channels: ['group.42'] }])
    t.equal(await here.startTyping(sign()), false)
    clock.advance(30_000 + SOON)
    t.match(await sweepBoth(world), { ...nothing, typing: [{ userId: 7, channels: ['group.42'] }] })
    t.strictSame(await sweepBoth(world), nothing)
  })

  t.test('an id that was refused to someone else is still written back for its owner', async (t) => {
    const { here, redis } = await open(t)
    const entry = await enter(here, 'a')
    t.match(await here.join(socket(here, 'a', { userId: 8 }), LIMIT), { ownedByOther: true })
    await (redis.commands as Redis).flushall()
    await here.renew()
    t.match(await here.find(1, 'a'), entry)
    t.equal(await here.leave(entry), true)
  })
}

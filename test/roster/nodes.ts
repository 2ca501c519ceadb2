import type { Test } from 'tap'
import type { TypingEntry } from '../../lib/roster/contract.js'
import { until } from '../cluster/until.js'
import { cutOff, disturb, hereDies, type OpenRedisWorld } from './redis.js'
import { enter, LIMIT, nothing, quiet, saying, socket, SOON, sweep, sweepBoth, times } from './world.js'

/** Nodes that die, come back, are cut off, or lose what they shared. */
export function nodes (t: Test, open: OpenRedisWorld): void {
  t.test('connections of a dead node are removed by another, and their users go offline at once', async (t) => {
    const world = await open(t)
    const { here, there } = world
    await enter(here, 'a')
    await enter(here, 'b', { userId: 8, tenantId: 2 })
    await enter(here, 'c', { userId: 9 })
    await enter(there, 'd', { userId: 9 })
    await enter(there, 'e', { userId: 10 })
    t.strictSame((await there.aliveNodes()).toSorted(), ['node-here', 'node-there', 'node-third'])
    await there.reap()
    t.strictSame(await sweepBoth(world), nothing, 'nobody is dead yet')
    await hereDies(world)
    t.strictSame((await there.aliveNodes()).toSorted(), ['node-there', 'node-third'])
    await there.reap()
    t.strictSame((await sweep(there)).offline.toSorted(), [7, 8], 'user 9 still has a tab on the other node')
    t.equal(await there.find(1, 'a'), null)
    t.strictSame(await there.counts(1), { total: 2, active: 2, users: 2 })
    await there.reap()
    t.strictSame(await sweep(there), nothing)
  })

  t.test('a node that renews its lease in time never counts as dead', async (t) => {
    const world = await open(t)
    const { clock, here, there } = world
    await enter(here, 'a')
    for (let i = 0; i < 5; i++) {
      clock.advance(times.nodeTimeout - SOON)
      t.strictSame(await here.renew(), quiet)
      await there.renew()
      await there.reap()
    }
    t.strictSame(await sweepBoth(world), nothing)
  })

  t.test('a reaper that dies halfway leaves the rest to the next one, and each user goes offline once', async (t) => {
    for (let at = 0; ; at++) {
      const world = await open(t)
      const { clock, here, there, third, redis } = world
      // The dead one is the third, so that `here` can be the reaper that fails.
      for (const userId of [7, 8, 9]) await enter(third, `c${userId}`, { userId, tenantId: userId % 2 + 1 })
      await enter(there, 'other', { userId: 9, tenantId: 2 })
      clock.advance(times.nodeTimeout + SOON)
      for (const node of [here, there]) await node.renew()
      const heal = disturb(redis, (count) => { if (count >= at) throw new Error('dead') })
      const died = await here.reap().then(() => false, () => true)
      heal()
      if (!died) {
        t.ok(at > 5, `${at} places to die at`)
        break
      }
      await there.reap()
      const told = [...(await sweep(there)).offline, ...(await sweep(there)).offline]
      t.strictSame(told.toSorted(), [7, 8], `dead before command ${at + 1}`)
      t.match([await there.counts(1), await there.counts(2)], [{ total: 0 }, { total: 1 }])
      clock.advance(times.offlineDelay + SOON)
      t.strictSame(await sweep(there), nothing)
    }
  })

  t.test('with two simultaneous reapers each user goes offline once', async (t) => {
    const world = await open(t)
    const { here, there, third } = world
    const users = Array.from({ length: 600 }, (_, i) => i + 1)
    await Promise.all(users.map(async (userId) => await enter(here, `c${userId}`, { userId })))
    await hereDies(world)
    await Promise.all([there.reap(), third.reap()])
    const told: number[] = []
    for (let i = 0; i < 3; i++) told.push(...(await Promise.all([sweep(there), sweep(third)])).flatMap(({ offline }) => offline))
    t.strictSame(told.toSorted((a, b) => a - b), users)
  })

  t.test('a node that counted as dead writes its connections back, and its users come online again', async (t) => {
    const world = await open(t)
    const { here, there } = world
    const entry = await enter(here, 'a')
    await hereDies(world)
    await there.reap()
    t.strictSame((await sweep(there)).offline, [7])
    t.match(await here.renew(), { arrived: [{ tenantId: 1, userId: 7, connectionId: 'a' }] })
    t.match(await there.find(1, 'a'), entry)
    t.match(await there.presence(1, [7]), [{ status: 'online' }])
    t.strictSame(await sweepBoth(world), nothing)
  })

  t.test('users who were not reported offline are not reported online either', async (t) => {
    const world = await open(t)
    const { clock, here, there } = world
    await enter(here, 'a')
    await hereDies(world)
    await there.reap()
    t.strictSame(await here.renew(), quiet)
    clock.advance(times.offlineDelay + SOON)
    t.strictSame(await sweepBoth(world), nothing)
  })

  t.test('a user who left while their node was disconnected and counted as dead goes offline once', async (t) => {
    const world = await open(t)
    const { clock, here, there, redis } = world
    const entry = await enter(here, 'a')
    const heal = cutOff(redis)
    t.equal(await here.leave(entry), true)
    await hereDies(world)
    await there.reap()
    t.strictSame((await sweep(there)).offline, [7])
    heal()
    t.strictSame(await here.renew(), quiet)
    clock.advance(times.offlineDelay + SOON)
    t.strictSame(await sweepBoth(world), nothing)
  })

  t.test('a node that is cut off accepts changes by its own sockets, and writes them when it is back', async (t) => {
    const world = await open(t)
    const { clock, here, there, redis } = world
    const [left, kept] = [await enter(here, 'left'), await enter(here, 'kept', { userId: 8 })]
    const heal = cutOff(redis)
    t.equal(await here.leave(left), true)
    const joined = await here.join(socket(here, 'new', { userId: 9 }), LIMIT)
    t.match(joined, { ownedByOther: false, isNew: true, replaced: null, evicted: [] })
    await here.setPresence(1, 8, saying('busy'))
    const short = await here.join(socket(here, 'short', { userId: 10 }), LIMIT)
    t.equal(await here.leave({ tenantId: 1, connectionId: 'short', generation: short.generation }), true)
    t.strictSame([(await here.countRequest('x', 60_000)).count, (await here.countRequest('x', 60_000)).count], [1, 2])
    const reads: Array<() => Promise<unknown>> = [
      () => here.find(1, 'left'), () => here.connectionsOf(1, 8), async () => await here.presence(1, [8]), () => here.online(1, { limit: 9, after: 0 }),
      () => here.counts(1), () => here.typing(1, '42'), () => here.channels(1, 'kept'), async () => await here.join(socket(here, 'rest', { nodeId: null }), LIMIT)
    ]
    for (const read of reads) await t.rejects(read(), { code: 'RT_STORAGE_UNAVAILABLE', retryAfter: 1 })
    heal()
    t.match(await here.renew(), { arrived: [{ tenantId: 1, userId: 9, connectionId: 'new' }] }, 'whose first connection nobody could know')
    t.strictSame(await here.renew(), quiet, 'once')
    t.match(await there.find(1, 'new'), { nodeId: here.nodeId, generation: joined.generation })
    t.match(await there.find(1, 'kept'), kept)
    t.equal(await there.find(1, 'short'), null)
    t.match(await there.presence(1, [8]), [{ status: 'busy' }])
    clock.advance(times.offlineDelay + SOON)
    t.strictSame((await sweepBoth(world)).offline, [7], 'told late, but once')
  })

  t.test('a node that is cut off lets a tenant have as many sockets there as it may have in all', async (t) => {
    const { here, there, redis } = await open(t)
    await there.join(socket(there, 'other', { userId: 8 }), LIMIT, 2)
    const heal = cutOff(redis)
    const joined = await Promise.all(['a', 'b', 'c', 'd'].map(async (id) => await here.join(socket(here, id), LIMIT, 2)))
    t.equal(joined.filter(({ isTenantFull }) => !isTenantFull).length, 2)
    t.equal((await here.join(socket(here, 'a'), LIMIT, 2)).isTenantFull, false, 'one that is known')
    heal()
    await here.renew()
    t.equal((await there.counts(1)).total, 3)
    t.equal((await there.join(socket(there, 'e'), LIMIT, 2)).isTenantFull, true)
  })

  t.test('typing starts, continues and stops on a node that is cut off, and stops once when it is back', async (t) => {
    const world = await open(t)
    const { clock, here, redis } = world
    const sign = (conversationId: string): TypingEntry => ({
      tenantId: 1, userId: 7, conversationId, conversationType: 'group', channels: [], connectionId: 'a',
      startedAt: clock.now(), expiresAt: clock.now() + 30_000
    })
    const heal = cutOff(redis)
    for (const first of [true, false]) for (const id of ['stopped', 'forgotten', 'kept']) t.equal(await here.startTyping(sign(id)), first)
    t.match(await here.stopTyping([sign('stopped')]), [{ conversationId: 'stopped' }])
    clock.advance(20_000)
    t.equal(await here.startTyping(sign('kept')), false)
    clock.advance(11_000)
    t.match((await here.claimDue()).flatMap(({ typing }) => typing), [{ conversationId: 'forgotten' }])
    heal()
    t.equal(await here.startTyping(sign('kept')), false)
    clock.advance(31_000)
    t.match(await sweepBoth(world), { ...nothing, typing: [{ conversationId: 'kept' }] })
    t.strictSame(await sweepBoth(world), nothing)
  })

  t.test('a node that writes back does not overwrite a newer status from another node', async (t) => {
    const { here, there, redis } = await open(t)
    await enter(here, 'a')
    await here.setPresence(1, 7, saying('busy'))
    await there.setPresence(1, 7, saying('away'))
    const heal = cutOff(redis)
    await here.join(socket(here, 'b', { userId: 8 }), LIMIT)
    heal()
    await here.renew()
    t.match(await there.presence(1, [7]), [{ status: 'away' }])
  })

  t.test('a node that closes removes its connections and does not count as alive any more', async (t) => {
    const { clock, here, there } = await open(t)
    await enter(here, 'a')
    await enter(here, 'b', { userId: 8 })
    await enter(there, 'c', { userId: 8 })
    await here.close()
    t.strictSame((await there.aliveNodes()).toSorted(), ['node-there', 'node-third'])
    t.strictSame(await there.counts(1), { total: 1, active: 1, users: 1 })
    t.strictSame(await sweep(there), nothing, 'a restart is a short absence')
    clock.advance(times.offlineDelay + SOON)
    t.strictSame(await sweep(there), { ...nothing, offline: [7] })
  })

  t.test('one node has a lock until it expires, unless that node takes it again', async (t) => {
    const { here, there } = await open(t)
    t.equal(await here.lock('sweeper', 60_000), true)
    t.equal(await there.lock('sweeper', 60_000), false)
    t.equal(await there.lock('reaper', 60_000), true, 'another lock')
    t.equal(await here.lock('sweeper', 50), true, 'its owner sets the time anew')
    await until('the lock is free', 5000, async () => await there.lock('sweeper', 60_000))
    t.equal(await here.lock('sweeper', 60_000), false)
  })
}

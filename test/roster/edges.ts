import type { Test } from 'tap'
import { CLAIM, enter, LIMIT, nothing, socket, SOON, sweep, sweepBoth, times, type OpenWorld } from './world.js'

/** Online is told once, at the first connection, and offline once, after the last one and the grace. */
export function edges (t: Test, open: OpenWorld): void {
  t.test('only the first connection of a user brings the user online, on any node', async (t) => {
    const { here, there } = await open(t)
    t.match(await here.join(socket(here, 'a'), LIMIT), { ownedByOther: false, isNew: true, isFirstOfUser: true, replaced: null, evicted: [] })
    t.match(await there.join(socket(there, 'b'), LIMIT), { ownedByOther: false, isNew: true, isFirstOfUser: false, replaced: null, evicted: [] })
    t.match(await here.join(socket(here, 'c', { userId: 8 }), LIMIT), { isFirstOfUser: true })
  })

  t.test('one of many simultaneous connections brings the user online', async (t) => {
    const { here, there } = await open(t)
    const joined = await Promise.all(Array.from({ length: 20 }, async (_, i) => {
      const node = i % 2 === 0 ? here : there
      return await node.join(socket(node, `c${i}`), LIMIT)
    }))
    t.equal(joined.filter(({ isFirstOfUser }) => isFirstOfUser).length, 1)
    t.match(await there.counts(1), { total: 20, active: 20, users: 1 })
  })

  t.test('closing one of two tabs changes nothing; after both the user goes offline once, after the delay', async (t) => {
    const world = await open(t)
    const { clock, here, there } = world
    const [a, b] = [await enter(here, 'a'), await enter(there, 'b')]
    t.equal(await here.leave(a), true)
    clock.advance(times.offlineDelay + SOON)
    t.strictSame(await sweepBoth(world), nothing)
    t.equal(await there.leave(b), true)
    clock.advance(times.offlineDelay - SOON)
    t.strictSame(await sweepBoth(world), nothing, 'still in the grace')
    t.not((await here.presence(1, [7]))[0], null, 'and still online')
    clock.advance(2 * SOON)
    t.strictSame(await sweepBoth(world), { ...nothing, offline: [7] })
    t.strictSame(await here.presence(1, [7]), [null])
    clock.advance(10 * times.offlineDelay)
    t.strictSame(await sweepBoth(world), nothing, 'and never again')
    t.match(await here.join(socket(here, 'a'), LIMIT), { isNew: true, isFirstOfUser: true }, 'the next one is the first again')
  })

  t.test('a user whose tabs on two nodes close at the same moment goes offline once', async (t) => {
    const world = await open(t)
    const { clock, here, there } = world
    const entries = await Promise.all(Array.from({ length: 10 }, async (_, i) => await enter(i % 2 === 0 ? here : there, `c${i}`)))
    t.strictSame(await Promise.all(entries.map(async (entry, i) => await (i % 2 === 0 ? here : there).leave(entry))), entries.map(() => true))
    clock.advance(times.offlineDelay + SOON)
    t.strictSame(await sweepBoth(world), { ...nothing, offline: [7] })
  })

  t.test('coming back within the offline delay emits nothing, on any node', async (t) => {
    const world = await open(t)
    const { clock, here, there } = world
    await here.leave(await enter(here, 'a'))
    clock.advance(times.offlineDelay - SOON)
    t.match(await there.join(socket(there, 'b'), LIMIT), { isNew: true, isFirstOfUser: false })
    clock.advance(10 * times.offlineDelay)
    t.strictSame(await sweepBoth(world), nothing)
    t.match(await here.counts(1), { total: 1, users: 1 })
  })

  t.test('after a restart users have longer to reconnect, and go offline once if they do not', async (t) => {
    const world = await open(t)
    const { clock, here, there } = world
    const longer = 4 * times.offlineDelay
    t.equal(await here.leave(await enter(here, 'a'), longer), true)
    t.equal(await here.leave(await enter(here, 'b', { userId: 8 }), longer), true)
    clock.advance(longer - SOON)
    t.strictSame(await sweepBoth(world), nothing)
    t.match(await there.join(socket(there, 'c'), LIMIT), { isFirstOfUser: false })
    clock.advance(2 * SOON)
    t.strictSame(await sweepBoth(world), { ...nothing, offline: [8] })
  })

  t.test('each short absence has its own offline delay', async (t) => {
    const world = await open(t)
    const { clock, here, there } = world
    for (let i = 0; i < 4; i++) {
      const node = i % 2 === 0 ? here : there
      const entry = await enter(node, 'a')
      await node.leave(entry)
      clock.advance(times.offlineDelay - SOON)
      t.strictSame(await sweepBoth(world), nothing, `${i + 1} times`)
    }
    clock.advance(2 * SOON)
    t.strictSame(await sweepBoth(world), { ...nothing, offline: [7] })
  })

  t.test('a user who comes back between `offline` and its confirmation is returned, and stays online', async (t) => {
    const { clock, here, there } = await open(t)
    await here.leave(await enter(here, 'a'))
    await here.leave(await enter(here, 'b', { userId: 8 }))
    clock.advance(times.offlineDelay + SOON)
    const [due] = await here.claimDue()
    t.strictSame(due?.offline.toSorted(), [7, 8])
    t.match(await there.join(socket(there, 'c'), LIMIT), { isFirstOfUser: false }, 'told by who settles')
    t.strictSame(await here.confirmOffline([{ tenantId: 1, userIds: [7, 8] }]), [{ tenantId: 1, userIds: [7] }])
    t.match(await here.presence(1, [7, 8]), [{ status: 'online' }, null])
    clock.advance(10 * times.offlineDelay)
    t.strictSame(await sweep(there), nothing)
    t.match(await there.join(socket(there, 'd', { userId: 8 }), LIMIT), { isFirstOfUser: true })
  })

  t.test('a user whose `offline` was not confirmed is due again, because the node may have died', async (t) => {
    const world = await open(t)
    const { clock, here, there } = world
    await here.leave(await enter(here, 'a'))
    clock.advance(times.offlineDelay + SOON)
    t.strictSame((await here.claimDue()).map(({ offline }) => offline), [[7]])
    clock.advance(CLAIM + SOON)
    t.strictSame(await sweep(there), { ...nothing, offline: [7] })
    clock.advance(CLAIM + SOON)
    t.strictSame(await sweepBoth(world), nothing)
  })

  t.test('hundreds of users who leave at once go offline once each', async (t) => {
    const world = await open(t)
    const { clock, here, there } = world
    const users = Array.from({ length: 600 }, (_, i) => i + 1)
    const entries = await Promise.all(users.map(async (userId) => await enter(here, `c${userId}`, { userId })))
    await Promise.all(entries.map(async (entry) => await here.leave(entry)))
    clock.advance(times.offlineDelay + SOON)
    const told: number[] = []
    for (let i = 0; i < 3; i++) told.push(...(await sweep(i % 2 === 0 ? there : here)).offline)
    t.strictSame(told.toSorted((a, b) => a - b), users)
  })
}

import type { Test } from 'tap'
import type { RosterConnection } from '../../lib/roster/contract.js'
import { enter, LIMIT, nothing, socket, SOON, sweepBoth, times, type OpenWorld } from './world.js'

/** Who holds which connection: ownership, generations, limits, and connections without a socket. */
export function connections (t: Test, open: OpenWorld): void {
  t.test('a connection id of another user is refused, and nothing changes', async (t) => {
    const world = await open(t)
    const { clock, here, there } = world
    const entry = await enter(here, 'a')
    for (const node of [here, there]) {
      t.match(await node.join(socket(node, 'a', { userId: 8 }), LIMIT), { ownedByOther: true, isNew: false, isFirstOfUser: false, replaced: null, evicted: [] })
      t.match(await node.join(socket(node, 'a', { userId: 8, nodeId: null }), LIMIT), { ownedByOther: true, isFirstOfUser: false })
    }
    t.match(await there.find(1, 'a'), entry)
    t.match(await there.presence(1, [7, 8]), [{ status: 'online' }, null])
    t.strictSame(await there.connectionsOf(1, 8), [])
    t.match(await there.counts(1), { total: 1, users: 1 })
    t.equal(await here.leave(entry), true, 'its owner still holds it')
    clock.advance(times.offlineDelay + SOON)
    t.strictSame(await sweepBoth(world), { ...nothing, offline: [7] })
  })

  t.test('its owner may register a connection with an open socket again, and the socket stays', async (t) => {
    const { here, there } = await open(t)
    const entry = await enter(here, 'a', { connectedAt: 5 })
    t.match(await there.join(socket(there, 'a', { nodeId: null, device: 'tablet', connectedAt: 9 }), LIMIT),
      { ownedByOther: false, isNew: false, isFirstOfUser: false, replaced: null, generation: entry.generation })
    t.match(await there.find(1, 'a'), { nodeId: here.nodeId, generation: entry.generation, connectedAt: 5 })
    t.equal(await here.leave(entry), true)
    t.equal(await there.find(1, 'a'), null)
  })

  t.test('a socket opens on a registered connection, which then does not expire', async (t) => {
    const world = await open(t)
    const { clock, here, there } = world
    t.match(await there.join(socket(there, 'a', { nodeId: null, connectedAt: 5 }), LIMIT), { isNew: true, isFirstOfUser: true, replaced: null })
    const joined = await here.join(socket(here, 'a', { connectedAt: 9 }), LIMIT)
    t.match(joined, { ownedByOther: false, isNew: false, isFirstOfUser: false, replaced: null })
    t.match(await there.find(1, 'a'), { nodeId: here.nodeId, connectedAt: 5, generation: joined.generation })
    clock.advance(2 * times.registrationTtl)
    t.strictSame(await sweepBoth(world), nothing)
  })

  t.test('a new socket with the same id replaces the old one, and the late leave of the old one has no effect', async (t) => {
    const world = await open(t)
    const { clock, here, there } = world
    const old = await enter(here, 'a', { connectedAt: 5 })
    const joined = await there.join(socket(there, 'a', { connectedAt: 9 }), LIMIT)
    t.match(joined, { isNew: false, isFirstOfUser: false, replaced: { tenantId: 1, connectionId: 'a', nodeId: here.nodeId, generation: old.generation } })
    t.not(joined.generation, old.generation)
    t.equal(await here.leave(old), false)
    t.match(await here.find(1, 'a'), { nodeId: there.nodeId, generation: joined.generation })
    clock.advance(times.offlineDelay + SOON)
    t.strictSame(await sweepBoth(world), nothing)
    t.equal(await there.leave({ ...old, generation: joined.generation }), true)
    t.equal(await there.leave({ ...old, generation: joined.generation }), false, 'once')
    t.strictSame(await here.connectionsOf(1, 7), [])
  })

  t.test('leaving with an unknown connection returns false', async (t) => {
    const { here } = await open(t)
    t.equal(await here.leave({ tenantId: 1, connectionId: 'a', generation: 'none' }), false)
    await enter(here, 'a')
    t.equal(await here.leave({ tenantId: 1, connectionId: 'a', generation: 'none' }), false)
    t.equal(await here.leave({ tenantId: 2, connectionId: 'a', generation: 'none' }), false)
  })

  t.test('over the limit the oldest connections on all nodes are evicted, and the user stays online', async (t) => {
    const world = await open(t)
    const { clock, here, there } = world
    const entries: RosterConnection[] = []
    for (const [i, at] of [30, 10, 40, 20].entries()) entries.push(await enter(i % 2 === 0 ? here : there, `at${at}`, { connectedAt: at }))
    const third = await here.join(socket(here, 'at50', { connectedAt: 50 }), 3)
    t.match(third.evicted, [{ tenantId: 1, userId: 7, connectionId: 'at10', nodeId: there.nodeId, generation: entries[1]?.generation },
      { connectionId: 'at20', nodeId: there.nodeId }])
    t.equal(third.evicted.length, 2)
    t.strictSame((await there.connectionsOf(1, 7)).map(({ connectionId }) => connectionId).toSorted(), ['at30', 'at40', 'at50'])
    t.equal(await there.leave(entries[1] ?? { tenantId: 1, connectionId: '', generation: '' }), false, 'it is gone already')
    clock.advance(times.offlineDelay + SOON)
    t.strictSame(await sweepBoth(world), nothing)
  })

  t.test('the new connection is never evicted, even with the earliest connection time and a limit of one', async (t) => {
    const { here, there } = await open(t)
    await enter(here, 'a', { connectedAt: 10 })
    t.match((await there.join(socket(there, 'b', { connectedAt: 1 }), 1)).evicted, [{ connectionId: 'a' }])
    t.strictSame((await here.connectionsOf(1, 7)).map(({ connectionId }) => connectionId), ['b'])
    t.strictSame((await here.join(socket(here, 'b', { connectedAt: 20 }), 1)).evicted, [], 'replacing is not one more')
  })

  t.test('connections of another user do not count towards the limit', async (t) => {
    const { here, there } = await open(t)
    await enter(here, 'a')
    t.strictSame((await there.join(socket(there, 'b', { userId: 8 }), 1)).evicted, [])
  })

  t.test('a connection without a socket expires after its registration time, and its user goes offline after the delay', async (t) => {
    const world = await open(t)
    const { clock, here } = world
    await enter(here, 'a', { nodeId: null })
    clock.advance(times.registrationTtl - SOON)
    t.strictSame(await sweepBoth(world), nothing)
    clock.advance(2 * SOON)
    t.match(await sweepBoth(world), { ...nothing, expiredConnections: [{ tenantId: 1, userId: 7, connectionId: 'a', nodeId: null }] })
    t.equal(await here.find(1, 'a'), null)
    t.strictSame(await sweepBoth(world), nothing, 'once, and in the grace')
    clock.advance(times.offlineDelay + SOON)
    t.strictSame(await sweepBoth(world), { ...nothing, offline: [7] })
  })

  t.test('a heartbeat on any node extends a registration, and so does registering again', async (t) => {
    const world = await open(t)
    const { clock, here, there } = world
    await enter(here, 'a', { nodeId: null })
    for (let i = 0; i < 3; i++) {
      clock.advance(times.registrationTtl - SOON)
      await there.heartbeat(1, 'a')
      t.strictSame(await sweepBoth(world), nothing)
    }
    clock.advance(times.registrationTtl - SOON)
    t.match(await here.join(socket(here, 'a', { nodeId: null }), LIMIT), { isNew: false, isFirstOfUser: false })
    clock.advance(times.registrationTtl - SOON)
    t.strictSame(await sweepBoth(world), nothing)
    clock.advance(2 * SOON)
    t.equal((await sweepBoth(world)).expiredConnections.length, 1)
    await here.heartbeat(1, 'a')
    t.equal(await here.find(1, 'a'), null, 'a late heartbeat brings nothing back')
  })

  t.test('counts are the registered connections, the active ones and the connected users', async (t) => {
    const world = await open(t)
    const { clock, here, there } = world
    t.strictSame(await here.counts(1), { total: 0, active: 0, users: 0 })
    const a = await enter(here, 'a')
    await enter(there, 'b')
    await enter(here, 'c', { userId: 8, nodeId: null })
    await enter(there, 'd', { userId: 9, nodeId: null })
    t.strictSame(await there.counts(1), { total: 4, active: 4, users: 3 })
    clock.advance(times.registrationTtl / 2 + SOON)
    await here.heartbeat(1, 'd')
    t.strictSame(await here.counts(1), { total: 4, active: 3, users: 3 }, 'c had no recent heartbeat')
    await here.leave(a)
    clock.advance(times.registrationTtl / 2 + SOON)
    await sweepBoth(world)
    t.strictSame(await there.counts(1), { total: 2, active: 1, users: 2 }, 'c expired, d had no recent heartbeat')
    await there.leave(await enter(there, 'b'))
    t.strictSame(await here.counts(1), { total: 1, active: 0, users: 1 }, 'who is in the grace has no connection')
  })

  t.test('channels requested before the socket opens are kept with the connection, up to the limit', async (t) => {
    const { here, there } = await open(t)
    await enter(here, 'a', { nodeId: null })
    t.equal(await here.addChannel(1, 'a', 'group.1', 2), true)
    t.equal(await there.addChannel(1, 'a', 'group.2', 2), true)
    t.equal(await there.addChannel(1, 'a', 'group.2', 2), true, 'the same one is not one more')
    t.equal(await here.addChannel(1, 'a', 'group.3', 2), false)
    t.strictSame((await here.channels(1, 'a')).toSorted(), ['group.1', 'group.2'])
    await there.removeChannel(1, 'a', 'group.1')
    t.equal(await here.addChannel(1, 'a', 'group.3', 2), true)
    const entry = await enter(there, 'a')
    t.strictSame((await here.channels(1, 'a')).toSorted(), ['group.2', 'group.3'], 'the socket finds them')
    await there.leave(entry)
    await enter(here, 'a')
    t.strictSame(await there.channels(1, 'a'), [], 'and they go with it')
  })

  t.test('watches requested before the socket opens are kept with the connection, up to the limit, and are taken once', async (t) => {
    const { here, there } = await open(t)
    await enter(here, 'a', { nodeId: null })
    t.equal(await here.recordWatches(1, 'a', [{ userId: 7, said: 'x' }], 2), true)
    t.equal(await there.recordWatches(1, 'a', [{ userId: 7, said: 'y' }, { userId: 8, said: '' }], 2), true)
    t.equal(await here.recordWatches(1, 'a', [{ userId: 9, said: 'z' }], 2), false)
    t.equal(await here.recordWatches(1, 'none', [{ userId: 9, said: 'z' }], 2), true)
    t.equal(await there.dropWatches(1, 'a', [8, 404]), 1)
    t.strictSame(await there.takeWatches(1, 'a'), [{ userId: 7, said: 'y' }])
    t.strictSame(await here.takeWatches(1, 'a'), [])
    await here.recordWatches(1, 'a', [{ userId: 7, said: 'x' }], 2)
    t.equal(await here.dropWatches(1, 'a', null), 0)
    await here.recordWatches(1, 'a', [{ userId: 7, said: 'x' }], Infinity)
    const entry = await here.find(1, 'a')
    if (entry !== null) await here.leave(entry)
    await enter(here, 'a')
    t.strictSame(await there.takeWatches(1, 'a'), [], 'and they go with it')
    t.strictSame(await there.takeWatches(1, 'none'), [])
  })

  t.test('channels of an unknown connection are not kept for the next one with its id', async (t) => {
    const { here, there } = await open(t)
    await here.addChannel(1, 'a', 'group.1', 5)
    await here.removeChannel(1, 'a', 'group.1')
    await here.addChannel(1, 'a', 'group.2', 5)
    await enter(there, 'a')
    t.strictSame(await here.channels(1, 'a'), [])
    t.strictSame(await here.channels(1, 'b'), [])
  })
}

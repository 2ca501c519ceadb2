import type { Test } from 'tap'
import type { JoinResult, RosterConnection } from '../../lib/roster/contract.js'
import { until } from '../cluster/until.js'
import { enter, LIMIT, nothing, saying, socket, SOON, sweepBoth, times, type OpenWorld } from './world.js'

/** Everything is keyed by tenant; and counters and locks, which are keyed by a name. */
export function tenants (t: Test, open: OpenWorld): void {
  t.test('the same user, connection and conversation ids in two tenants are separate', async (t) => {
    const world = await open(t)
    const { clock, here, there } = world
    const [one, two] = [await enter(here, 'a', { connectedAt: 1 }), await enter(there, 'a', { tenantId: 2, connectedAt: 2 })]
    t.match(await there.find(1, 'a'), { nodeId: here.nodeId, generation: one.generation })
    t.match(await here.find(2, 'a'), { nodeId: there.nodeId, generation: two.generation })
    t.strictSame((await here.join(socket(here, 'b', { tenantId: 2, connectedAt: 3 }), 2)).evicted, [], 'limits')
    t.strictSame((await here.join(socket(here, 'c', { tenantId: 3, userId: 8, connectionId: 'a' }), LIMIT)).ownedByOther, false, 'ownership')
    t.strictSame([await here.counts(1), await here.counts(2)], [{ total: 1, active: 1, users: 1 }, { total: 2, active: 2, users: 1 }])
    t.equal(await here.leave({ ...two, tenantId: 1 }), false, 'a generation of the other')
    await here.setPresence(1, 7, saying('busy'))
    t.match([await there.presence(1, [7]), await there.presence(2, [7])], [[{ status: 'busy' }], [{ status: 'online' }]])
    await here.addChannel(1, 'a', 'group.1', 5)
    t.strictSame(await there.channels(2, 'a'), [])
    await here.leave(one)
    clock.advance(times.offlineDelay + SOON)
    t.match(await here.claimDue(), [{ tenantId: 1, offline: [7] }])
    t.strictSame(await here.confirmOffline([{ tenantId: 2, userIds: [7] }]), [{ tenantId: 2, userIds: [7] }], 'who is online there')
    t.strictSame(await here.confirmOffline([{ tenantId: 1, userIds: [7] }]), [])
    t.match([await there.presence(1, [7]), await there.presence(2, [7])], [[null], [{ status: 'online' }]])
    t.match([await there.online(1, { limit: 9, after: 0 }), await there.online(2, { limit: 9, after: 0 })], [{ total: 0 }, { total: 1 }])
    t.strictSame(await sweepBoth(world), nothing)
  })

  t.test('a tenant has as many connections as it may have, however many open at once', async (t) => {
    const { here, there } = await open(t)
    const openAll = async (count: number): Promise<Array<JoinResult & RosterConnection>> => await Promise.all(Array.from({ length: count }, async (_, i) => {
      const node = i % 2 === 0 ? here : there
      const entry = socket(node, `c${i}`, { userId: 100 + i, nodeId: i % 3 === 0 ? null : node.nodeId })
      return { ...entry, ...await node.join(entry, LIMIT, 10) }
    }))
    const joined = await openAll(40)
    t.equal(joined.filter(({ isTenantFull }) => !isTenantFull).length, 10)
    t.match(await there.counts(1), { total: 10, users: 10 })
    t.equal((await here.join(socket(here, 'x', { tenantId: 2, userId: 8 }), LIMIT, 10)).isTenantFull, false, 'another tenant')
    const known = joined.find(({ isTenantFull, nodeId }) => !isTenantFull && nodeId !== null) as RosterConnection
    t.match(await here.join({ ...known, nodeId: here.nodeId }, LIMIT, 10), { isTenantFull: false, isNew: false }, 'one that is known comes back')
    const gone = joined.find(({ isTenantFull, nodeId }) => !isTenantFull && nodeId === null) as RosterConnection
    await here.leave(gone)
    t.equal((await openAll(40)).filter(({ isNew }) => isNew).length, 1)
    t.match(await there.counts(1), { total: 10 })
  })

  t.test('typing in one tenant is not visible in another', async (t) => {
    const { clock, here, there } = await open(t)
    const entry = {
      tenantId: 1, userId: 7, conversationId: '42', conversationType: 'group' as const, channels: ['group.42'], connectionId: 'a',
      startedAt: clock.now(), expiresAt: clock.now() + 30_000
    }
    t.equal(await here.startTyping(entry), true)
    t.strictSame(await there.typing(2, '42'), [])
    t.strictSame(await there.stopTyping([{ ...entry, tenantId: 2 }]), [])
    t.equal(await there.startTyping({ ...entry, tenantId: 2 }), true)
    const stopped = await here.stopTyping([entry, { ...entry, tenantId: 2 }, { ...entry, tenantId: 3 }])
    t.strictSame(stopped.map(({ tenantId }) => tenantId).toSorted(), [1, 2])
  })

  t.test('everything due at the same time is returned for each tenant', async (t) => {
    const { clock, here, there } = await open(t)
    const ids = Array.from({ length: 30 }, (_, i) => i + 1)
    for (const tenantId of ids) await here.leave(await enter(here, 'a', { tenantId, userId: 100 + tenantId }))
    clock.advance(times.offlineDelay + SOON)
    const due = await there.claimDue()
    t.strictSame(due.map(({ tenantId, offline }) => [tenantId, offline]).toSorted(([a], [b]) => Number(a) - Number(b)),
      ids.map((tenantId) => [tenantId, [100 + tenantId]]))
  })

  t.test('requests are counted over all nodes in a window that starts with the first one', async (t) => {
    const { clock, here, there } = await open(t)
    const window = 60_000
    const counts = await Promise.all(Array.from({ length: 10 }, async (_, i) => await (i % 2 === 0 ? here : there).countRequest('typing:1:7', window)))
    t.strictSame(counts.map(({ count }) => count).toSorted((a, b) => a - b), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10])
    for (const { ttl } of counts) t.ok(ttl > window - 5000 && ttl <= window, `${ttl} ms are left`)
    t.match(await here.countRequest('typing:1:8', window), { count: 1 }, 'another key has a window of its own')
    // Redis lets a counter's window run by its own time: a short one, and both clocks.
    await here.countRequest('short', 100)
    t.match(await there.countRequest('short', 60_000), { count: 2 })
    clock.advance(101)
    t.match(await until('a new window', 5000, async () => {
      const hit = await here.countRequest('short', 100)
      return hit.count === 1 ? hit : null
    }), { count: 1 }, 'a later sign does not prolong it')
  })

  t.test('a node counts itself as alive, and has the locks that it takes', async (t) => {
    const { here } = await open(t)
    t.ok((await here.aliveNodes()).includes(here.nodeId))
    t.ok(here.healthy)
    t.equal(await here.lock('sweeper', 5000), true)
    t.equal(await here.lock('sweeper', 5000), true, 'again')
  })
}

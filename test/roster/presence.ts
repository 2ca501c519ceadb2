import type { Test } from 'tap'
import type { Roster } from '../../lib/roster/contract.js'
import { enter, LIMIT, nothing, saying, socket, SOON, sweepBoth, times, type OpenWorld } from './world.js'

/** What users say about themselves, and who sees it. */
export function presence (t: Test, open: OpenWorld): void {
  t.test('a user who connects is online on that device, with activity now', async (t) => {
    const { clock, here, there } = await open(t)
    await enter(here, 'a', { device: 'tablet' })
    const [told] = await there.presence(1, [7])
    t.match(told, { status: 'online', device: 'tablet', lastMessage: null, awaySince: null })
    t.ok(Math.abs((told?.seenAt ?? 0) - clock.now()) < SOON)
    await enter(there, 'b', { device: 'mobile' })
    t.match(await here.presence(1, [7]), [{ device: 'tablet' }], 'a second device does not change what is shown')
  })

  t.test('a presence is read on every node, in the given order, with null for offline users', async (t) => {
    const { clock, here, there } = await open(t)
    for (const userId of [7, 8, 9]) await enter(here, `c${userId}`, { userId })
    const away = saying('away', { device: 'desktop', lastMessage: 'zpátky v 5 👋 "\\', awaySince: clock.now() - 60_000, seenAt: clock.now() })
    t.match(await there.setPresence(1, 8, away), { isFirstOfUser: false, edge: null })
    await here.setPresence(1, 9, saying('busy'))
    const found = await there.presence(1, [9, 404, 8, 7, 8])
    t.match(found, [{ status: 'busy' }, null, { status: 'away' }, { status: 'online' }, { status: 'away' }])
    const { seenAt: _, ...rest } = found[2] ?? away
    const { seenAt: __, ...expected } = away
    t.strictSame(rest, expected)
    t.strictSame(await there.presence(1, []), [])
    await here.setPresence(1, 8, saying('online'))
    t.match(await there.presence(1, [8]), [{ status: 'online', lastMessage: null, awaySince: null }])
  })

  t.test('a status is forgotten when the user goes offline', async (t) => {
    const world = await open(t)
    const { clock, here, there } = world
    const entry = await enter(here, 'a')
    await here.setPresence(1, 7, saying('busy'))
    await here.leave(entry)
    t.match(await there.presence(1, [7]), [{ status: 'busy' }], 'not yet, in the grace')
    await here.leave(await enter(here, 'a'))
    t.match(await there.presence(1, [7]), [{ status: 'busy' }], 'a reload changes nothing')
    clock.advance(times.offlineDelay + SOON)
    t.strictSame((await sweepBoth(world)).offline, [7])
    await enter(there, 'b')
    t.match(await here.presence(1, [7]), [{ status: 'online', device: 'web', lastMessage: null }])
  })

  t.test('a user who sets a status without a connection is online for the registration time, then goes offline once', async (t) => {
    const world = await open(t)
    const { clock, here, there } = world
    t.match(await here.setPresence(1, 7, saying('away')), { isFirstOfUser: true, edge: 'appeared' })
    t.match(await there.setPresence(1, 7, saying('busy')), { isFirstOfUser: false })
    t.match(await here.counts(1), { total: 0, active: 0, users: 0 })
    clock.advance(times.registrationTtl - SOON)
    t.strictSame(await sweepBoth(world), nothing)
    t.match(await there.setPresence(1, 7, saying('busy')), { isFirstOfUser: false })
    clock.advance(times.registrationTtl - SOON)
    t.strictSame(await sweepBoth(world), nothing, 'each sign counts anew')
    t.match(await here.presence(1, [7]), [{ status: 'busy' }])
    clock.advance(2 * SOON)
    t.strictSame(await sweepBoth(world), nothing, 'then comes the grace')
    clock.advance(times.offlineDelay + SOON)
    t.strictSame(await sweepBoth(world), { ...nothing, offline: [7] })
    t.strictSame(await there.presence(1, [7]), [null])
    t.match(await there.setPresence(1, 7, saying('busy')), { isFirstOfUser: true })
  })

  t.test('a user who connects after that does not go online twice, and goes offline with the connection', async (t) => {
    const world = await open(t)
    const { clock, here, there } = world
    await here.setPresence(1, 7, saying('busy'))
    t.match(await there.join(socket(there, 'a'), LIMIT), { isFirstOfUser: false })
    t.match(await here.presence(1, [7]), [{ status: 'busy' }])
    clock.advance(times.registrationTtl + times.offlineDelay + SOON)
    t.strictSame(await sweepBoth(world), nothing, 'the sign’s end means nothing to who is connected')
    const { generation } = await there.join(socket(there, 'a'), LIMIT)
    await there.leave({ tenantId: 1, connectionId: 'a', generation })
    clock.advance(times.offlineDelay + SOON)
    t.strictSame(await sweepBoth(world), { ...nothing, offline: [7] })
  })

  t.test('a status update within the offline delay keeps the user online', async (t) => {
    const world = await open(t)
    const { clock, here, there } = world
    await here.leave(await enter(here, 'a'))
    t.match(await there.setPresence(1, 7, saying('away')), { isFirstOfUser: false })
    clock.advance(times.offlineDelay + SOON)
    t.strictSame(await sweepBoth(world), nothing)
    clock.advance(times.registrationTtl)
    await sweepBoth(world)
    clock.advance(times.offlineDelay + SOON)
    t.strictSame((await sweepBoth(world)).offline, [7])
  })

  t.test('every activity of a user updates the last activity', async (t) => {
    const { clock, here, there } = await open(t)
    const heard = async (roster: Roster): Promise<number> => clock.now() - ((await roster.presence(1, [7]))[0]?.seenAt ?? 0)
    const entry = await enter(here, 'a', { nodeId: null })
    clock.advance(20_000)
    t.ok(await heard(there) > 19_000, 'time passes')
    await there.heartbeat(1, 'a')
    t.ok(await heard(here) < SOON, 'a touch')
    clock.advance(20_000)
    await enter(there, 'b')
    t.ok(await heard(here) < SOON, 'a second connection')
    clock.advance(20_000)
    await here.setPresence(1, 7, saying('away', { seenAt: clock.now() }))
    t.ok(await heard(there) < SOON, 'a status')
    clock.advance(20_000)
    await here.leave(entry)
    t.ok(await heard(there) < SOON, 'a leave')
  })

  t.test('the online list has pages, sorted by user id, and a total', async (t) => {
    const { here, there } = await open(t)
    for (const userId of [100, 9, 20, 1, 3]) await enter(userId % 2 === 0 ? here : there, `c${userId}`, { userId })
    await here.setPresence(1, 20, saying('busy', { lastMessage: 'ž' }))
    const ids = async (limit: number, after: number) => {
      const { users, ...rest } = await there.online(1, { limit, after })
      return { ...rest, users: users.map(({ userId }) => userId) }
    }
    t.strictSame(await ids(2, 0), { users: [1, 3], total: 5, next: 3 })
    t.strictSame(await ids(2, 3), { users: [9, 20], total: 5, next: 20 })
    t.strictSame(await ids(2, 20), { users: [100], total: 5, next: null })
    t.strictSame(await ids(5, 0), { users: [1, 3, 9, 20, 100], total: 5, next: null }, 'a page that just fits is the last')
    t.strictSame(await ids(2, 10), { users: [20, 100], total: 5, next: null }, 'after an id that nobody has')
    t.strictSame(await ids(2, 100), { users: [], total: 5, next: null })
    t.match((await here.online(1, { limit: 1, after: 9 })).users, [{ userId: 20, presence: { status: 'busy', lastMessage: 'ž' } }])
    t.strictSame(await here.online(2, { limit: 2, after: 0 }), { users: [], total: 0, next: null })
  })

  t.test('a user with the status offline is not in the list, but can be read, until the status changes', async (t) => {
    const { here, there } = await open(t)
    for (const userId of [7, 8]) await enter(here, `c${userId}`, { userId })
    await enter(there, 'more')
    t.match(await here.setPresence(1, 7, saying('offline')), { edge: 'vanished' })
    t.match(await there.online(1, { limit: 9, after: 0 }), { users: [{ userId: 8 }], total: 1 })
    t.match(await there.presence(1, [7]), [{ status: 'offline' }])
    t.match(await there.counts(1), { users: 2 })
    await there.setPresence(1, 7, saying('away'))
    t.match(await here.online(1, { limit: 9, after: 0 }), { users: [{ userId: 7 }, { userId: 8 }], total: 2 })
  })

  t.test('offline ends with the next connection; invisible does not, and outlives the last one', async (t) => {
    const world = await open(t)
    const { clock, here, there } = world
    for (const roster of new Set([here, there])) await roster.usePresence({ everyone: 1000, loadInvisible: async () => [] })
    const first = await enter(here, 'a')
    await here.setPresence(1, 7, saying('offline', { hiddenSince: clock.now() }))
    t.match(await there.join(socket(there, 'b'), LIMIT), { isFirstOfUser: false, hasAppeared: true, standing: { status: 'online', online: 1 } })
    t.match(await there.setPresence(1, 7, saying('invisible', { hiddenSince: clock.now() })), { edge: 'vanished', standing: { online: 0 } })
    t.match(await here.join(socket(here, 'c'), LIMIT), { hasAppeared: false, standing: { status: 'invisible', online: 0 } })
    t.match([await there.counts(1), await there.counts(1, true)], [{ total: 3, users: 1 }, { total: 0, active: 0, users: 0 }])
    t.match(await there.online(1, { limit: 9, after: 0 }), { users: [], total: 0 })
    await here.leave(first)
    for (const id of ['b', 'c']) {
      const found = await here.find(1, id)
      if (found !== null) await (found.nodeId === here.nodeId ? here : there).leave(found)
    }
    clock.advance(times.offlineDelay + SOON)
    t.strictSame((await sweepBoth(world)).offline, [7])
    t.match(await here.standing(1, 7), { status: 'invisible' })
    t.match(await there.join(socket(there, 'd'), LIMIT), { isFirstOfUser: true, hasAppeared: false, standing: { status: 'invisible', online: 0 } })
    t.match(await here.presence(1, [7]), [{ status: 'invisible', hiddenSince: Number }])
    t.match(await here.setPresence(1, 7, saying('busy')), { edge: 'appeared', standing: { status: 'busy', online: 1 } })
  })

  t.test('a user in the offline delay is in the list until the offline is confirmed', async (t) => {
    const world = await open(t)
    const { clock, here, there } = world
    await here.leave(await enter(here, 'a'))
    t.match(await there.online(1, { limit: 9, after: 0 }), { users: [{ userId: 7 }], total: 1 })
    clock.advance(times.offlineDelay + SOON)
    await sweepBoth(world)
    t.strictSame(await there.online(1, { limit: 9, after: 0 }), { users: [], total: 0, next: null })
  })
}

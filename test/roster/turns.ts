import type { Redis } from 'ioredis'
import type { Test } from 'tap'
import type { JoinResult, Roster, RosterConnection } from '../../lib/roster/contract.js'
import { cutOff, disturb, type OpenRedisWorld, type RedisWorld } from './redis.js'
import { LIMIT, nothing, socket, SOON, sweep, times } from './world.js'

const names = (count: number): string[] => Array.from({ length: count }, (_, i) => `c${i}`)

/** The user of the nth connection; three tenants of them. */
const ofMany = (roster: Roster, connectionId: string, i: number): Omit<RosterConnection, 'generation'> =>
  socket(roster, connectionId, { tenantId: 1 + i % 3, userId: 1000 + i })

async function enterAll (roster: Roster, count: number): Promise<Array<JoinResult & RosterConnection>> {
  return await Promise.all(names(count).map(async (id, i) => {
    const entry = ofMany(roster, id, i)
    return { ...entry, ...await roster.join(entry, LIMIT) }
  }))
}

const counted = async ({ there }: RedisWorld): Promise<number> =>
  (await Promise.all([1, 2, 3].map(async (tenantId) => (await there.counts(tenantId)).total))).reduce((sum, total) => sum + total, 0)

/** Many sockets open and close in one turn of the event loop: a deploy, a network that is back, a ban. */
export function turns (t: Test, open: OpenRedisWorld): void {
  t.test('hundreds of sockets that open or close at once cost Redis a call for 200 of them', async (t) => {
    const world = await open(t)
    const { clock, here, there, redis } = world
    let end = disturb(redis, () => {})
    const joined = await enterAll(here, 450)
    t.equal(end(), 3)
    t.ok(joined.every(({ isNew, isFirstOfUser }) => isNew && isFirstOfUser))
    t.equal(await counted(world), 450)
    end = disturb(redis, () => {})
    const left = await Promise.all(joined.map(async (entry) => await here.leave(entry)))
    t.equal(end(), 3)
    t.ok(left.every(Boolean))
    t.equal(await counted(world), 0)
    clock.advance(times.offlineDelay + SOON)
    await there.renew()
    t.equal((await sweep(there)).offline.length, 450, 'everybody goes offline, once')
    t.strictSame(await sweep(there), nothing)
  })

  t.test('a connection that opens, is replaced and closes in one turn does so in this order', async (t) => {
    const world = await open(t)
    const { clock, here, there } = world
    const [old] = await enterAll(here, 1)
    if (old === undefined) throw new Error('joined')
    const entry = ofMany(here, 'c0', 0)
    const [left, first, second] = await Promise.all([here.leave(old), here.join(entry, LIMIT), here.join(entry, LIMIT)])
    t.match([left, first, second], [true, { isNew: true, isFirstOfUser: false, replaced: null }, { isNew: false, replaced: { generation: first.generation } }])
    t.match(await there.find(entry.tenantId, 'c0'), { generation: second.generation })
    clock.advance(times.offlineDelay + SOON)
    await there.renew()
    t.strictSame(await sweep(there), nothing, 'the user never left')
  })

  t.test('a connection whose record is damaged fails alone', async (t) => {
    const world = await open(t)
    const { here, redis } = world
    const [first] = await enterAll(here, 1)
    const commands = redis.commands as Redis
    const [key] = await commands.keys(`${redis.prefix}*:connections`)
    await commands.hset(key ?? '', 'c0', 'no JSON')
    const [broken, ...others] = await Promise.allSettled([here.leave(first as RosterConnection), ...['a', 'b'].map(async (id) => await here.join(socket(here, id), LIMIT))])
    t.match(broken, { status: 'rejected', reason: { code: 'RT_INTERNAL' } })
    t.match(others, [{ status: 'fulfilled', value: { isNew: true } }, { status: 'fulfilled', value: { isNew: true } }])
  })

  t.test('changes of one turn while Redis is away are written when it is back, and no user seems to have left', async (t) => {
    const world = await open(t)
    const { clock, here, there, redis } = world
    const before = await enterAll(here, 250)
    const restore = cutOff(redis)
    t.ok((await Promise.all(before.map(async (entry) => await here.leave(entry)))).every(Boolean))
    const joined = await enterAll(here, 220)
    t.ok(joined.every(({ isFirstOfUser }) => !isFirstOfUser))
    t.equal(await counted(world), 250)
    restore()
    t.match(await here.renew(), { displaced: [] })
    t.equal(await counted(world), 220)
    clock.advance(times.offlineDelay + SOON)
    for (const node of [here, there]) await node.renew()
    t.equal((await sweep(there)).offline.length, 30)
  })

  t.test('each call of one turn rejects if Redis goes away before it responds', async (t) => {
    const { here, redis } = await open(t)
    const entries = await enterAll(here, 3)
    const left = Promise.all(entries.map(async (entry) => await here.leave(entry)))
    const registered = Promise.allSettled(names(3).map(async (id, i) => await here.join({ ...ofMany(here, `r${id}`, i), nodeId: null }, LIMIT)))
    const restore = cutOff(redis)
    t.ok((await left).every(Boolean), 'sockets are known here')
    t.ok((await registered).every((result) => result.status === 'rejected' && (result.reason as { code: string }).code === 'RT_STORAGE_UNAVAILABLE'))
    restore()
    await here.renew()
    t.strictSame(await Promise.all(entries.map(async ({ tenantId, connectionId }) => await here.find(tenantId, connectionId))), [null, null, null])
  })
}

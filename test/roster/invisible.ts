import type { Redis } from 'ioredis'
import type { Test } from 'tap'
import { RealtimeError } from '../../lib/errors.js'
import type { Id } from '../../lib/ids.js'
import type { Roster } from '../../lib/roster/contract.js'
import { toStrings } from '../string-ids.js'
import type { OpenRedisWorld, RedisWorld } from './redis.js'
import { enter, LIMIT, saying, socket, SOON, sweepBoth, times } from './world.js'

/** The table of invisible users, which the nodes read, and a world that uses it. */
async function openWith (t: Test, open: OpenRedisWorld, hasStrings: boolean, everyone = 1000): Promise<RedisWorld & { table: Map<number, number>, reads: () => number, away: (is: boolean) => void, base: string }> {
  const world = await open(t)
  const table = new Map<number, number>()
  let [reads, isAway] = [0, false]
  const loadInvisible = async (tenantIds?: readonly Id[]) => {
    reads++
    if (isAway) throw new RealtimeError('RT_STORAGE_UNAVAILABLE')
    const rows = [...table].map(([userId, since]) => ({ tenantId: 1, userId, since }))
    const found = hasStrings ? toStrings(rows) : rows
    return found.filter(({ tenantId }) => tenantIds?.includes(tenantId) ?? true)
  }
  for (const roster of [world.here, world.there, world.third]) await roster.usePresence({ everyone, loadInvisible })
  const tenant = hasStrings ? toStrings({ tenantId: 1 }).tenantId : 1
  return { ...world, table, reads: () => reads, away: (is) => { isAway = is }, base: `${world.redis.prefix}{${tenant}}:` }
}

/** User 7 enters here, and user 8 on a node, where 7 then becomes invisible. */
async function enterInvisibly ({ clock, here, table }: RedisWorld & { table: Map<number, number> }, node: Roster): Promise<void> {
  await enter(here, 'a')
  await enter(node, 'other', { userId: 8 })
  table.set(7, clock.now())
  await node.setPresence(1, 7, saying('invisible', { hiddenSince: clock.now(), seenAt: clock.now() }))
}

async function leaveAll ({ here, there }: RedisWorld, ids: readonly string[]): Promise<void> {
  for (const id of ids) {
    const found = await here.find(1, id)
    if (found !== null) await (found.nodeId === here.nodeId ? here : there).leave(found)
  }
}

const shown = async (roster: Roster): Promise<unknown> => (await roster.online(1, { limit: 9, after: 0 })).users.map(({ userId }) => userId)

/** What of Redis must be gone for others to see somebody who is invisible: nothing. */
export function invisible (t: Test, open: OpenRedisWorld, hasStrings: boolean): void {
  t.test('an invisible user who comes back stays invisible whichever keys Redis has evicted', async (t) => {
    for (const evicted of [['invisible'], ['presence'], ['presence', 'said', 'invisible'], ['present', 'visible', 'presence', 'invisible', 'hidden']]) {
      const world = await openWith(t, open, hasStrings)
      const { clock, here, there, redis, base } = world
      await enterInvisibly(world, here)
      await leaveAll(world, ['a'])
      clock.advance(times.offlineDelay + SOON)
      for (let i = 0; i < 3; i++) {
        for (const name of evicted) await (redis.commands as Redis).del(base + name)
        await sweepBoth(world)
        clock.advance(SOON)
      }
      for (const name of evicted) await (redis.commands as Redis).del(base + name)
      const answers = await Promise.all(['b', 'c', 'd'].map(async (id, i) => await (i === 1 ? here : there).join(socket(i === 1 ? here : there, id), LIMIT)))
      for (const answer of answers) t.match(answer, { hasAppeared: false, standing: { status: 'invisible' } }, evicted.join())
      t.match(await there.presence(1, [7]), [{ status: 'invisible' }])
      for (const roster of [here, there]) await roster.renew()
      t.strictSame(await shown(there), [8])
      t.match(await here.standing(1, 7), { status: 'invisible' })
    }
  })

  t.test('a connected invisible user stays invisible while keys are evicted one after the other, and so does one who leaves', async (t) => {
    const world = await openWith(t, open, hasStrings)
    const { clock, here, there, redis, base } = world
    await enterInvisibly(world, there)
    for (const names of [['invisible'], ['presence'], ['invisible', 'presence'], ['hidden', 'said'], ['invisible', 'presence', 'said', 'visible']]) {
      for (const name of names) await (redis.commands as Redis).del(base + name)
      for (const act of [async () => { await there.repair() }, async () => { await here.renew() }, async () => { await there.renew() }]) {
        await act()
        t.notOk((await shown(here) as number[]).includes(7), names.join())
      }
      t.strictSame(await shown(there), [8], 'and the other one is shown again')
      clock.advance(times.nodeTimeout / 3 + SOON)
    }
    await leaveAll(world, ['a'])
    await (redis.commands as Redis).del(`${base}invisible`, `${base}presence`, `${base}said`)
    clock.advance(times.offlineDelay + SOON)
    const due = [...await here.claimDue(), ...await there.claimDue()]
    t.strictSame(due.flatMap(({ offline }) => offline), [], 'nothing is emitted before it is known whether others saw the user')
    clock.advance(2 * SOON)
    const later = await there.claimDue()
    t.match(later, [{ offline: [7], presences: [{ status: 'invisible' }] }])
  })

  t.test('somebody who is not invisible any more is not made so by an older copy of Redis', async (t) => {
    const world = await openWith(t, open, hasStrings)
    const { clock, here, there, redis, base } = world
    const fields = hasStrings ? toStrings([{ userId: 7 }]).map(({ userId }) => String(userId)) : ['7']
    await (redis.commands as Redis).hset(`${base}invisible`, fields[0] ?? '', '5', '', '1')
    await (redis.commands as Redis).set(`${redis.prefix}state:{${redis.prefix}nodes}`, 'another one')
    for (const roster of [here, there]) await roster.renew()
    t.match(await there.join(socket(there, 'a'), LIMIT), { standing: { status: 'online' } })
    clock.advance(times.nodeTimeout)
  })

  t.test('a tenant is read once, for all who come at the same time, and not again while Redis has it', async (t) => {
    const { here, there, reads, base, redis, clock } = await openWith(t, open, hasStrings)
    const before = reads()
    await Promise.all(Array.from({ length: 20 }, async (_, i) => await enter(here, `c${i}`, { userId: 10 + i })))
    t.equal(reads(), before + 1)
    for (const userId of [50, 51]) await enter(there, `c${userId}`, { userId })
    for (let i = 0; i < 3; i++) {
      clock.advance(times.nodeTimeout / 3 + SOON)
      for (const roster of [here, there]) await roster.renew()
      await there.repair()
    }
    t.equal(reads(), before + 1)
    t.ok(await (redis.commands as Redis).pttl(`${base}invisible`) > 0, 'the key of a tenant that nobody uses ends')
  })

  t.test('a tenant that everybody has left is not searched any more, while Redis still has who is invisible there', async (t) => {
    const world = await openWith(t, open, hasStrings)
    const { clock, here, there, redis, base } = world
    const commands = redis.commands as Redis
    const searches = async (): Promise<number> => {
      let count = 0
      const { sendCommand } = commands
      commands.sendCommand = (command, ...rest) => {
        if (command.args.map(String).includes(base)) count++
        return sendCommand.call(commands, command, ...rest)
      }
      await here.repair()
      commands.sendCommand = sendCommand
      return count
    }
    await enter(here, 'a')
    t.ok(await searches() > 0)
    await leaveAll(world, ['a'])
    clock.advance(times.offlineDelay + SOON)
    await sweepBoth(world)
    t.equal(await commands.exists(`${base}invisible`), 1)
    t.equal(await searches(), 0)
    await enter(there, 'b')
    t.ok(await searches() > 0)
  })

  t.test('while neither Redis nor the database can tell who is invisible, no user is shown, and all are as soon as one can', async (t) => {
    const world = await openWith(t, open, hasStrings)
    const { clock, here, there, table, away } = world
    table.set(7, clock.now())
    away(true)
    await enter(here, 'a')
    await enter(here, 'b', { userId: 8 })
    await here.renew()
    t.strictSame(await shown(there), [])
    away(false)
    clock.advance(times.nodeTimeout / 3 + SOON)
    for (let i = 0; i < 2; i++) await here.renew()
    t.strictSame(await shown(there), [8])
    t.match(await there.presence(1, [7]), [{ status: 'invisible' }])
  })

  t.test('how presence is sent survives a Redis that loses it, also between nine tenths of the number and the number', async (t) => {
    for (const lost of ['mode', 'everything'] as const) {
      const world = await openWith(t, open, hasStrings, 10)
      const { clock, here, there, third, redis, base } = world
      const tells = async (): Promise<unknown[]> => [...await here.claimDue(), ...await there.claimDue()].flatMap(({ announce, mode }) => announce === null ? [] : [{ announce, ...mode }])
      for (let i = 0; i < 11; i++) await enter(i % 2 === 0 ? here : there, `c${i}`, { userId: 10 + i })
      t.match(await tells(), [{ announce: 'mode', everyone: false }])
      await leaveAll(world, ['c10'])
      clock.advance(times.offlineDelay + SOON)
      await sweepBoth(world)
      for (const roster of [here, there]) await roster.renew()
      await tells()
      t.match(await here.standing(1, 10), { everyone: false, online: 10 })

      if (lost === 'mode') await (redis.commands as Redis).del(`${base}mode`)
      else for (const key of await (redis.commands as Redis).keys(`${redis.prefix}*`)) await (redis.commands as Redis).del(key)
      t.equal(here.sendsToEveryone(1), false)
      t.match(await there.join(socket(there, 'c1', { userId: 11 }), LIMIT), { standing: { everyone: false } }, 'as clients were told')
      for (let i = 0; i < 4; i++) {
        for (const roster of [here, there, third]) await roster.renew()
        clock.advance(times.nodeTimeout / 3 + SOON)
      }
      t.notOk((await tells()).some((one) => (one as { everyone: boolean }).everyone), 'no change of the mode is sent')
      t.match(await here.standing(1, 10), { everyone: false, online: 10 })
      await leaveAll(world, ['c0', 'c1'])
      clock.advance(times.offlineDelay + SOON)
      await sweepBoth(world)
      await sweepBoth(world)
      t.match([await here.standing(1, 12), here.sendsToEveryone(1)], [{ everyone: true, online: 8 }, true], `${lost}: nine tenths count`)
    }
  })
}

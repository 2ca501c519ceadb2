import type { Test } from 'tap'
import { disturb, type OpenRedisWorld, type RedisWorld } from './redis.js'
import { enter, LIMIT, saying, socket, SOON, sweep, times, type DueChange } from './world.js'

interface Operation {
  name: string
  /** Answers what is done while the sweeper of another node comes in between. */
  prepare (world: RedisWorld): Promise<() => Promise<unknown>>
  /** When what it did becomes due. */
  dueIn: number
}

const TYPING = 30_000

const operations: Operation[] = [
  {
    name: 'a leave',
    prepare: async ({ here }) => {
      const entry = await enter(here, 'a')
      return async () => await here.leave(entry)
    },
    dueIn: times.offlineDelay
  },
  {
    name: 'a connection without a socket',
    prepare: async ({ here }) => async () => await here.join(socket(here, 'a', { nodeId: null }), LIMIT),
    dueIn: times.registrationTtl
  },
  {
    name: 'a status without a connection',
    prepare: async ({ here }) => async () => await here.setPresence(1, 7, saying('away')),
    dueIn: times.registrationTtl
  },
  {
    name: 'a start of typing',
    prepare: async ({ here, clock }) => async () => await here.startTyping({
      tenantId: 1, userId: 7, conversationId: '42', conversationType: 'group', channels: [], connectionId: 'a',
      startedAt: clock.now(), expiresAt: clock.now() + TYPING
    }),
    dueIn: TYPING
  },
  {
    name: 'the reaping of a dead node',
    prepare: async ({ clock, here, there, third }) => {
      await enter(third, 'a')
      clock.advance(times.nodeTimeout + SOON)
      for (const node of [here, there]) await node.renew()
      return async () => { await here.reap() }
    },
    dueIn: 0
  }
]

/** Gives the tenant something that is due now, so that a sweep claims it and ends its claim. */
async function makeDue ({ clock, there }: RedisWorld): Promise<void> {
  await there.startTyping({
    tenantId: 1, userId: 99, conversationId: 'other', conversationType: 'group', channels: [], connectionId: null,
    startedAt: clock.now() - TYPING, expiresAt: clock.now() - 1
  })
}

const of7 = ({ offline, typing }: DueChange): string[] =>
  [...offline.includes(7) ? ['offline'] : [], ...typing.some(({ userId }) => userId === 7) ? ['typing'] : []]

/** What is told of user 7 until long after it is due; a ghost is who is never told. */
async function toldLater ({ clock, there }: RedisWorld, dueIn: number): Promise<string[]> {
  const told: string[] = []
  for (const wait of [dueIn + SOON, times.offlineDelay + SOON, times.offlineDelay + SOON]) {
    clock.advance(wait)
    await there.renew()
    told.push(...of7(await sweep(there)))
  }
  return told
}

/** The edges hold however the commands of two nodes interleave. */
export function interleaved (t: Test, open: OpenRedisWorld): void {
  for (const { name, prepare, dueIn } of operations) {
    const expected = [dueIn === TYPING ? 'typing' : 'offline']

    t.test(`${name} is told once, wherever the sweep of another node comes in between`, async (t) => {
      for (let at = 0, commands = 1; at < commands; at++) {
        const world = await open(t)
        const run = await prepare(world)
        await makeDue(world)
        const told: string[] = []
        const end = disturb(world.redis, async (count) => { if (count === at) told.push(...of7(await sweep(world.there))) })
        await run()
        commands = end()
        t.strictSame([...told, ...await toldLater(world, dueIn)], expected, `before command ${at + 1} of ${commands}`)
      }
    })

    t.test(`${name} is told once, wherever in the sweep of another node it happens`, async (t) => {
      for (let at = 0, commands = 1; at < commands; at++) {
        const world = await open(t)
        const run = await prepare({ ...world, here: world.there, there: world.here })
        await makeDue(world)
        const end = disturb(world.redis, async (count) => { if (count === at) await run() })
        const told = of7(await sweep(world.here))
        commands = end()
        // This sweep took fewer commands than the one before: it happens after the last of them.
        if (at >= commands) await run()
        t.strictSame([...told, ...await toldLater(world, dueIn)], expected, `before command ${at + 1} of ${commands}`)
      }
    })
  }
}

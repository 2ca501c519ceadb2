import type { Redis } from 'ioredis'
import type { Test } from 'tap'
import { Ids, type IdKind } from '../../lib/ids.js'
import type { RedisConnections } from '../../lib/redis/connect.js'
import { RedisRoster } from '../../lib/roster/redis/roster.js'
import { freshPrefix, log, openRedis, TestClock } from '../suites.js'
import { SOON, takingNumbers, times, type World } from './world.js'

export interface RedisWorld extends World {
  /** A third node, whose connection is its own too. */
  third: RedisRoster
  /** The connections of `here`, to be disturbed. */
  redis: RedisConnections
}

export type OpenRedisWorld = (t: Test) => Promise<RedisWorld>

/** Opens the connections of three nodes once; each world is a prefix of its own on them. */
export async function openCluster (t: Test, ids: IdKind, url?: string): Promise<OpenRedisWorld> {
  const redis = await Promise.all([1, 2, 3].map(async () => await openRedis(t, freshPrefix(), url)))
  return async (t) => {
    const clock = new TestClock()
    const prefix = `${freshPrefix()}:0:`
    const [here, there, third] = redis.map((connections, i) =>
      new RedisRoster(['node-here', 'node-there', 'node-third'][i] ?? '', { ...connections, prefix }, new Ids(ids), clock, times, log)) as
      [RedisRoster, RedisRoster, RedisRoster]
    for (const roster of [here, there, third]) {
      await roster.start()
      t.teardown(async () => { await roster.close() })
    }
    const nodes = { here, there, third }
    return { clock, ...ids === 'integer' ? nodes : takingNumbers(nodes), redis: { ...redis[0] as RedisConnections, prefix } }
  }
}

/**
 * From now on `hook` runs before each command of these connections, told how many came before; where it throws, the
 * command fails without being sent. Returns what ends it and answers how many commands there were.
 */
export function disturb (redis: RedisConnections, hook: (count: number) => void | Promise<void>): () => number {
  const commands = redis.commands as Redis
  const { sendCommand } = commands
  let count = 0
  commands.sendCommand = (command, ...rest) => {
    // The health check comes when it likes.
    const before = command.name === 'ping' || command.args.some((arg) => String(arg).endsWith('probe')) ? count : count++
    Promise.resolve().then(async () => { await hook(before) }).then(
      () => { void sendCommand.call(commands, command, ...rest) },
      (err: Error) => { command.reject(err) })
    return command.promise
  }
  return () => {
    commands.sendCommand = sendCommand
    return count
  }
}

/** This node reaches Redis no more, while the others do, until the returned function is called. */
export const cutOff = (redis: RedisConnections): () => void => disturb(redis, () => { throw new Error('cut off') })

/** `here` falls silent for longer than its lease, while the others do not. */
export async function hereDies ({ clock, there, third }: RedisWorld): Promise<void> {
  for (const part of [times.nodeTimeout / 2, times.nodeTimeout / 2 + SOON]) {
    clock.advance(part)
    for (const node of [there, third]) await node.renew()
  }
}

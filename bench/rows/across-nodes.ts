import type { Dialect } from '../dialects.js'
import { measure, type FanOut } from './fan-out.js'

/** Publishers on one node, members on the other: microseconds of the receiving node for each message that reached a member. */
export async function acrossNodes (dialect: Dialect, work: FanOut, env: Record<string, string>): Promise<number> {
  // One after the other: the first one makes the tables.
  const sending = await dialect.start(env)
  const receiving = await dialect.start(env)
  try {
    return await measure(dialect, sending, receiving, work)
  } finally {
    await Promise.all([sending.stop(), receiving.stop()])
  }
}

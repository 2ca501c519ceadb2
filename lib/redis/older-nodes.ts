import { connectRedis, type ConnectionLog } from './connect.js'

/**
 * Where a node of version 0.1 runs: it renews its lease on this Redis, under a key that carries no identity of the
 * database. Null where none does.
 */
export async function livingLeases (redis: unknown, keyPrefix: string, log: ConnectionLog): Promise<string | null> {
  const { commands, prefix, close } = await connectRedis(redis, keyPrefix, log)
  try {
    const [seconds] = await commands.time()
    const [node] = await commands.zrangebyscore(`${prefix}nodes`, Number(seconds) * 1000, '+inf')
    return node === undefined ? null : `its node ${node} is in Redis (${prefix}nodes)`
  } finally {
    close()
  }
}

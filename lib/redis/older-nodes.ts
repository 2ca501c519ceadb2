import { connectRedis, type ConnectionLog } from './connect.js'

/**
 * Describes a running node of version 0.1, if there is one: such nodes renew their lease under a key without the identity of
 * the database. Null if there is none.
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

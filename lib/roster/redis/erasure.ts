import { privateChannel } from '../../channel-names.js'
import { systemClock } from '../../clock.js'
import type { Ids } from '../../ids.js'
import { channelKey, userKey, type UserRef } from '../../keys.js'
import { RosterCommands } from './commands.js'
import { connectRedis, type ConnectionLog } from '../../redis/connect.js'
import { escaped } from './invisible.js'

/** Removes everything that Redis has of a user who is not connected, without a node. */
export async function eraseFromRedis (url: string, keyPrefix: string, ids: Ids, user: UserRef, log: ConnectionLog): Promise<void> {
  const redis = await connectRedis(url, keyPrefix, log)
  try {
    await forget(new RosterCommands(redis, 'erase', ids, systemClock, log), user)
  } finally {
    redis.close()
  }
}

/** See `Roster.dismiss`. */
export async function dismiss (commands: RosterCommands, { tenantId, userId: user }: UserRef): Promise<void> {
  // Writes pending changes of this node first.
  commands.changes.flush()
  await commands.run('dismissUser', commands.keysOf(tenantId), { user, tenant: tenantId })
  await commands.scheduleAnnouncement(tenantId)
}

/** See `Roster.forget`. */
export async function forget (commands: RosterCommands, user: UserRef): Promise<void> {
  const { redis, prefix } = commands
  const { tenantId, userId } = user
  await commands.run('forgetUser', commands.keysOf(tenantId), { user: userId, tenant: tenantId })
  await commands.scheduleAnnouncement(tenantId)
  const own = channelKey(tenantId, privateChannel(userId))
  await redis.del(`${prefix}sequence:{${own}}`)
  // Who is about to watch the user.
  for await (const keys of redis.scan(`${escaped(commands.base(tenantId))}watches:*`, 1000)) for (const key of keys) await redis.hdelMatching(key, String(userId))
  // Requests are counted under keys, or in fields, that end with the user: `{kind}:{tenant}/{user}`.
  const suffix = `:${userKey(tenantId, userId)}`
  for await (const keys of redis.scan(`${escaped(prefix)}hits:*${escaped(suffix)}`, 1000)) for (const key of keys) await redis.del(key)
  for await (const keys of redis.scan(`${escaped(prefix)}rates:*`, 1000)) for (const key of keys) await redis.hdelMatching(key, `*${escaped(suffix)}`)
}

import type { FastifyInstance } from 'fastify'
import type { Redis } from 'ioredis'
import {
  channels, connections, presence, realtime, stats, typing, type Identity, type RealtimeOptions
} from '../../plugins/index.js'
import type { DeskDatabase } from './database.js'

/** The one place where the product's accounts become the users of fastify-realtime. */
async function identityOf (db: DeskDatabase, accountId: string | undefined): Promise<Identity | null> {
  if (accountId === undefined) return null
  const account = await db.selectFrom('desk_accounts').selectAll().where('id', '=', accountId).executeTakeFirst()
  return account === undefined ? null : { tenantId: account.company, userId: account.number, name: account.name }
}

/** fastify-realtime in the product, registered as the README says and nothing else. */
export async function addRealtime (app: FastifyInstance, { db, redis, options = {} }: {
  db: DeskDatabase, redis: Redis, options?: Partial<RealtimeOptions>
}): Promise<void> {
  await app.register(realtime, {
    database: db,
    redis,
    authenticate: async ({ request }) => await identityOf(db, request.session.accountId),
    authorize: ({ action, channel }) => action === 'direct' || channel.startsWith('group.'),
    resolveUsers: async (_tenantId, userIds) => {
      const accounts = await db.selectFrom('desk_accounts').select(['number', 'name']).where('number', 'in', userIds).execute()
      return new Map(accounts.map(({ number, name }) => [number, { name }]))
    },
    ...options
  })
  for (const plugin of [connections, presence, typing, channels, stats]) await app.register(plugin)
}

import { Type, type Static } from '@sinclair/typebox'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import type { Id } from '../../lib/ids.js'
import { internalsFor } from '../../lib/parts.js'
import { restScope } from '../../lib/plugin-kit/rest-scope.js'
import { readSettings } from '../../lib/settings.js'
import { frames } from './frames.js'
import { PresenceRules } from './presence.js'
import { routes } from './routes.js'
import type { OnlineUsers, UserPresence } from './schemas.js'
import { PresenceStore } from './store.js'

const PresenceSettings = Type.Object({
  updatesPerMinute: Type.Integer({ default: 60, minimum: 0, description: 'Presence updates of one user, REST and frames together; 0: no limit' })
})

/** Options of the presence plugin; every one has a default. */
export type PresenceOptions = Partial<Static<typeof PresenceSettings>>

/** `fastify.realtime.presence` */
export interface PresenceApi {
  /** The presence of these users, in their order. */
  of (tenantId: Id, userIds: Id[]): Promise<UserPresence[]>
  /** A page of those who are online, by user id; `cursor` is the `next_cursor` of the page before. */
  online (tenantId: Id, page?: { limit?: number, cursor?: Id }): Promise<OnlineUsers>
}

declare module '../../lib/realtime.js' {
  interface RealtimeParts {
    presence: PresenceApi
  }
}

async function presencePlugin (fastify: FastifyInstance, options: PresenceOptions): Promise<void> {
  const internals = internalsFor(fastify, 'presence')
  const { updatesPerMinute } = readSettings(PresenceSettings, options, { of: 'presence', besides: [] })
  const rate = { max: updatesPerMinute, window: 60_000 }
  const store = new PresenceStore(internals.database, internals.ids, internals.clock, fastify.log)
  const presence = new PresenceRules(internals, store, rate)

  fastify.realtime.presence = {
    of: async (tenantId, userIds) => await presence.of(tenantId, userIds),
    online: async (tenantId, page = {}) => await presence.online(tenantId, page)
  }
  frames(internals.frames, presence)
  await restScope(fastify, internals, (scope) => { routes(scope, presence, internals.ids, rate) })
  internals.onBeforeClose(async () => { await store.close() })
}

export default fp(presencePlugin, { name: 'realtime-presence', fastify: '5.x' })

import { Type, type Static } from '@sinclair/typebox'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import type { Id } from '../../lib/ids.js'
import { internalsFor } from '../../lib/parts.js'
import { restScope } from '../../lib/plugin-kit/rest-scope.js'
import type { Device, PresenceStatus } from '../../lib/schemas.js'
import { readSettings } from '../../lib/settings.js'
import { frames } from './frames.js'
import { PresenceRules } from './presence.js'
import { routes } from './routes.js'
import type { OnlineUsers, UserPresence } from './schemas.js'
import { PresenceStore } from './store.js'

const PresenceSettings = Type.Object({
  updatesPerMinute: Type.Integer({ default: 60, minimum: 0, description: 'Presence updates of one user per minute, REST and frames together; 0: no limit' })
})

/** Options of the presence plugin; every one has a default. */
export type PresenceOptions = Partial<Static<typeof PresenceSettings>>

/** The presence of one user. */
export interface HostPresence {
  userId: Id
  status: PresenceStatus
  /** Null for a user who was never seen. */
  device: Device | null
  /** For people: `Online on desktop`, `Away for 5m`, `Busy`, `Offline`. */
  displayStatus: string
  /** ISO 8601, UTC; null for a user who was never seen. */
  lastSeenAt: string | null
}

/** A page of the users who are online. */
export interface OnlinePage {
  users: Array<{ userId: Id, name: string | null, status: PresenceStatus, device: Device | null, displayStatus: string }>
  /** All users who are online, on every page. */
  total: number
  /** The `cursor` of the next page; null on the last one. */
  nextCursor: Id | null
}

/** `app.realtime.presence` */
export interface PresenceApi {
  /**
   * The presence of these users, in the order given: `const [ann] = await app.realtime.presence.get(1, [7])`. Rejects with
   * `RT_STORAGE_UNAVAILABLE` while Redis, or the database for a user who is offline, cannot be read.
   */
  get (tenantId: Id, userIds: Id[]): Promise<HostPresence[]>
  /**
   * A page of the users who are online, by user id. `limit` is 100 unless given; `cursor` is the `nextCursor` of the page
   * before. Rejects with `RT_STORAGE_UNAVAILABLE` while Redis cannot be read.
   */
  listOnline (tenantId: Id, page?: { limit?: number, cursor?: Id }): Promise<OnlinePage>
  /** @deprecated Use `get`. */
  of (tenantId: Id, userIds: Id[]): Promise<UserPresence[]>
  /** @deprecated Use `listOnline`. */
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
  const rate = { kind: 'presence', max: updatesPerMinute, window: 60_000 }
  const store = new PresenceStore(internals.database, internals.ids, internals.clock, fastify.log)
  const presence = new PresenceRules(internals, store)

  fastify.realtime.presence = {
    get: async (tenantId, userIds) => (await presence.of(tenantId, userIds)).map((user) => ({
      userId: user.user_id, status: user.status, device: user.device, displayStatus: user.display_status, lastSeenAt: user.last_seen_at
    })),
    listOnline: async (tenantId, page = {}) => {
      const { data, total, next_cursor: nextCursor } = await presence.online(tenantId, page)
      const users = data.map(({ user_id: userId, name, status, device, display_status: displayStatus }) => ({ userId, name, status, device, displayStatus }))
      return { users, total, nextCursor }
    },
    of: async (tenantId, userIds) => await presence.of(tenantId, userIds),
    online: async (tenantId, page = {}) => await presence.online(tenantId, page)
  }
  frames(internals.frames, presence, rate)
  await restScope(fastify, internals, (scope) => { routes(scope, presence, internals.ids, rate) })
  internals.onBeforeClose(async () => { await store.close() })
}

export default fp(presencePlugin, { name: 'realtime-presence', fastify: '5.x' })

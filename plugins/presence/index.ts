import { Type, type Static } from '@sinclair/typebox'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { OptionError } from '../../lib/errors.js'
import type { Id } from '../../lib/ids.js'
import { internalsFor } from '../../lib/parts.js'
import { restScope } from '../../lib/plugin-kit/rest-scope.js'
import { Resync } from '../../lib/plugin-kit/resync.js'
import type { Device, PresenceStatus } from '../../lib/schemas.js'
import { readSettings } from '../../lib/settings.js'
import { Announcer } from './announcer.js'
import { frames } from './frames.js'
import { PresenceRules } from './presence.js'
import { routes } from './routes.js'
import type { OnlineUsers, UserPresence } from './schemas.js'
import { PresenceStore } from './store.js'
import { Visibility, type Visible } from './visibility.js'
import { Watching } from './watching.js'

const PresenceSettings = Type.Object({
  updatesPerMinute: Type.Integer({ default: 60, minimum: 0, description: 'Presence updates of one user per minute, REST and frames together; 0: no limit' }),
  maxWatched: Type.Integer({ default: 1000, minimum: 0, description: 'Users that one connection may watch; 0: no limit' }),
  everyone: Type.Union([Type.Integer({ minimum: 0 }), Type.Literal('always'), Type.Literal('never')], {
    default: 1000,
    description: 'While at most this many users of a tenant are online, every change is sent to everyone; beyond it, only to watchers of the user'
  })
})

export type { Visible } from './visibility.js'

/** Options of the presence plugin; every one has a default. */
export interface PresenceOptions extends Partial<Static<typeof PresenceSettings>> {
  /**
   * Decides who may see whom: returns the users among `userIds` whose presence `viewerId` may see; the others look offline. With it, `everyone`
   * is `'never'`.
   */
  visible?: Visible
}

/** The presence of one user. */
export interface HostPresence {
  userId: Id
  status: PresenceStatus
  /** Null for a user who was never seen. */
  device: Device | null
  /** For people: `Online on desktop`, `Away for 5m`, `Busy`, `Offline`. */
  displayStatus: string
  lastMessage: string | null
  /** The object that the user set with the status. */
  data: Record<string, unknown> | null
  /** ISO 8601, UTC; null for a user who was never seen. */
  lastSeenAt: string | null
}

/** A page of the users who are online. */
export interface OnlinePage {
  users: Array<{ userId: Id, name: string | null, status: PresenceStatus, device: Device | null, displayStatus: string, lastMessage: string | null, data: Record<string, unknown> | null }>
  /** All users who are online, on every page. */
  total: number
  /** The `cursor` of the next page; null on the last one. */
  nextCursor: Id | null
}

/** `app.realtime.presence` */
export interface PresenceApi {
  /**
   * The presence of these users as other users see it, in the order given: `const [ann] = await app.realtime.presence.get(1, [7])`. Rejects with
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
  const { updatesPerMinute, maxWatched, everyone } = readSettings(PresenceSettings, options, { of: 'presence', besides: ['visible'] })
  const { visible } = options
  if (visible !== undefined && typeof visible !== 'function') throw new OptionError('visible', 'must be a function')
  const rate = { kind: 'presence', max: updatesPerMinute, window: 60_000 }
  const store = new PresenceStore(internals.database, internals.ids, internals.clock, fastify.log)
  const visibility = new Visibility(internals, visible)
  const presence = new PresenceRules(internals, store, new Announcer(internals), visibility)
  const watching = new Watching(internals, presence, visibility, maxWatched === 0 ? Infinity : maxWatched)
  const limit = everyone === 'always' ? Infinity : everyone === 'never' ? 0 : everyone
  await internals.roster.usePresence({ everyone: visibility.isLimited ? 0 : limit, loadInvisible: async (tenantIds) => await store.invisible(tenantIds) })
  const resync = new Resync(async () => { await watching.resync() }, internals.settings.presenceLease, fastify.log)
  internals.bus.on('reconnected', () => { resync.begin() })

  fastify.realtime.presence = {
    get: async (tenantId, userIds) => await presence.of(tenantId, userIds, null),
    listOnline: async (tenantId, page = {}) => {
      const { data, total, next_cursor: nextCursor } = await presence.online(tenantId, page)
      const users = data.map(({ user_id: userId, last_message: lastMessage, display_status: displayStatus, ...user }) =>
        ({ userId, ...user, lastMessage, displayStatus }))
      return { users, total, nextCursor }
    },
    of: async (tenantId, userIds) => await presence.rows(tenantId, userIds, null),
    online: async (tenantId, page = {}) => await presence.online(tenantId, page)
  }
  frames(internals.frames, presence, watching, rate)
  await restScope(fastify, internals, (scope) => { routes(scope, presence, watching, internals.ids, rate) })
  internals.onBeforeClose(async () => {
    resync.close()
    await store.close()
  })
}

export default fp(presencePlugin, { name: 'realtime-presence', fastify: '5.x' })

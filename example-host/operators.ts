import { Type, type Static } from '@sinclair/typebox'
import type { FastifyInstance } from 'fastify'
import { RealtimeError, type HostStats, type Id as IdType, type Identity } from '../plugins/index.js'
import { ErrorResponse, Id, withIds } from '../plugins/schemas.js'
import { bearerOf } from './bearer.js'
import { isOperator } from './figures.js'
import type { Settings } from './settings.js'

const Member = Type.Object({ clubId: Id, userId: Id })
const Kick = Type.Object({ clubId: Id, userId: Id, channel: Type.String({ minLength: 1, maxLength: 255 }) })
const Close = Type.Object({ clubId: Id, connectionId: Type.String({ minLength: 1, maxLength: 64 }) })
const Ban = Type.Object({ clubId: Id, userId: Id, minutes: Type.Optional(Type.Integer({ minimum: 1 })), reason: Type.Optional(Type.String({ maxLength: 255 })) })

const Outcome = Type.Object({ connections: Type.Integer(), complete: Type.Boolean() })
const Connection = Type.Object({
  connectionId: Type.String(),
  nodeId: Type.Union([Type.String(), Type.Null()]),
  device: Type.String(),
  ipAddress: Type.Union([Type.String(), Type.Null()]),
  connectedAt: Type.Integer(),
  channels: Type.Union([Type.Array(Type.String()), Type.Null()])
})
const Online = Type.Object({
  users: Type.Array(Type.Object({ userId: Id, name: Type.Union([Type.String(), Type.Null()]), connections: Type.Array(Connection) })),
  total: Type.Integer(),
  figures: Type.Union([Type.Object({
    totalConnections: Type.Integer(), activeConnections: Type.Integer(), uniqueUsers: Type.Integer(), pendingEvents: Type.Integer(), failedEvents: Type.Integer()
  }), Type.Null()], { description: 'Of the club, over all nodes; null while they cannot be read' }),
  rooms: Type.Array(Type.Object({ channel: Type.String(), members: Type.Integer() }), { description: 'Groups of the users above, and how many members they have' })
})

const errors = { 400: ErrorResponse, 401: ErrorResponse, 403: ErrorResponse, 500: ErrorResponse, 503: ErrorResponse }
/** Users shown at once. */
const SHOWN = 100
const ROOMS = 20

/** The routes of the dashboard for operators: list connected users, kick, close and ban. They also work with `curl`. */
export async function operators (app: FastifyInstance, { ids, plugins }: Settings): Promise<void> {
  const figuresOf = async (clubId: IdType): Promise<HostStats | null> => plugins.includes('stats') ? await app.realtime.stats.get(clubId).catch(() => null) : null
  await app.register(async (scope) => {
    scope.addHook('onRequest', async (request) => {
      const identity: Identity | null = await app.realtime.access.identify(bearerOf(request), request)
      if (identity === null) throw new RealtimeError('RT_UNAUTHENTICATED')
      if (!isOperator(identity)) throw new RealtimeError('RT_FORBIDDEN')
    })
    const schema = { tags: ['operators'] }

    scope.get<{ Querystring: { clubId: IdType } }>('/online', {
      schema: { ...schema, summary: 'List the connected users of a club, with addresses and channels', querystring: withIds(Type.Object({ clubId: Id }), ids), response: { ...errors, 200: withIds(Online, ids) } }
    }, async ({ query: { clubId } }) => {
      const { users: online, total } = await app.realtime.presence.listOnline(clubId, { limit: SHOWN })
      const users = await Promise.all(online.map(async ({ userId, name }) =>
        ({ userId, name, connections: await app.realtime.connections.of(clubId, userId) })))
      const groups = new Set(users.flatMap(({ connections }) => connections.flatMap(({ channels }) => channels ?? [])).filter((channel) => channel.startsWith('group.')))
      const rooms = await Promise.all([...groups].slice(0, ROOMS).map(async (channel) => ({ channel, members: await app.realtime.channels.count(clubId, channel) })))
      return { users, total, figures: await figuresOf(clubId), rooms }
    })
    scope.post<{ Body: Static<typeof Kick> }>('/kick', {
      schema: { ...schema, summary: 'Take a user out of a channel', body: withIds(Kick, ids), response: { ...errors, 200: Outcome } }
    }, async ({ body: { clubId, userId, channel } }) => await app.realtime.channels.kick(clubId, userId, channel))
    scope.post<{ Body: Static<typeof Close> }>('/close', {
      schema: { ...schema, summary: 'Close one connection', body: withIds(Close, ids), response: { ...errors, 200: Outcome } }
    }, async ({ body: { clubId, connectionId } }) =>
      ({ connections: Number(await app.realtime.connections.close(clubId, connectionId)), complete: true }))
    scope.post<{ Body: Static<typeof Ban> }>('/ban', {
      schema: { ...schema, summary: 'Disconnect a user and keep them out', body: withIds(Ban, ids), response: { ...errors, 200: Outcome } }
    }, async ({ body: { clubId: tenantId, userId, minutes, reason = null } }) =>
      await app.realtime.access.ban({ tenantId, userId, reason, until: minutes === undefined ? null : Date.now() + minutes * 60_000 }))
    scope.post<{ Body: Static<typeof Member> }>('/unban', {
      schema: { ...schema, summary: 'Let a user in again', body: withIds(Member, ids), response: { ...errors, 200: Outcome } }
    }, async ({ body: { clubId: tenantId, userId } }) => await app.realtime.access.unban({ tenantId, userId }))
  }, { prefix: '/operators' })
}

import type { Static } from '@sinclair/typebox'
import type { FastifyInstance } from 'fastify'
import { RealtimeError, type Identity, type IdKind } from '../plugins/index.js'
import { ErrorResponse, withIds } from '../plugins/schemas.js'
import { bearerOf } from './bearer.js'
import { People, PeopleQuery } from './schemas.js'
import type { openUsers } from './users.js'

const errors = { 400: ErrorResponse, 401: ErrorResponse, 403: ErrorResponse, 429: ErrorResponse, 500: ErrorResponse, 503: ErrorResponse }

/** The host's directory, for the demo page: names of users who are offline, and people found by typing. */
export function people (app: FastifyInstance, users: Awaited<ReturnType<typeof openUsers>>, ids: IdKind): void {
  app.get<{ Querystring: Static<typeof PeopleQuery> }>('/people', {
    schema: { tags: ['host'], summary: 'People of the caller’s club, by id or by the beginning of a word in their name', querystring: PeopleQuery, response: { ...errors, 200: withIds(People, ids) } }
  }, async (request): Promise<{ people: Static<typeof People>['people'] }> => {
    const identity: Identity | null = await app.realtime.access.identify(bearerOf(request), request)
    if (identity === null) throw new RealtimeError('RT_UNAUTHENTICATED')
    const { ids: asked = '', search } = request.query
    if (search !== undefined) return { people: await users.search(identity.tenantId, search) }
    const known = asked.split(',').map(users.parse).filter((id) => id !== null)
    if (known.length === 0) return { people: [] }
    const names = await users.names(identity.tenantId, known)
    return { people: [...names].map(([userId, { name }]) => ({ userId, name })) }
  })
}

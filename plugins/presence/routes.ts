import { errorResponses } from '../../lib/schemas.js'
import { Type } from '@sinclair/typebox'
import { callerOf, rateKey, type RestScope } from '../../lib/rest.js'
import type { Rate } from '../../lib/limits.js'
import { RATE_KIND, type PresenceRules } from './presence.js'
import { OnlineQuery, OnlineUsers, UpdateBody, Updated, UserIdsQuery, UserParams, UserPresence } from './schemas.js'

export function routes (scope: RestScope, presence: PresenceRules, rate: Rate): void {
  const tags = ['presence']

  scope.get('/presence/:userId', {
    schema: {
      tags,
      summary: 'The presence of one user',
      params: UserParams,
      response: { ...errorResponses, 200: Type.Object({ data: UserPresence }) }
    }
  }, async (request) => {
    const { identity } = callerOf(request)
    const [data] = await presence.of(identity.tenantId, [request.params.userId])
    if (data === undefined) throw new Error('a user that was asked for is always answered')
    return { data }
  })

  scope.get('/presence', {
    schema: {
      tags,
      summary: 'The presence of up to 200 users in one read, in the order asked',
      querystring: UserIdsQuery,
      response: { ...errorResponses, 200: Type.Object({ data: Type.Array(UserPresence) }) }
    }
  }, async (request) => {
    const { identity } = callerOf(request)
    return { data: await presence.of(identity.tenantId, request.query.user_ids.split(',').map(Number)) }
  })

  scope.get('/online-users', {
    schema: {
      tags,
      summary: 'Who is online, by user id',
      querystring: OnlineQuery,
      response: { ...errorResponses, 200: OnlineUsers }
    }
  }, async (request) => await presence.online(callerOf(request).identity.tenantId, request.query))

  scope.post('/presence/update', {
    config: {
      rateLimit: { max: rate.max || Number.MAX_SAFE_INTEGER, timeWindow: rate.window, keyGenerator: (request) => rateKey(RATE_KIND, callerOf(request).identity) }
    },
    schema: { tags, summary: 'Set the caller’s status', body: UpdateBody, response: { ...errorResponses, 200: Updated } }
  }, async (request) => {
    const { status, device, last_message: lastMessage } = request.body
    const data = { status, ...(device === undefined ? {} : { device }), ...(lastMessage === undefined ? {} : { lastMessage }) }
    const { updatedAt, ...rest } = await presence.update(callerOf(request), data, 'web')
    return { data: { ...rest, updated_at: updatedAt } }
  })
}

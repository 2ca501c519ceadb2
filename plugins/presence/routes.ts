import type { UserRate } from '../../lib/frame-router.js'
import type { Ids } from '../../lib/ids.js'
import { callerOf, ownRate, sendJson } from '../../lib/plugin-kit/rest-scope.js'
import type { RestScope } from '../../lib/plugin-kit/typebox-provider.js'
import type { PresenceRules } from './presence.js'
import { rest } from './schemas.js'
import type { Watching } from './watching.js'

export function routes (scope: RestScope, presence: PresenceRules, watching: Watching, ids: Ids, rate: UserRate): void {
  scope.get('/presence/:userId', { schema: rest['GET /presence/:userId'] }, async (request) => {
    const caller = callerOf(request)
    const [data] = await presence.rows(caller.identity.tenantId, [request.params.userId], caller)
    if (data === undefined) throw new Error('of returns an entry for each user id')
    return { data }
  })

  scope.get('/presence', { schema: rest['GET /presence'] }, async (request) => {
    const caller = callerOf(request)
    return { data: await presence.rows(caller.identity.tenantId, request.query.user_ids.split(',').map((id) => ids.parse(id)), caller) }
  })

  scope.get('/online-users', { schema: rest['GET /online-users'] }, (request, reply) => {
    sendJson(reply, presence.onlineBytes(callerOf(request), request.query))
  })

  scope.post('/presence/watch', { schema: rest['POST /presence/watch'] }, async (request) => {
    const users = await watching.watchFor(callerOf(request), request.body.connection_id, request.body.user_ids)
    return {
      data: {
        users: users.map(({ userId, lastMessage, lastSeenAt, ...user }) => ({ user_id: userId, ...user, last_message: lastMessage, last_seen_at: lastSeenAt }))
      }
    }
  })

  scope.post('/presence/unwatch', { schema: rest['POST /presence/unwatch'] }, async (request) => ({
    data: { watching: await watching.unwatchFor(callerOf(request), request.body.connection_id, request.body.user_ids) }
  }))

  scope.post('/presence/update', {
    config: ownRate(rate),
    schema: rest['POST /presence/update']
  }, async (request) => {
    const { status, device, last_message: lastMessage, data } = request.body
    const updated = await presence.update(callerOf(request), { status, device, lastMessage, data })
    return { data: { status: updated.status, device: updated.device, updated_at: updated.updatedAt } }
  })
}

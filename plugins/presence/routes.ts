import type { UserRate } from '../../lib/frame-router.js'
import type { Ids } from '../../lib/ids.js'
import { callerOf, ownRate, sendJson } from '../../lib/plugin-kit/rest-scope.js'
import type { RestScope } from '../../lib/plugin-kit/typebox-provider.js'
import type { PresenceRules } from './presence.js'
import { rest } from './schemas.js'

export function routes (scope: RestScope, presence: PresenceRules, ids: Ids, rate: UserRate): void {
  scope.get('/presence/:userId', { schema: rest['GET /presence/:userId'] }, async (request) => {
    const { identity } = callerOf(request)
    const [data] = await presence.of(identity.tenantId, [request.params.userId])
    if (data === undefined) throw new Error('of returns an entry for each user id')
    return { data }
  })

  scope.get('/presence', { schema: rest['GET /presence'] }, async (request) => {
    const { identity } = callerOf(request)
    return { data: await presence.of(identity.tenantId, request.query.user_ids.split(',').map((id) => ids.parse(id))) }
  })

  scope.get('/online-users', { schema: rest['GET /online-users'] }, (request, reply) => {
    sendJson(reply, presence.onlineBytes(callerOf(request).identity.tenantId, request.query))
  })

  scope.post('/presence/update', {
    config: ownRate(rate),
    schema: rest['POST /presence/update']
  }, async (request) => {
    const { status, device, last_message: lastMessage } = request.body
    const updated = await presence.update(callerOf(request), { status, device, lastMessage })
    return { data: { status: updated.status, device: updated.device, updated_at: updated.updatedAt } }
  })
}

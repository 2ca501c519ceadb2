import { toIso } from '../../lib/clock.js'
import type { Realtime } from '../../lib/core.js'
import { callerOf, type RestScope } from '../../lib/rest.js'
import { tenantStats } from '../../lib/tenant-stats.js'
import type { Connections } from './connections.js'
import { rest } from './schemas.js'
import { readUserAgent } from './user-agent.js'

export function routes (scope: RestScope, realtime: Realtime, connections: Connections): void {
  scope.post('/connect', { schema: rest['POST /connect'] }, async (request, reply) => {
    const { identity } = callerOf(request)
    const client = { ...readUserAgent(request.headers['user-agent']), ipAddress: request.ip }
    const { fresh, connectedAt } = await connections.register(identity, request.body, client)
    reply.code(fresh ? 201 : 200)
    return {
      data: {
        connection_id: request.body.connection_id,
        status: 'connected' as const,
        user_id: identity.userId,
        club_id: identity.tenantId,
        connected_at: toIso(connectedAt)
      }
    }
  })

  scope.post('/disconnect', { schema: rest['POST /disconnect'] }, async (request) => {
    await connections.disconnect(callerOf(request).identity, request.body.connection_id)
    return { message: 'Disconnected successfully' }
  })

  scope.post('/heartbeat', { schema: rest['POST /heartbeat'] }, async (request) => {
    const { identity } = callerOf(request)
    await connections.heartbeat(identity, request.body.connection_id)
    return { data: await tenantStats(realtime, identity.tenantId) }
  })
}

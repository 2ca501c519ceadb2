import type { onRequestHookHandler } from 'fastify'
import { toIso } from '../../lib/clock.js'
import type { Internals } from '../../lib/internals.js'
import { callerOf } from '../../lib/plugin-kit/rest-scope.js'
import { tenantStats } from '../../lib/plugin-kit/tenant-stats.js'
import type { RestScope } from '../../lib/plugin-kit/typebox-provider.js'
import type { Connections } from './connections.js'
import { rest } from './schemas.js'
import type { Uplink } from './uplink.js'
import { readUserAgent } from './user-agent.js'

export function routes (scope: RestScope, internals: Internals, connections: Connections, uplink: Uplink): void {
  scope.post('/connect', { schema: rest['POST /connect'] }, async (request, reply) => {
    const { identity } = callerOf(request)
    const client = { ...readUserAgent(request.headers['user-agent']), ipAddress: request.ip }
    const { isNew, connectedAt } = await connections.register(identity, request.body, client)
    reply.code(isNew ? 201 : 200)
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

  // Limited by the rate of the connection's frames, and not like other requests.
  const count: onRequestHookHandler = (request, _reply, done) => {
    uplink.count(callerOf(request).identity)
    done()
  }
  scope.post('/frames', { schema: rest['POST /frames'], config: { realtime: { rate: false }, rateLimit: false }, onRequest: count }, async (request, reply) => {
    const { connection_id: connectionId, frames } = request.body
    await uplink.send(callerOf(request).identity, connectionId, frames)
    reply.code(202)
    return { data: { accepted: frames.length } }
  })

  scope.post('/heartbeat', { schema: rest['POST /heartbeat'] }, async (request) => {
    const { identity } = callerOf(request)
    await connections.heartbeat(identity, request.body.connection_id)
    return { data: await tenantStats(internals, identity.tenantId) }
  })
}

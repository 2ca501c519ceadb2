import { ErrorResponse, errorResponses } from '../../lib/schemas.js'
import { toIso } from '../../lib/clock.js'
import type { Realtime } from '../../lib/core.js'
import { callerOf, type RestScope } from '../../lib/rest.js'
import { tenantStats } from '../../lib/tenant-stats.js'
import type { Connections } from './connections.js'
import { ConnectBody, Connected, ConnectionBody, Disconnected, Heartbeat } from './schemas.js'
import { readUserAgent } from './user-agent.js'

export function routes (scope: RestScope, realtime: Realtime, connections: Connections): void {
  const tags = ['connections']

  scope.post('/connect', {
    schema: {
      tags,
      summary: 'Register a connection, before its socket or without one',
      body: ConnectBody,
      response: { ...errorResponses, 200: Connected, 201: Connected, 409: ErrorResponse }
    }
  }, async (request, reply) => {
    const { identity } = callerOf(request)
    const client = { ...readUserAgent(request.headers['user-agent']), ipAddress: request.ip }
    const { fresh, connectedAt } = await connections.register(identity, request.body, client)
    return await reply.code(fresh ? 201 : 200).send({
      data: {
        connection_id: request.body.connection_id, status: 'connected', user_id: identity.userId, connected_at: toIso(connectedAt)
      }
    })
  })

  scope.post('/disconnect', {
    schema: {
      tags,
      summary: 'End a connection; its socket, on whichever node, is closed with 4000',
      body: ConnectionBody,
      response: { ...errorResponses, 200: Disconnected, 404: ErrorResponse }
    }
  }, async (request) => {
    await connections.disconnect(callerOf(request).identity, request.body.connection_id)
    return { message: 'Disconnected successfully' }
  })

  scope.post('/heartbeat', {
    schema: {
      tags,
      summary: 'Keep a connection without a socket alive; answers like /stats',
      body: ConnectionBody,
      response: { ...errorResponses, 200: Heartbeat, 404: ErrorResponse }
    }
  }, async (request) => {
    const { identity } = callerOf(request)
    await connections.heartbeat(identity, request.body.connection_id)
    return { data: await tenantStats(realtime, identity.tenantId) }
  })
}

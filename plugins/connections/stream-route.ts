import type { FastifyInstance, onRequestHookHandler } from 'fastify'
import { errorBody, RealtimeError } from '../../lib/errors.js'
import type { Internals } from '../../lib/internals.js'
import { callerOf, restScope } from '../../lib/plugin-kit/rest-scope.js'
import { overloaded, type Arrivals } from './arrivals.js'
import { closeWithConnection } from './node/close-with-connection.js'
import { isAllowedOrigin } from './origin.js'
import type { Places } from './places.js'
import { rest } from './schemas.js'
import type { Streams } from './streams.js'
import type { Supervisor } from './supervisor.js'

export interface StreamRouteParts {
  internals: Internals
  /** The result of `readOrigins`. */
  origins: ReadonlySet<string>
  streams: Streams
  supervisor: Supervisor
  places: Places
  arrivals: Arrivals
}

/** `GET {prefix}/stream`: limited like sockets, not like other requests. */
export async function streamRoute (fastify: FastifyInstance, { internals, origins, streams, supervisor, places, arrivals }: StreamRouteParts): Promise<void> {
  const admit: onRequestHookHandler = (request, reply, done) => {
    const refuse = (error: RealtimeError): void => {
      if (error.retryAfter !== undefined) reply.header('retry-after', error.retryAfter)
      void reply.code(error.statusCode).send(errorBody(error))
    }
    if (!isAllowedOrigin(request, origins)) return refuse(new RealtimeError('RT_FORBIDDEN', 'This origin is not allowed'))
    const enter = (): void => {
      if (supervisor.draining) refuse(new RealtimeError('RT_UNAVAILABLE', 'This node restarts', { retryAfter: 1 }))
      else done()
    }
    if (supervisor.draining) return enter()
    closeWithConnection(reply.raw, request.raw.socket)
    if (!places.admit(request, reply, reply.raw)) return
    const retryAfter = arrivals.arrive(enter)
    if (retryAfter !== null) refuse(overloaded(retryAfter))
  }
  await restScope(fastify, internals, (scope) => {
    // A host's limiter per address would refuse an office whose clients all reconnect. A HEAD would never end.
    scope.get('/stream', { schema: rest['GET /stream'], exposeHeadRoute: false, config: { realtime: { rate: false }, rateLimit: false } }, async (request, reply) => {
      await streams.open(callerOf(request), request, reply, request.query)
    })
  }, admit)
}

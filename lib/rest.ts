import rateLimit from '@fastify/rate-limit'
import type {
  FastifyBaseLogger, FastifyInstance, FastifyRequest, FastifyTypeProvider, RawReplyDefaultExpression, RawRequestDefaultExpression, RawServerDefault
} from 'fastify'
import type { Static, TSchema } from '@sinclair/typebox'
import { bearerToken } from './access.js'
import type { Realtime } from './core.js'
import { RealtimeError, toRealtimeError } from './errors.js'
import type { Caller, Identity } from './identity.js'
import { rateLimited } from './limits.js'

/** TypeBox schemas as types of params, query, body and replies. */
export interface TypeBoxProvider extends FastifyTypeProvider {
  validator: this['schema'] extends TSchema ? Static<this['schema']> : unknown
  serializer: this['schema'] extends TSchema ? Static<this['schema']> : unknown
}

/** A Fastify scope whose routes are typed by their TypeBox schemas. */
export type RestScope = FastifyInstance<RawServerDefault, RawRequestDefaultExpression, RawReplyDefaultExpression, FastifyBaseLogger, TypeBoxProvider>

const identities = new WeakMap<FastifyRequest, Identity>()

/** Who sent this request; only inside a scope made by {@link restScope}, after its onRequest hook. */
export function callerOf (request: FastifyRequest): Caller {
  const identity = identities.get(request)
  if (identity === undefined) throw new RealtimeError('RT_UNAUTHENTICATED')
  return { identity, connectionId: null }
}

/** The key under which a user's signs of one kind are counted. */
export const rateKey = (kind: string, { tenantId, userId }: Identity): string => `${kind}:${tenantId}/${userId}`

/**
 * Registers a plugin's routes under the common prefix: authenticated first, then counted per user, errors in Fastify's
 * shape with the suite's codes.
 */
export async function restScope (fastify: FastifyInstance, realtime: Realtime, routes: (scope: RestScope) => void): Promise<void> {
  await fastify.register(async (scope) => {
    scope.addHook('onRequest', async (request) => {
      const identity = await realtime.access.identify(bearerToken(request.headers.authorization), request)
      if (identity === null) throw new RealtimeError('RT_UNAUTHENTICATED')
      identities.set(request, identity)
    })
    scope.setErrorHandler(async (error: Error & { validation?: unknown, statusCode?: number, code?: string }, request, reply) => {
      // Fastify's own answers (validation, body too large, media type …) are the client's business and stand as they are.
      if (error.validation !== undefined || (error.code?.startsWith('FST_') === true && (error.statusCode ?? 500) < 500)) throw error
      const known = toRealtimeError(error)
      if (known.code === 'RT_INTERNAL') request.log.error({ err: error }, 'request failed')
      if (known.retryAfter !== undefined) reply.header('retry-after', known.retryAfter)
      throw known
    })
    await scope.register(rateLimit, {
      store: realtime.rates.store,
      max: realtime.settings.requestsPerMinute === 0 ? Number.MAX_SAFE_INTEGER : realtime.settings.requestsPerMinute,
      timeWindow: 60_000,
      keyGenerator: (request) => rateKey('rest', callerOf(request).identity),
      errorResponseBuilder: (_request, { ttl }) => rateLimited(ttl),
      // Redis away: better unlimited for a moment than closed.
      skipOnError: true
    })
    routes(scope.withTypeProvider<TypeBoxProvider>())
  }, { prefix: realtime.settings.prefix })
}

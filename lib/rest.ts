import rateLimit, { type RateLimitOptions } from '@fastify/rate-limit'
import type {
  FastifyBaseLogger, FastifyInstance, FastifyReply, FastifyRequest, FastifyTypeProvider, RawReplyDefaultExpression, RawRequestDefaultExpression, RawServerDefault,
  onRequestHookHandler
} from 'fastify'
import type { Static, TSchema } from '@sinclair/typebox'
import { bearerToken } from './access.js'
import type { Realtime } from './core.js'
import { RealtimeError, toRealtimeError } from './errors.js'
import { isPromise, type Maybe } from './maybe.js'
import type { Caller, Identity } from './identity.js'
import { rateLimited, type Rate } from './limits.js'

/** TypeBox schemas as types of params, query, body and replies. */
export interface TypeBoxProvider extends FastifyTypeProvider {
  validator: this['schema'] extends TSchema ? Static<this['schema']> : unknown
  serializer: this['schema'] extends TSchema ? Static<this['schema']> : unknown
}

/** A Fastify scope whose routes are typed by their TypeBox schemas. */
export type RestScope = FastifyInstance<RawServerDefault, RawRequestDefaultExpression, RawReplyDefaultExpression, FastifyBaseLogger, TypeBoxProvider>

const caller = Symbol('caller')

declare module 'fastify' {
  interface FastifyRequest {
    /** Set by the hook of {@link restScope}. */
    [caller]: Caller | null
  }
}

/** Who sent this request; only inside a scope made by {@link restScope}, after its onRequest hook. */
export function callerOf (request: FastifyRequest): Caller {
  const known = request[caller]
  if (known === null) throw new RealtimeError('RT_UNAUTHENTICATED')
  return known
}

/** The key under which a user's signs of one kind are counted. */
export const rateKey = (kind: string, { tenantId, userId }: Identity): string => `${kind}:${tenantId}/${userId}`

/** A route's config where its requests are counted by themselves, together with the frames that say the same. */
export const ownRate = (kind: string, { max, window }: Rate): { rateLimit: RateLimitOptions } => ({
  rateLimit: { max: most(max), timeWindow: window, keyGenerator: (request) => rateKey(kind, callerOf(request).identity) }
})

const most = (max: number): number => max === 0 ? Number.MAX_SAFE_INTEGER : max

/** Answers with JSON that is encoded already; the route's schema then only describes it. */
export function sendJson (reply: Pick<FastifyReply, 'header' | 'send'>, json: Maybe<Buffer>): void {
  const send = (bytes: Buffer): void => {
    reply.header('content-type', 'application/json; charset=utf-8')
    reply.send(bytes)
  }
  if (isPromise(json)) json.then(send, (err: unknown) => { reply.send(err) })
  else send(json)
}

/**
 * Registers a plugin's routes under the common prefix: authenticated first, then counted per user, errors in Fastify's
 * shape with the suite's codes.
 */
export async function restScope (fastify: FastifyInstance, realtime: Realtime, routes: (scope: RestScope) => void): Promise<void> {
  await fastify.register(async (scope) => {
    scope.decorateRequest(caller, null)
    scope.addHook('onRequest', authenticated(realtime))
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
      max: most(realtime.settings.requestsPerMinute),
      timeWindow: 60_000,
      keyGenerator: (request) => rateKey('rest', callerOf(request).identity),
      errorResponseBuilder: (_request, { ttl }) => rateLimited(ttl),
      // Redis away: better unlimited for a moment than closed.
      skipOnError: true
    })
    routes(scope.withTypeProvider<TypeBoxProvider>())
  }, { prefix: realtime.settings.prefix })
}

/** Calls back instead of answering a promise: hosts mostly know a token at once, and the turns of a promise would cost more. */
function authenticated (realtime: Realtime): onRequestHookHandler {
  const enter = (request: FastifyRequest, identity: Identity | null, owner: object): void => {
    if (identity === null) throw new RealtimeError('RT_UNAUTHENTICATED')
    request[caller] = { identity, connectionId: null, owner }
  }
  return (request, reply, done) => {
    const identity = realtime.access.identify(bearerToken(request.headers.authorization), request, reply.raw)
    if (isPromise(identity)) {
      identity.then((identity) => { enter(request, identity, reply.raw) }).then(() => { done() }, done)
      return
    }
    enter(request, identity, reply.raw)
    done()
  }
}

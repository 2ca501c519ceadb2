import rateLimit, { type RateLimitOptions } from '@fastify/rate-limit'
import type { FastifyContextConfig, FastifyInstance, FastifyReply, FastifyRequest, RouteShorthandOptions, onRequestHookHandler } from 'fastify'
import { bearerToken } from '../access/access.js'
import { rateLimited } from '../access/rate-counters.js'
import { isPromise, type MaybePromise } from '../async/maybe-promise.js'
import { RealtimeError, toRealtimeError } from '../errors.js'
import type { UserRate } from '../frame-router.js'
import { withIds } from '../id-schemas.js'
import type { Caller, Identity } from '../identity.js'
import type { IdKind } from '../ids.js'
import type { Internals } from '../internals.js'
import { rateKey } from '../keys.js'
import { assertWellFormed } from '../wire/well-formed.js'
import { ownScope, sendText } from './own-scope.js'
import type { TypeBoxProvider, RestScope } from './typebox-provider.js'

const caller = Symbol('caller')

declare module 'fastify' {
  interface FastifyRequest {
    /** Set by the hook of {@link restScope}. */
    [caller]: Caller | null
  }

  interface FastifyContextConfig {
    /** Set on the routes of fastify-realtime only, so that a host's hooks can recognise them. Contains the rate of the route, if any. */
    realtime?: { rate?: RateLimitOptions | false }
  }
}

/** The caller of a request. Only inside a scope of {@link restScope}, after its onRequest hook. */
export function callerOf (request: FastifyRequest): Caller {
  const known = request[caller]
  if (known === null) throw new RealtimeError('RT_UNAUTHENTICATED')
  return known
}

/** The config of a route with its own rate, shared with the frames of the same kind. */
export const ownRate = (rate: UserRate): FastifyContextConfig => ({ realtime: { rate: limitBy(rate) } })

const limitBy = ({ kind, max, window }: UserRate): RateLimitOptions | false => max === 0
  ? false
  : { max, timeWindow: window, keyGenerator: (request) => rateKey(kind, callerOf(request).identity) }

/** Sends encoded JSON; the route's schema only documents it. Synchronous if it is cached (bench row "REST: online list"). */
export function sendJson (reply: Pick<FastifyReply, 'header' | 'send'>, json: MaybePromise<Buffer>): void {
  if (isPromise(json)) json.then((bytes) => { sendText(reply, bytes) }, (err: unknown) => { reply.send(err) })
  else sendText(reply, json)
}

/**
 * Registers a plugin's routes under the common prefix. Requests are authenticated first, then counted per user. Errors have
 * Fastify's shape, with codes of {@link RealtimeError}. The scope is independent of the host's settings. `before`: the routes
 * have limits of their own, which this hook applies before the caller is authenticated.
 */
export async function restScope (
  fastify: FastifyInstance, internals: Internals, routes: (scope: RestScope) => void, before?: onRequestHookHandler
): Promise<void> {
  const general = before === undefined && limitBy({ kind: 'rest', max: internals.settings.requestsPerMinute, window: 60_000 })
  // A host that validates with another library also documents its routes with it; these routes are documented by their schemas.
  const describesItself = fastify.validatorCompiler === undefined ? {} : { swaggerTransform: false }
  await ownScope(fastify, internals.settings.prefix, async (scope) => {
    scope.decorateRequest(caller, null)
    if (before !== undefined) scope.addHook('onRequest', before)
    scope.addHook('onRequest', authenticated(internals))
    // After the hook of the host's limiter, which skipped these routes, and before the hook of the limiter below.
    scope.addHook('onRoute', (route) => {
      route.config = { ...route.config, rateLimit: route.config?.realtime?.rate ?? false }
    })
    if (before === undefined) await scope.register(rateLimit, {
      store: internals.rates.store,
      errorResponseBuilder: (_request, { ttl }) => rateLimited(ttl),
      // While Redis is unavailable, requests are not limited.
      skipOnError: true
    })
    routes(withConfig(scope.withTypeProvider<TypeBoxProvider>(), (config) => {
      const rate = config.realtime?.rate ?? general
      return { ...describesItself, ...config, realtime: { rate }, ...rate === false ? {} : { rateLimit: false } }
    }, internals.ids.kind))
  })
}

type Config = Pick<FastifyContextConfig, 'realtime'> & Record<string, unknown>
type Handler = (request: FastifyRequest, reply: FastifyReply) => unknown

/**
 * The scope, with a config that routes have from their registration, when a limiter of the host reads it. Their schemas validate
 * and document ids of this kind, and their handlers are wrapped with {@link answering}.
 */
function withConfig (scope: RestScope, configOf: (config: Config) => Config, ids: IdKind): RestScope {
  const own = Object.create(scope) as Record<string, unknown>
  for (const method of ['get', 'post', 'put', 'patch', 'delete'] as const) {
    const register = scope[method].bind(scope) as unknown as (path: string, options: RouteShorthandOptions, handler: Handler) => unknown
    own[method] = (path: string, options: RouteShorthandOptions, handler: Handler) => {
      const route = { ...options, ...options.schema === undefined ? {} : { schema: withIds(options.schema, ids) }, config: configOf({ ...options.config }) }
      register(path, route, answering(handler))
      const parameter = /:(\w+)$/.exec(path)?.[1]
      if (parameter !== undefined) register(path.replace(/:\w+$/, '*'), ofAnyLength(route, parameter), answering(handler))
      return own
    }
  }
  return own as unknown as RestScope
}

/**
 * The same route for parameters longer than the router takes (`maxParamLength`, an option of the host, 100 by default): the schema limits them.
 */
const ofAnyLength = (route: RouteShorthandOptions, name: string): RouteShorthandOptions => ({
  ...route,
  schema: Object.assign({ ...route.schema }, { hide: true }),
  preValidation: (request, _reply, done) => {
    request.params = { [name]: (request.params as { '*': string })['*'] }
    done()
  }
})

/**
 * Sends the result of a handler as JSON, and its failure as an error that a client may see. After this, an error that is not a
 * RealtimeError comes from a hook of the host.
 */
function answering (handler: Handler): (request: FastifyRequest, reply: FastifyReply) => void {
  return (request, reply) => {
    const failed = (err: unknown): void => {
      const known = toRealtimeError(err)
      if (known !== err) request.log.error({ err }, 'Request failed')
      reply.send(known)
    }
    const answer = (value: unknown): void => {
      try {
        if (value !== undefined) sendText(reply, JSON.stringify(value))
      } catch (err) {
        failed(err)
      }
    }
    try {
      assertWellFormedInput(request)
      const value = handler(request, reply)
      // Avoids the promises that Fastify creates for async handlers (REST bench rows).
      if (isPromise(value)) value.then(answer, failed)
      else answer(value)
    } catch (err) {
      failed(err)
    }
  }
}

function assertWellFormedInput ({ raw: { url }, params, query, body }: FastifyRequest): void {
  // Only what is percent-encoded can be ill-formed.
  if (url?.includes('%') === true) for (const part of [params, query]) assertWellFormed(part)
  assertWellFormed(body)
}

/** Calls back instead of returning a promise, because most hosts authenticate synchronously (REST bench rows). */
function authenticated (internals: Internals): onRequestHookHandler {
  const enter = (request: FastifyRequest, identity: Identity | null, owner: object): void => {
    if (identity === null) throw new RealtimeError('RT_UNAUTHENTICATED')
    request[caller] = { identity, connectionId: null, owner }
  }
  return (request, reply, done) => {
    const identity = internals.access.identify(bearerToken(request.headers.authorization), request, reply.raw)
    if (isPromise(identity)) {
      identity.then((identity) => { enter(request, identity, reply.raw) }).then(() => { done() }, done)
      return
    }
    enter(request, identity, reply.raw)
    done()
  }
}

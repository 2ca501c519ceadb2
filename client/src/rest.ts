import { ClientError, toClientError, type ClientErrorCode } from './errors.js'
import { globals, type ResponseLike } from './globals.js'
import { TIMEOUT } from './limits.js'
import { encode, type Carrier } from './link.js'
import type { Scope } from './scope.js'
import type { Core } from './state.js'
import { isTokenRefused } from './verdicts.js'

/** The REST routes of fastify-realtime. */
export interface Rest {
  /** Throws `RT_URL_INVALID`. */
  url (path: string): string
  /** Resolves with the response before its body has arrived. It is aborted when the scope ends. */
  open (scope: Scope, token: string | undefined, path: string, body?: object, method?: string): Promise<ResponseLike>
  /** Resolves with the parsed response. Rejects with the server's code, or `RT_SERVER_UNREACHABLE`. */
  ask (scope: Scope, token: string | undefined, path: string, body?: object, method?: string): Promise<unknown>
  /** The same with the current token. If it is refused, the request is repeated with a new one. */
  call (scope: Scope, path: string, body?: object, method?: string): Promise<unknown>
  /** The same for a GET with a query. */
  get (scope: Scope, path: string, query: object): Promise<unknown>
  /** Sends frames as requests, with the same names and acks. */
  byRest (scope: Scope): Carrier
  /** Sends any frame over the link; without one by REST, if there is a route for it. */
  readonly request: Carrier
}

/** Frames that can be sent as requests, without a socket. */
const routes: Readonly<Record<string, string>> = {
  'message:direct': '/messages/direct',
  'message:group': '/messages/group',
  'broadcast:message': '/broadcast',
  'notification:send': '/notifications',
  'conversation:read': '/conversations/read',
  // The id of the message follows.
  'message:edit': '/messages/ PATCH',
  'message:delete': '/messages/ DELETE',
  'user:typing': '/typing',
  'user:presence': '/presence/update'
}
/** Error codes for responses that are not fastify-realtime's: refusals of the host or a proxy. */
const codes: Readonly<Record<number, ClientErrorCode>> = {
  401: 'RT_UNAUTHENTICATED', 429: 'RT_RATE_LIMITED'
}

export function createRest (core: Core): Rest {
  // The global `fetch` of a browser must not be called as a method.
  const { fetch } = core

  return {
    url: (path) => {
      try {
        const { URL, location } = globals
        const href = URL ? new URL(core.baseUrl, location?.href).href : core.baseUrl
        if (/^https?:/.test(href)) return href.replace(/\/+$/, '') + path
      } catch {}
      throw new ClientError('RT_URL_INVALID', core.baseUrl)
    },
    open: async (scope, token, path, body, method) => {
      scope.check()
      const abort = globals.AbortController && new globals.AbortController()
      const text = body && encode(body, Infinity)
      scope.onEnd(() => { abort?.abort() })
      return fetch(core.url(path), {
        headers: {
          ...(token && { authorization: `Bearer ${token}` }),
          ...(text && { 'content-type': 'application/json' })
        },
        signal: abort?.signal,
        method: method ?? (text && 'POST'),
        body: text,
        // Requests of a page that is being closed must still be sent. Browsers allow 64 KiB for all of them.
        keepalive: Number(text?.length) < 8192
      })
    },
    ask: async (scope, ...request) => {
      const own = scope.child()
      try {
        return await own.guard(answer(core.open(own, ...request)), TIMEOUT, 'RT_SERVER_UNREACHABLE')
      } catch (err) {
        throw toClientError(err)
      } finally {
        own.end()
      }
    },
    call: async (scope, ...request) => {
      let token = core.current ?? await core.freshToken(scope)
      try {
        return await core.ask(scope, token, ...request)
      } catch (err) {
        if (!token || !isTokenRefused(err as ClientError)) throw err
        if (core.current && core.current !== token) token = core.current
        else {
          core.refused = token
          token = await core.freshToken(scope)
          // Queued sends use it only when its user is known.
          if (!core.run.ended) await core.register(core.run, token)
        }
        return core.ask(scope, token, ...request)
      }
    },
    get: (scope, path, query) => core.call(scope, `${path}?${Object.entries(snake(query)).filter(([, value]) => value !== undefined)
      .map(([name, value]) => `${name}=${encodeURIComponent(value as string)}`).join('&')}`),
    request: async (event, data = {}, onAck) => {
      core.run.check()
      return await (core.link?.request ?? core.byRest(core.user))(event, data, onAck)
    },
    byRest: (scope) => async (event, data, onAck) => {
      const [path, method] = routes[event]?.split(' ') ?? []
      if (!path) throw new ClientError('RT_SOCKET_CLOSED', event)
      const answer = await core.call(scope, method ? path + (data as { messageId: number }).messageId : path, snake(data), method)
      const ack = rename((answer as { data: object }).data, /_./g, (letter) => letter[1]!.toUpperCase())
      onAck?.(ack)
      return ack
    }
  }
}

/** The parsed response of fastify-realtime, or the error for any other response. */
async function answer (fetched: Promise<ResponseLike>): Promise<unknown> {
  const response = await fetched
  const { ok, status, headers } = response
  const answer = await response.json().catch(() => {}) as { code?: ClientErrorCode, message?: string, outcome?: 'none' | 'unknown' } | undefined
  if (ok && answer) return answer
  const { code, message = `status ${status}`, outcome } = answer ?? {}
  // Any other 400 may be a proxy's, and pass.
  const isInvalid = /^FST_ERR_[VC]/.test(code!)
  throw new ClientError(/^RT_/.test(code!) ? code! : isInvalid ? 'RT_INVALID_DATA' : codes[status] ?? 'RT_SERVER_UNREACHABLE', message, {
    status, outcome, retryAfter: Number(headers.get('retry-after'))
  })
}

/** The names of REST. */
const snake = (data: object): object => rename(data, /[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)

const rename = (data: object, letters: RegExp, to: (letter: string) => string): object => {
  const renamed: Record<string, unknown> = {}
  for (const [key, value] of Object.entries(data)) renamed[key.replace(letters, to)] = value
  return renamed
}

import { ClientError, toClientError, type ClientErrorCode } from './errors.js'
import type { Carrier } from './link.js'

export type Fetch = (url: string, init: RequestInit) => Promise<Response>

/** A text, or what is asked for a new one each time. */
export type TokenSource = string | (() => string | Promise<string>)

/** The suite's REST routes, and the credentials that sockets and requests share. */
export interface Rest {
  /** Who `connect` said it is. */
  userId?: number
  /** The server has said no to this one: it is not shown again. */
  refused?: string | undefined
  /** A new token, so that a client that slept does not come with an old one; undefined: none. Rejects with `RT_TOKEN_FAILED`. */
  fresh (): Promise<string | undefined>
  /** The last one was no good. */
  refuse (): void
  /** Throws `RT_URL_INVALID`. */
  url (path: string): string
  /** A request's answer. Rejects with the server's code, or `RT_SERVER_UNREACHABLE`. */
  call (path: string, body?: object): Promise<unknown>
  /** A frame by way of a request: the same names, the same answer. */
  readonly request: Carrier
}

/** Frames that are also requests, for where there is no socket. */
const routes: Record<string, string> = {
  'message:direct': '/messages/direct',
  'message:group': '/messages/group',
  'broadcast:message': '/broadcast',
  'notification:send': '/notifications',
  'user:typing': '/typing',
  'user:presence': '/presence/update'
}
const TIMEOUT = 15_000

export function createRest (baseUrl: string, source: TokenSource | undefined, fetch: Fetch): Rest {
  let token: string | undefined

  const rest: Rest = {
    fresh: async () => {
      try {
        token = typeof source === 'function' ? await source() : source
        if (source && !token) throw new ClientError('RT_TOKEN_FAILED')
      } catch (err) {
        throw toClientError(err, 'RT_TOKEN_FAILED')
      }
      return token
    },
    refuse: () => { rest.refused = token },
    url: (path) => {
      try {
        const { href } = new URL(baseUrl, (globalThis as { location?: { href: string } }).location?.href)
        if (href.startsWith('http')) return href.replace(/\/*$/, path)
      } catch {}
      throw new ClientError('RT_URL_INVALID', baseUrl)
    },
    call: async (path, body) => {
      const headers = new Headers()
      if (token ?? await rest.fresh()) headers.set('authorization', `Bearer ${token}`)
      if (body) headers.set('content-type', 'application/json')
      const response = await fetch(rest.url(path), {
        headers,
        signal: AbortSignal.timeout(TIMEOUT),
        // They may be the last words of a page that is being closed.
        ...(body && { method: 'POST', body: JSON.stringify(body), keepalive: true })
      }).catch((err: unknown) => { throw toClientError(err) })
      const answer: unknown = await response.json().catch(() => null)
      if (response.ok && answer) return answer
      throw refusal(response, answer)
    },
    request: async (event, data) => {
      const path = routes[event]
      if (!path) throw new ClientError('RT_SOCKET_CLOSED')
      const { data: answer } = await rest.call(path, rename(data, /[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)) as { data: object }
      return rename(answer, /_./g, (letter) => letter.slice(1).toUpperCase())
    }
  }
  return rest
}

const rename = (data: object, letters: RegExp, to: (letter: string) => string): object =>
  Object.fromEntries(Object.entries(data).map(([key, value]) => [key.replace(letters, to), value as unknown]))

function refusal ({ status, headers }: Response, answer: unknown): ClientError {
  const { code, message } = (answer ?? {}) as { code?: string, message?: string }
  // Fastify's own refusal of a body says the same as the socket's.
  const known = code?.startsWith('RT_') ? code as ClientErrorCode : status === 400 ? 'RT_INVALID_DATA' : 'RT_SERVER_UNREACHABLE'
  return new ClientError(known, message ?? `status ${status}`, { retryAfter: Number(headers.get('retry-after')) || undefined })
}

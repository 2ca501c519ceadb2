import { ClientError, toClientError, type ClientErrorCode } from './errors.js'
import type { Tokens } from './tokens.js'

export type Fetch = (url: string, init: RequestInit) => Promise<Response>

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

/** The suite's REST routes, with the client's token. */
export class Rest {
  readonly #baseUrl: string
  readonly #tokens: Tokens
  readonly #fetch: Fetch

  constructor (baseUrl: string, tokens: Tokens, fetch: Fetch) {
    this.#baseUrl = baseUrl
    this.#tokens = tokens
    this.#fetch = fetch
  }

  /** Throws `RT_URL_INVALID`. */
  get socketUrl (): string {
    return this.#url('/ws').replace(/^http/, 'ws')
  }

  /** A request's answer. Rejects with the server's code, or `RT_SERVER_UNREACHABLE`. */
  async call (path: string, body?: object, { renew = true } = {}): Promise<unknown> {
    const { current } = this.#tokens
    const init: RequestInit = { method: body === undefined ? 'GET' : 'POST', headers: {}, signal: AbortSignal.timeout(TIMEOUT) }
    const headers: Record<string, string> = current === undefined ? {} : { authorization: `Bearer ${current}` }
    if (body !== undefined) {
      headers['content-type'] = 'application/json'
      init.body = JSON.stringify(body)
      // The last words of a page that is being closed.
      init.keepalive = true
    }
    const response = await this.#fetch(this.#url(path), { ...init, headers }).catch((err: unknown) => { throw toClientError(err) })
    const answer: unknown = await response.json().catch(() => null)
    if (response.ok && answer !== null) return answer
    if (response.status === 401 && renew && !this.#tokens.isFixed) {
      await this.#tokens.fresh()
      if (this.#tokens.current !== current) return await this.call(path, body, { renew: false })
    }
    throw refusal(response, answer)
  }

  /** Relative to the page, where there is one. */
  #url (path: string): string {
    const { location } = globalThis as { location?: { href: string } }
    try {
      const { href, protocol } = new URL(this.#baseUrl, location?.href)
      if (protocol === 'http:' || protocol === 'https:') return href.replace(/\/*$/, '') + path
    } catch {}
    throw new ClientError('RT_URL_INVALID', `baseUrl cannot be used here: ${this.#baseUrl}`)
  }

  /** A frame by way of a request: the same names, the same answer. */
  async send (event: string, data: object): Promise<unknown> {
    const path = routes[event]
    if (path === undefined) throw new ClientError('RT_SOCKET_CLOSED', `${event} needs a socket`)
    const { data: answer } = await this.call(path, rename(data, (key) => key.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`))) as { data: object }
    return rename(answer, (key) => key.replace(/_(.)/g, (_, letter: string) => letter.toUpperCase()))
  }
}

const rename = (data: object, to: (key: string) => string): object =>
  Object.fromEntries(Object.entries(data).map(([key, value]) => [to(key), value as unknown]))

function refusal ({ status, headers }: Response, answer: unknown): ClientError {
  const { code, message } = (answer ?? {}) as { code?: ClientErrorCode, message?: string }
  const retryAfter = Number(headers.get('retry-after') ?? NaN)
  const details = Number.isFinite(retryAfter) ? { retryAfter } : {}
  if (code?.startsWith('RT_') === true) return new ClientError(code, message ?? code, details)
  if (status === 400) return new ClientError('RT_INVALID_DATA', message ?? 'Not valid')
  return new ClientError('RT_SERVER_UNREACHABLE', `What answered is not the suite: status ${status}`, details)
}

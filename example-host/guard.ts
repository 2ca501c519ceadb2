import type { FastifyInstance, FastifyRequest, onRequestAsyncHookHandler } from 'fastify'
import { RealtimeError, type Identity } from '../plugins/index.js'

const GUARDED = new Set(['/dashboard.html', '/dashboard.js', '/chart.js', '/operators.js', '/dashboard.css'])
const DOCUMENTS = '/docs'

const isGuarded = (url: string): boolean => GUARDED.has(url) || url === DOCUMENTS || url.startsWith(`${DOCUMENTS}/`)

/**
 * In production the dashboard and the documents are for operators: they need a token with the claim `admin`, as a bearer token or
 * as the password that a browser asks for. Call it before their routes are registered: no other route gets the hook.
 */
export function guard (app: FastifyInstance): void {
  const forOperators: onRequestAsyncHookHandler = async (request, reply) => {
    const identity: Identity | null = await app.realtime.access.identify(tokenOf(request), request)
    if (identity === null) {
      void reply.header('www-authenticate', 'Basic realm="operators: the token is the password"')
      throw new RealtimeError('RT_UNAUTHENTICATED')
    }
    if (!(identity.claims as { admin: boolean }).admin) throw new RealtimeError('RT_FORBIDDEN')
  }
  app.addHook('onRoute', (route) => {
    if (isGuarded(route.url)) route.onRequest = [forOperators, ...[route.onRequest ?? []].flat()]
  })
}

function tokenOf ({ headers: { authorization = '' } }: FastifyRequest): string | undefined {
  const [, scheme = '', credentials = ''] = /^(bearer|basic) +(\S+)$/i.exec(authorization) ?? []
  if (scheme.toLowerCase() === 'bearer') return credentials
  return scheme === '' ? undefined : Buffer.from(credentials, 'base64').toString().replace(/^[^:]*:/, '')
}

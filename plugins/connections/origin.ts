import type { FastifyRequest } from 'fastify'

/**
 * A page of another site must not open a socket with this user's cookies, so the Origin is compared whole: with the
 * host's own, or with one the host listed. What sends no Origin is no browser, and carries no one's cookies by itself.
 */
export function isAllowedOrigin (request: FastifyRequest, allowed: readonly string[]): boolean {
  const { origin } = request.headers
  if (origin === undefined) return true
  if (allowed.includes(origin)) return true
  return origin === `${request.protocol}://${request.host}`
}

import type { FastifyRequest } from 'fastify'
import { OptionError } from '../../lib/errors.js'

/** `scheme://host[:port]` with any scheme: native shells and extensions have their own. */
const ORIGIN = /^([a-z][a-z0-9+.-]*):\/\/[^/?#@*\\\s]+$/i

/** The HTTP schemes of WebSocket schemes, which some proxies send in X-Forwarded-Proto. */
const HTTP: Record<string, string> = { ws: 'http', wss: 'https' }

/**
 * Normalises an origin as browsers do: lower case, without the default port, international names in ASCII. Null if it is not an
 * origin.
 */
export function canonicalOrigin (text: string): string | null {
  const scheme = ORIGIN.exec(text)?.[1]?.toLowerCase()
  if (scheme === undefined) return null
  const url = (HTTP[scheme] ?? scheme) + text.slice(scheme.length)
  if (!/^https?:/.test(url)) return url.toLowerCase()
  return URL.canParse(url) ? new URL(url).origin : null
}

/** The normalised `allowedOrigins` of a host. Throws an {@link OptionError} that names an invalid one. */
export function readOrigins (allowed: readonly string[]): ReadonlySet<string> {
  return new Set(allowed.map((text, i) => {
    const origin = text === 'null' ? text : canonicalOrigin(text)
    if (origin !== null) return origin
    throw new OptionError(`allowedOrigins.${i}`,
      `is ${JSON.stringify(text)}: list exact origins, scheme://host[:port] without a path or "*", such as https://app.example.com or capacitor://localhost`)
  }))
}

/**
 * A page of another site must not open a socket with this user's cookies. So the whole Origin must equal the host's own, or an
 * allowed one. A client without an Origin is not a browser, and does not send cookies automatically.
 */
export function isAllowedOrigin (request: FastifyRequest, allowed: ReadonlySet<string>): boolean {
  const { origin } = request.headers
  if (origin === undefined || allowed.has(origin)) return true
  const known = canonicalOrigin(origin)
  return known !== null && (allowed.has(known) || known === canonicalOrigin(`${request.protocol}://${request.host}`))
}

import type { ClientError } from './errors.js'

/**
 * What the client does about codes, of errors and of closes. The one place where they are weighed:
 *
 * | close | meaning | the client |
 * |---|---|---|
 * | 1009 | a frame was too big | gives up that frame, or stays away |
 * | 1012 | the node restarts | comes back |
 * | 1013 | overloaded | comes back later |
 * | 4000 | disconnected by request | stays away |
 * | 4001 | another connection took its place | stays away |
 * | 4008 | too slow | comes back |
 * | 4400 | too many invalid frames | stays away |
 * | 4401 | not authenticated, too late, expired, revoked | comes back with another token |
 * | 4403 | the origin is not allowed, or the user is banned | stays away |
 * | 4429 | floods | comes back later |
 * | any other | the line is lost | comes back |
 */
const says = (codes: RegExp) => ({ code, closeCode }: ClientError): boolean => codes.test(`${code} ${closeCode}`)

/** Another try would end the same way. */
export const isFinal = says(/1009|400[01]|440[03]|URL|MISMATCH|FORBIDDEN|BANNED|_INVALID_|TAKEN/)

/** Not before 5 s, unless the server said when. */
export const isLater = says(/1013|4429|LIMIT/)

/** The server looked at the credentials and said no. */
export const isTokenRefused = says(/UNAUTH|TOKEN_[ER]/)

/** Of a subscription, a watch or a send: the answer stays the same however often it is asked. */
export const isRefusal = says(/FORBIDDEN|BANNED|MISMATCH|_INVALID_|REJECTED|FOUND|EXCEEDED/)

/** Of a send: it may work a moment later. */
export const isPassing = says(/RATE_|_UNAVAILABLE|INTERNAL|UNREACHABLE|TOKEN_|UNAUTH/)

/** Milliseconds that the server asked for, at most ten minutes: nobody is kept away for ever by one number. */
export const leastDelay = ({ retryAfter }: ClientError): number => Math.min(Number(retryAfter) || 0, 600) * 1000

/** Milliseconds until the next of several tries: doubled from a second to half a minute, and never before the server said. */
export const retryDelay = (tries: number, err: ClientError, random: number): number =>
  Math.max(leastDelay(err), Math.min(2 ** tries, 30) * 1000) * (1 + random / 4)

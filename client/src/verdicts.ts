import type { ClientError } from './errors.js'

/**
 * The client's reactions to errors and closes, by their codes. The rules for close codes follow the server's table, with which
 * a test compares them:
 *
 * | close | meaning | the client |
 * |---|---|---|
 * | 1009 | a frame was too big | gives up that frame, or stays away |
 * | 1012 | the node restarts | reconnects |
 * | 1013 | overloaded | reconnects later |
 * | 4000 | disconnected by request | stays away |
 * | 4001 | another connection took its place | stays away |
 * | 4008 | too slow | reconnects |
 * | 4400 | too many invalid frames | stays away |
 * | 4401 | not authenticated, too late, expired, revoked | reconnects with another token |
 * | 4403 | the origin is not allowed, or the user is banned | stays away |
 * | 4429 | flooding | reconnects later |
 * | any other | the connection is lost | reconnects |
 */
const says = (codes: RegExp) => ({ code, closeCode }: ClientError): boolean => codes.test(`${code} ${closeCode}`)

/** Another attempt would fail in the same way. */
export const isFinal = says(/1009|400[01]|440[03]|TAKEN|MISMATCH|FORBIDDEN|BANNED|INVALID/)

/** Reconnect after at least 5 s, unless the server sent another delay. */
export const isLater = says(/1013|4429|LIMIT/)

/** The server refused the credentials. */
export const isTokenRefused = says(/UNAUTH|TOKEN_[ER]/)

/** A subscription, a watch or a send is refused permanently. */
export const isRefusal = says(/MISMATCH|FORBIDDEN|BANNED|INVALID|REJECTED|FOUND|EXCEEDED/)

/** A send failed temporarily. */
export const isPassing = says(/RATE_|_UNAVAILABLE|INTERNAL|UNREACHABLE|TOKEN_|UNAUTH/)

/** The delay in milliseconds that the server requested, at most ten minutes. */
export const leastDelay = ({ retryAfter }: ClientError): number => Math.min(Number(retryAfter) || 0, 600) * 1000

/** The delay in milliseconds before the next attempt: doubled from one second to half a minute, and at least what the server requested. */
export const retryDelay = (tries: number, err: ClientError, random: number): number =>
  Math.max(leastDelay(err), Math.min(2 ** tries, 30) * 1000) * (1 + random / 4)

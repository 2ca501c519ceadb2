import { createHash } from 'node:crypto'

/** The largest length of a client's key in its column. */
const MAX_KEY = 98

/**
 * The stored form of a client's key: its hash if it is too long, or if the database could take it for another key because it
 * ignores spaces at the end.
 */
export function clientKey (dedupeId: string): string {
  const plain = dedupeId.length <= MAX_KEY && !dedupeId.endsWith(' ') && dedupeId.isWellFormed()
  return plain ? `c:${dedupeId}` : `h:${createHash('sha256').update(dedupeId).digest('base64url')}`
}

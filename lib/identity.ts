/** Who is calling, as the host's `authenticate` verified it. The tenant is never taken from anywhere else. */
export interface Identity {
  tenantId: number
  userId: number
  name?: string
  /** When the credentials end, in milliseconds since 1970; absent or null: never. */
  expiresAt?: number | null
  /** When the credentials were issued, in milliseconds since 1970 or as a Date; absent: when they were shown. See `access.revoke`. */
  issuedAt?: number | Date | null
  /** Names these credentials (a JWT's `jti`, a session id), so that `access.revoke` can end them. */
  tokenId?: string | null
  /** Whatever the host wants to find again in `authorize`. */
  claims?: unknown
}

/** Who does something, through whichever face: a REST request has no connection, a frame has one. */
export interface Caller {
  identity: Identity
  connectionId: string | null
  /** What waits for host functions: the connection, or the HTTP response. Its places are free when it is gone. */
  owner: object
}

/** Who is calling, as the host's `authenticate` verified it. The tenant is never taken from anywhere else. */
export interface Identity {
  tenantId: number
  userId: number
  name?: string
  /** When the credentials end, in milliseconds since 1970; absent or null: never. */
  expiresAt?: number | null
  /** Whatever the host wants to find again in `authorize`. */
  claims?: unknown
}

/** Who does something, through whichever face: a REST request has no connection, a frame has one. */
export interface Caller {
  identity: Identity
  connectionId: string | null
}
